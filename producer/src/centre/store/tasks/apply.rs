//! What workers tell of tasks.

use std::collections::{BTreeMap, BTreeSet};

use leveret_common::{
    dead_letters::Death,
    event::{EventBatch, Happening, TaskEvent},
    registry::Instance,
    task::TaskId,
};

use super::{Task, life::Life, write::News};
use crate::centre::{
    database::DatabaseError,
    store::{RunEnd, RunEnded, Store, shards},
};

/// What has come of taking note.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The tasks of which something new was learnt, as in a list.
    pub changed: Vec<Task>,
}

/// An event, and who told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The worker, by its name and instance; none when the broker's notes on a dead letter tell it.
    pub worker: Option<(String, Instance)>,
    /// What happened.
    pub event: TaskEvent,
    /// Whether its task is followed from now on if it was not before. If not, this is of interest for a task that is known.
    pub follows: bool,
}

impl Told {
    /// The events of a message.
    pub fn of(batch: EventBatch) -> impl Iterator<Item = Self> {
        let EventBatch { worker, instance, events } = batch;
        events.into_iter().map(move |event| Self::by(&worker, instance, event))
    }

    /// What a worker tells. It tells of what is to be followed.
    pub fn by(worker: &str, instance: Instance, event: TaskEvent) -> Self {
        Self { worker: Some((worker.to_owned(), instance)), event, follows: true }
    }

    /// What the broker has declared dead.
    pub fn death(death: Death) -> Self {
        Self { worker: None, event: death.event, follows: death.tracked }
    }

    /// What it means for a tick, if it means an end.
    fn run_ended(&self) -> Option<RunEnded> {
        let end = match &self.event.what {
            Happening::Done { .. } => RunEnd::Done,
            Happening::Dead { error, .. } => RunEnd::Dead(error.clone()),
            // Neither a success nor a failure.
            Happening::Cancelled { .. } | Happening::Discarded { .. } => RunEnd::Cancelled,
            _ => return None,
        };
        Some(RunEnded { task_id: self.event.id.clone(), end, at: self.event.at })
    }

    /// A sign of life of the task of a tick.
    fn run_heard(&self) -> Option<&TaskId> {
        let lives = matches!(
            self.event.what,
            Happening::Started { .. } | Happening::Progress(_) | Happening::Failed { .. } | Happening::Snoozed { .. }
        );
        (lives && self.event.schedule.is_some()).then_some(&self.event.id)
    }
}

impl Store {
    /// Takes in what is told, all of it in one transaction, and tells the ticks whose tasks run or have ended. The order of
    /// events, by one call or several, at one centre or several, changes nothing of what comes of them; nor does
    /// repetition.
    ///
    /// # Errors
    /// [`DatabaseError`]; nothing is taken in then.
    pub async fn apply<'a>(&self, events: impl IntoIterator<Item = &'a Told>) -> Result<Applied, DatabaseError> {
        // No database takes a zero in a text, and another id would be another task.
        let readable = events.into_iter().filter(|told| !told.event.id.as_str().contains('\0'));
        let events: Vec<_> = readable.collect();
        if events.is_empty() {
            return Ok(Applied::default());
        }
        let lives = events.iter().copied().map(Life::told);
        let news = News::of(lives, self.clock.now())?;
        // In one order, so that two centres never wait for each other.
        let mut runs: Vec<_> = events.iter().filter_map(|told| told.run_ended()).collect();
        runs.sort_by(|a, b| a.task_id.cmp(&b.task_id));
        let ended: BTreeSet<_> = runs.iter().map(|run| &run.task_id).collect();
        let heard: BTreeSet<_> = events.iter().filter_map(|told| told.run_heard()).collect();
        let heard = heard.into_iter().filter(|id| !ended.contains(id));
        // By the centre's clock, which also says when that was too long ago.
        let heard: Vec<_> = heard.map(|id| (id.clone(), self.clock.now())).collect();
        let mut transaction = self.database.begin().await?;
        let ids: Vec<_> = events.iter().map(|told| told.event.id.as_str()).collect();
        shards::lock_of_tasks(self, &mut transaction, &ids).await?;
        let changed = self.write_tasks(&mut transaction, news).await?;
        self.runs_heard(&mut transaction, &heard).await?;
        if !runs.is_empty() {
            self.runs_ended(&mut transaction, &runs).await?;
        }
        transaction.commit().await?;
        if !runs.is_empty() {
            // What waited for them is due now.
            self.wake();
        }
        Ok(Applied { changed })
    }

    /// Whether an event of a task could be written at all. Nothing of it remains.
    pub(crate) async fn takes_events(&self) -> bool {
        let event = TaskEvent {
            id: TaskId::new(),
            task: "probe".to_owned(),
            queue: "probe".to_owned(),
            attempt: 1,
            at: self.clock.now(),
            trace_id: None,
            replays: 0,
            schedule: None,
            scheduled_at: None,
            labels: BTreeMap::new(),
            what: Happening::Started { waited_ms: None },
        };
        let life = Life::told(&Told::by("probe", Instance::new(), event));
        let Ok(news) = News::of(std::iter::once(life), self.clock.now()) else { return false };
        let Ok(mut transaction) = self.database.begin().await else { return false };
        self.write_tasks(&mut transaction, news).await.is_ok()
    }
}
