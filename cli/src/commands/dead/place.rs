//! Where dead letters are looked at: at the broker, or over REST at a centre, where one is named.

use leveret::{
    QueueName, Topology,
    common::{
        dead_letters::{Amended, DeadLetter, DeadLetters, DeadLettersError},
        link::ChannelPool,
    },
    producer::centre::operations::{
        Conditions, Letter, LetterChange, LetterGroup, LetterGroups, Letters, Request, Then, WholeLetter,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

use super::cut;
use crate::{
    api::{Api, ApiError, cell},
    failure::Failure,
    session::Session,
};

/// In the place of a queue: the messages that no queue took.
const LOST: &str = "~lost";
/// The most that a centre counts at once.
const MOST_COUNTED: u64 = 100_000;

/// Who is asked.
#[derive(Debug)]
pub(super) enum Source {
    Broker { pool: ChannelPool, topology: Box<Topology> },
    Centre(Api),
}

/// Dead letters of one queue, or the lost messages.
#[derive(Debug)]
pub(super) enum Place {
    Broker(DeadLetters),
    Centre { api: Api, queue: String },
}

impl Source {
    /// A centre if one is named, else the broker.
    pub(super) async fn open(session: &Session) -> Result<Self, Failure> {
        if let Some(api) = session.centre()? {
            return Ok(Self::Centre(api));
        }
        let settings = session.settings()?;
        let topology = Box::new(settings.topology()?);
        Ok(Self::Broker { pool: session.admin(settings.broker).await?, topology })
    }

    /// The dead letters of a queue, or the lost.
    pub(super) fn place(&self, queue: Option<&QueueName>) -> Result<Place, Failure> {
        Ok(match (self, queue) {
            (Self::Broker { pool, .. }, Some(queue)) => {
                Place::Broker(DeadLetters::of(pool.link().clone(), queue.clone())?)
            }
            (Self::Broker { pool, .. }, None) => Place::Broker(DeadLetters::lost(pool.link().clone())?),
            (Self::Centre(api), queue) => {
                Place::Centre { api: api.clone(), queue: queue.map_or(LOST, QueueName::as_str).to_owned() }
            }
        })
    }

    /// All that are there: of the queues of the configuration, or of those that the centre knows, and the lost.
    pub(super) async fn places(&self) -> Result<Vec<Place>, Failure> {
        let mut places = Vec::new();
        match self {
            Self::Broker { topology, .. } => {
                let queues = topology.work_queues().map(|(queue, _)| Some(queue)).chain([None]);
                for queue in queues {
                    let place = self.place(queue)?;
                    if place.depth().await?.is_some() {
                        places.push(place);
                    }
                }
            }
            Self::Centre(api) => {
                let seen: Value = api.get(&["queues"], &[]).await?;
                let queues = seen["items"].as_array().into_iter().flatten();
                let queues = queues.filter(|queue| !queue["dead"].is_null()).map(|queue| cell(queue, "/queue"));
                let lost = (!seen["lost"].is_null()).then(|| LOST.to_owned());
                places.extend(queues.chain(lost).map(|queue| Place::Centre { api: api.clone(), queue }));
            }
        }
        Ok(places)
    }

    pub(super) async fn close(self) {
        if let Self::Broker { pool, .. } = self {
            pool.link().close().await;
        }
    }
}

impl Place {
    /// The name of the queue that they are in.
    pub(super) fn queue(&self) -> String {
        match self {
            Self::Broker(dead) => dead.queue(),
            Self::Centre { queue, .. } if queue == LOST => "the lost messages".to_owned(),
            Self::Centre { queue, .. } => format!("{queue}.dead"),
        }
    }

    /// How many there are; nothing where there is no such queue.
    async fn depth(&self) -> Result<Option<u64>, Failure> {
        match self {
            Self::Broker(dead) => match dead.depth().await {
                Ok(depth) => Ok(Some(depth)),
                Err(DeadLettersError::NoQueue { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Centre { .. } => Ok(None),
        }
    }

    /// At most `limit` of those that are meant, from the head of the queue on.
    pub(super) async fn letters(
        &self,
        only: &Conditions,
        limit: Option<u64>,
        stop: &CancellationToken,
    ) -> Result<Letters, Failure> {
        let mut letters = Letters { items: Vec::new(), depth: 0, seen: 0 };
        match self {
            Self::Broker(dead) => {
                let selection = only.selection();
                let selection = limit.iter().fold(selection, |selection, limit| selection.limit(*limit));
                let tally = dead.browse(&selection, stop, |letter| letters.items.push(Letter::from(&letter))).await?;
                (letters.depth, letters.seen) = (tally.depth, tally.seen);
            }
            Self::Centre { .. } => {
                for part in self.ask::<Letters>(&[], only, limit).await? {
                    letters.items.extend(part.items);
                    (letters.depth, letters.seen) = (part.depth, part.seen);
                }
            }
        }
        Ok(letters)
    }

    /// How many of those that are meant are alike. A centre counts 100,000 at most.
    pub(super) async fn groups(
        &self,
        only: &Conditions,
        limit: Option<u64>,
        stop: &CancellationToken,
    ) -> Result<LetterGroups, Failure> {
        let mut groups = LetterGroups { items: Vec::new(), depth: 0, seen: 0 };
        match self {
            Self::Broker(dead) => {
                let selection = only.selection();
                let selection = limit.iter().fold(selection, |selection, limit| selection.limit(*limit));
                let mut alike = BTreeMap::new();
                let tally = dead.browse(&selection, stop, |letter| count(&mut alike, &letter)).await?;
                groups = LetterGroups { items: alike.into_values().collect(), depth: tally.depth, seen: tally.seen };
            }
            Self::Centre { .. } => {
                let limit = limit.unwrap_or(MOST_COUNTED).min(MOST_COUNTED);
                for part in self.ask::<LetterGroups>(&["groups"], only, Some(limit)).await? {
                    groups.items.extend(part.items);
                    (groups.depth, groups.seen) = (part.depth, part.seen);
                }
            }
        }
        Ok(groups)
    }

    /// How many are meant, of how many, without changing anything.
    pub(super) async fn count(&self, request: &Request, stop: &CancellationToken) -> Result<(u64, u64), Failure> {
        let groups = self.groups(&request.only, request.limit, stop).await?;
        Ok((groups.items.iter().map(|group| group.count).sum(), groups.depth))
    }

    /// One whole, by its task's id.
    pub(super) async fn whole(&self, id: &str, stop: &CancellationToken) -> Result<Option<WholeLetter>, Failure> {
        match self {
            Self::Broker(dead) => {
                let mut found = None;
                let selection = Conditions { ids: [id.to_owned()].into(), ..Conditions::default() }.selection();
                dead.browse(&selection.limit(1), stop, |letter| found = Some(WholeLetter::from(letter))).await?;
                Ok(found)
            }
            Self::Centre { api, queue } => found(api.get(&["queues", queue, "dead", id], &[]).await),
        }
    }

    /// Puts another in the place of one. `false` when there is none with this id.
    pub(super) async fn amend(
        &self,
        id: &str,
        change: LetterChange,
        stop: &CancellationToken,
    ) -> Result<bool, Failure> {
        match self {
            Self::Broker(dead) => {
                let selection = Conditions { ids: [id.to_owned()].into(), ..Conditions::default() }.selection();
                let then = match change.then {
                    Then::Run => Amended::Runs,
                    Then::Stay => Amended::Stays,
                };
                let tally = dead.amend(&selection.limit(1), &change.amendment()?, then, stop).await?;
                Ok(tally.settled > 0)
            }
            Self::Centre { api, queue } => {
                Ok(found(api.patch::<Value>(&["queues", queue, "dead", id], &change).await)?.is_some())
            }
        }
    }

    /// Asks a centre, which takes one id at a time.
    async fn ask<T: DeserializeOwned>(
        &self,
        more: &[&str],
        only: &Conditions,
        limit: Option<u64>,
    ) -> Result<Vec<T>, Failure> {
        let Self::Centre { api, queue } = self else { return Ok(Vec::new()) };
        let path = [&["queues", queue, "dead"], more].concat();
        let given = [
            ("reason", only.reason.clone()),
            ("task", only.task.clone()),
            ("error", only.error.clone()),
            ("failed_before", only.failed_before.map(|at| at.0.to_string())),
            ("failed_after", only.failed_after.map(|at| at.0.to_string())),
            ("limit", limit.map(|limit| limit.to_string())),
        ];
        let query: Vec<_> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        if only.ids.is_empty() {
            return Ok(vec![api.get(&path, &query).await?]);
        }
        let mut answers = Vec::new();
        for id in &only.ids {
            answers.push(api.get(&path, &[&query[..], &[("id", id.clone())]].concat()).await?);
        }
        Ok(answers)
    }
}

fn found<T>(answer: Result<T, ApiError>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn count(groups: &mut BTreeMap<[String; 3], LetterGroup>, letter: &DeadLetter) {
    let error = cut(letter.error.as_deref().unwrap_or_default(), 200);
    let letter = Letter::from(letter);
    let key = [&letter.task, &letter.reason, &error].map(Clone::clone);
    let group = groups.entry(key).or_insert_with(|| LetterGroup {
        count: 0,
        task: letter.task,
        reason: letter.reason,
        error,
        example: letter.id,
        last_failed_at: None,
    });
    group.count += 1;
    // As RFC 3339 in UTC, the later is the greater.
    group.last_failed_at = group.last_failed_at.take().max(letter.failed_at);
}
