//! What workers answer.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use serde::{Deserialize, Serialize};

use super::Pause;
use crate::{
    clock::UnixMillis,
    event::Progress,
    limit::{LimitName, Rate, Terms},
    registry::{Announcement, Instance, QueueState, WorkerState},
    task::TaskId,
    topology::QueueName,
    wire::{JSON, Outgoing, short},
};

/// The answer of one worker to one command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The worker's name.
    pub worker: String,
    /// Its instance.
    pub instance: Instance,
    /// What it answers.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whether a command was carried out. As JSON `{"answer": {..}}` or `{"refused": {..}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was.
    Answer(Answer),
    /// It was not.
    Refused(Refusal),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Answer {
    /// It is done, and there is no more to say.
    Ok,
    /// What has been done so far.
    Stats(WorkerStats),
    /// The tasks that run.
    Running {
        /// At most the 1,000 that have run longest.
        tasks: Vec<RunningTask>,
        /// How many there are.
        total: usize,
    },
    /// The limits that the worker keeps to.
    Limits {
        /// In the order of their names.
        limits: Vec<LimitReport>,
    },
    /// All about the worker.
    Announcement(Box<Announcement>),
    /// Tasks were told to stop.
    Cancelled {
        /// How many.
        tasks: usize,
    },
    /// The queue is paused everywhere, so that it stays paused at this worker.
    StillPaused {
        /// Why.
        pause: Pause,
    },
    /// An answer that this version does not know.
    #[serde(other)]
    Other,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What kind of reason.
    pub kind: RefusalKind,
    /// What is wrong and what to do, for people.
    pub text: String,
}

impl Refusal {
    /// A refusal with its text.
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// Kinds of reasons for which a command is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RefusalKind {
    /// The body is no command, or one of its values is out of range.
    Malformed,
    /// This version has no such command.
    UnknownCommand,
    /// Its time was over before it was read.
    Expired,
    /// This worker does not consume from that queue.
    UnknownQueue,
    /// It could not be carried out.
    Failed,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}

/// A task that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningTask {
    /// Its id.
    pub id: TaskId,
    /// Its name.
    pub task: String,
    /// The queue that it came from.
    pub queue: QueueName,
    /// Number of the attempt.
    pub attempt: u32,
    /// When the attempt began.
    pub since: UnixMillis,
    /// How far it is, if its handler has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// A limit, as one worker knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReport {
    /// Its name.
    pub name: LimitName,
    /// The queues whose tasks it is for; all if there is none.
    #[serde(default)]
    pub queues: Vec<QueueName>,
    /// The names of the tasks that it is for; all if there is none.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// Whether each key is counted by itself.
    #[serde(default)]
    pub by_key: bool,
    /// Whether each worker counts by itself.
    #[serde(default)]
    pub per_worker: bool,
    /// How many may run at once, by the worker's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How many may begin in a time, by the worker's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How much it admits now: what it was changed to, or else what the configuration says. Where workers that share it
    /// are configured differently, the strictest holds for all.
    pub in_force: Terms,
    /// Tasks of this worker that it has admitted and that run.
    #[serde(default)]
    pub held: u64,
    /// Tasks of this worker that wait for it.
    #[serde(default)]
    pub waiting: u64,
}

/// What a worker has done since its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStats {
    /// What it is doing.
    pub state: WorkerState,
    /// When it started.
    pub started_at: UnixMillis,
    /// Attempts that ended, by outcome: `done`, `retried`, `snoozed`, `dead`, `discarded`, `cancelled`,
    /// `given_back`.
    pub finished: BTreeMap<String, u64>,
    /// Events that were dropped because they came faster than they could be published.
    #[serde(default)]
    pub events_dropped: u64,
    /// Its queues.
    pub queues: Vec<QueueState>,
}

impl Reply {
    /// The reply as a message to whoever sent `request`, if they asked for one.
    pub fn to_message(&self, request: &BasicProperties) -> Option<Outgoing> {
        let reply_to = request.reply_to().as_ref().filter(|queue| !queue.as_str().is_empty())?;
        let mut properties = BasicProperties::default()
            .with_content_type(short("content type", JSON).ok()?)
            .with_message_id(short("message id", TaskId::new().as_str()).ok()?);
        if let Some(correlation) = request.correlation_id() {
            properties = properties.with_correlation_id(correlation.clone());
        }
        Some(Outgoing {
            exchange: Default::default(),
            routing_key: reply_to.clone(),
            // The asker may have stopped waiting.
            mandatory: false,
            properties,
            body: serde_json::to_vec(self).ok()?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_what_the_contract_shows_and_newer_ones_are_understood() {
        let instance = Instance::new();
        let reply = |outcome| Reply { worker: "mail-1".to_owned(), instance, outcome };
        let done = reply(Outcome::Answer(Answer::Cancelled { tasks: 2 }));
        let wanted = serde_json::json!({
            "worker": "mail-1", "instance": instance, "answer": {"kind": "cancelled", "tasks": 2},
        });
        assert_eq!(serde_json::to_value(&done).unwrap(), wanted);
        let refused = reply(Outcome::Refused(Refusal::new(RefusalKind::Expired, "too late")));
        let text = serde_json::to_string(&refused).unwrap();
        assert!(text.contains(r#""refused":{"kind":"expired","text":"too late"}"#), "{text}");
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), refused);
        let newer = text.replace("\"refused\":{\"kind\":\"expired\"", "\"answer\":{\"kind\":\"danced\"");
        assert_eq!(serde_json::from_str::<Reply>(&newer).unwrap().outcome, Outcome::Answer(Answer::Other));
    }
}
