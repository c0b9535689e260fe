//! Tasks: what is known of each, searched and counted.
//!
//! What is learnt of a task comes from the centre that publishes it and from the events of workers, by several centres at
//! once and in any order. So a row is no sequence of changes: it follows from the set of all that was learnt, by number of
//! the attempt and rank of the state, and a thing learnt twice is learnt once. `life.rs` has that calculation.

mod apply;
mod cancel;
mod life;
mod queues;
mod record;
mod retain;
mod search;
mod summary;
mod write;

use std::{collections::BTreeMap, fmt, str::FromStr};

use leveret_common::{clock::UnixMillis, event::Progress, registry::Instance, task::TaskId};
use serde::{Deserialize, Serialize};

pub use apply::{Applied, Told};
pub use cancel::OpenCancel;
pub(crate) use record::labels;
pub use record::{RecordedState, TaskRecord};
pub use retain::TaskRetention;
pub use search::{Cursor, InvalidCursor, Tally, TaskFilter};

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// The centre holds it until it is due.
    Scheduled,
    /// It waits in its queue.
    Published,
    /// An attempt runs.
    Running,
    /// An attempt failed, or put it off; another is to follow.
    Retrying,
    /// It succeeded.
    Done,
    /// It is a dead letter.
    Dead,
    /// It was cancelled.
    Cancelled,
    /// Its handler dropped it.
    Discarded,
}

impl TaskState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Published,
        Self::Running,
        Self::Retrying,
        Self::Done,
        Self::Dead,
        Self::Cancelled,
        Self::Discarded,
    ];

    /// The state in a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Published => "published",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
        }
    }

    /// Whether nothing more comes of it by itself.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Dead | Self::Cancelled | Self::Discarded)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TaskState {
    type Err = InvalidTaskState;
    fn from_str(text: &str) -> Result<Self, InvalidTaskState> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| InvalidTaskState(text.chars().take(80).collect()))
    }
}

/// A text is no state of a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no state of a task: write scheduled, published, running, retrying, done, dead, cancelled or discarded"
)]
pub struct InvalidTaskState(String);

/// What is known of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its namespace; `default` unless the centre that published it, or its schedule, says otherwise.
    pub namespace: String,
    /// Its name; empty for a message that named none.
    pub task: String,
    /// Its queue.
    pub queue: String,
    /// How far it is.
    pub state: TaskState,
    /// Number of the last attempt; 0 before the first.
    pub attempt: u32,
    /// How often it was brought back from the dead.
    pub replays: u32,
    /// The worker of the last attempt.
    pub worker: Option<String>,
    /// And its instance.
    pub instance: Option<Instance>,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// The time of the tick that made it.
    pub scheduled_at: Option<UnixMillis>,
    /// Names and values to find it by.
    pub labels: BTreeMap<String, String>,
    /// The trace that it belongs to, in hexadecimal.
    pub trace_id: Option<String>,
    /// When it was made, as far as that is known.
    pub created_at: UnixMillis,
    /// When it is to run, or to run again, at the earliest.
    pub due_at: Option<UnixMillis>,
    /// When the last attempt began.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// When something new was last learnt of it.
    pub changed_at: UnixMillis,
    /// How long it waited before the last attempt, in milliseconds.
    pub waited_ms: Option<u64>,
    /// How long the last attempt ran, in milliseconds.
    pub ran_ms: Option<u64>,
    /// What the handler last said about how far it is.
    pub progress: Option<Progress>,
    /// The result. Not in a list.
    pub result: Option<serde_json::Value>,
    /// The size in bytes of a result that was too large to be kept.
    pub result_bytes: Option<u64>,
    /// Why it is dead, as in `leveret-dead-reason`.
    pub reason: Option<String>,
    /// What kind of failure the last one was.
    pub error_kind: Option<String>,
    /// What went wrong last, or why it was cancelled, for people; at most 2 KiB.
    pub error: Option<String>,
    /// When it was asked that it be cancelled, until it has ended.
    #[serde(default)]
    pub cancel_requested_at: Option<UnixMillis>,
    /// And why, for people.
    #[serde(default)]
    pub cancel_reason: Option<String>,
    /// The last 16 attempts, the oldest first. Not in a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<TaskAttempt>,
}

/// One attempt at a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskAttempt {
    /// Its number.
    pub attempt: u32,
    /// How often the task had been brought back from the dead by then.
    pub replays: u32,
    /// How it is, or how it ended.
    pub state: TaskState,
    /// The worker.
    pub worker: Option<String>,
    /// And its instance.
    pub instance: Option<Instance>,
    /// When it began.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// How long the task had waited, in milliseconds.
    pub waited_ms: Option<u64>,
    /// How long it ran, in milliseconds.
    pub ran_ms: Option<u64>,
    /// Why it became a dead letter.
    pub reason: Option<String>,
    /// What kind of failure it was.
    pub error_kind: Option<String>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// When the next attempt may begin.
    pub retry_at: Option<UnixMillis>,
}
