//! The wire contract, version 1: how a task looks as an AMQP message. `docs/protocol.md` states it with MUST and SHOULD.

mod body;
mod envelope;
mod forward;
mod moves;
mod size;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use moves::{is_broker_note, is_death_note};
pub(crate) use size::header_frame;

pub use body::{BodyError, Encoding, Limits};
pub use envelope::{Envelope, Facts, Unreadable};
pub use forward::{Share, forward, hand_back, share};
pub use moves::{DeadReason, Failure, Outgoing, Reply, ReplyStatus, dead, lease, limited, reply, retry};

use lapin::types::ShortString;

/// The names of Leveret's own headers.
pub mod header {
    /// Task name, for clients that cannot set the property `type`.
    pub const TASK: &str = "leveret-task";
    /// Number of this attempt, from 1. Only Leveret raises it.
    pub const ATTEMPT: &str = "leveret-attempt";
    /// How many attempts there may be; over the handler's own policy.
    pub const MAX_ATTEMPTS: &str = "leveret-max-attempts";
    /// Delays between attempts, such as `30s` or `1s..10m`; over the handler's own policy.
    pub const BACKOFF: &str = "leveret-backoff";
    /// How long after its first failure a task may still be tried, in milliseconds; over the handler's own policy.
    pub const GIVE_UP_AFTER_MS: &str = "leveret-give-up-after-ms";
    /// How long one attempt may run, in milliseconds; over the handler's own policy.
    pub const TIMEOUT_MS: &str = "leveret-timeout-ms";
    /// Not to run before this time, in Unix milliseconds.
    pub const NOT_BEFORE: &str = "leveret-not-before";
    /// Not to run at or after this time, in Unix milliseconds: dead-lettered as `expired`.
    pub const EXPIRES_AT: &str = "leveret-expires-at";
    /// Since when the task has waited for room under a limit, in Unix milliseconds.
    pub const LIMITED_SINCE: &str = "leveret-limited-since";
    /// Affinity: tasks with the same key belong together.
    pub const KEY: &str = "leveret-key";
    /// Tasks of one name with the same text here are the same: only the first is run.
    pub const UNIQUE: &str = "leveret-unique";
    /// How long after the first of them the others are not run, in milliseconds.
    pub const UNIQUE_MS: &str = "leveret-unique-ms";
    /// How the task is given to a worker, over the queue's own way: see [`Route`](crate::route::Route).
    pub const ROUTE: &str = "leveret-route";
    /// How often the task was given to a worker's own queue since its last attempt.
    pub const FORWARDS: &str = "leveret-forwards";
    /// On one share of a broadcast: its number, from 0.
    pub const SHARD_INDEX: &str = "leveret-shard-index";
    /// On one share of a broadcast: how many there are.
    pub const SHARD_TOTAL: &str = "leveret-shard-total";
    /// The schedule that made the task.
    pub const SCHEDULE: &str = "leveret-schedule";
    /// The time of the tick that made the task, in Unix milliseconds.
    pub const SCHEDULED_AT: &str = "leveret-scheduled-at";
    /// The queue a moved message belongs to, whatever its routing key.
    pub const QUEUE: &str = "leveret-queue";
    /// Why a task is dead.
    pub const DEAD_REASON: &str = "leveret-dead-reason";
    /// The text of the last failure, at most 8 KiB.
    pub const ERROR: &str = "leveret-error";
    /// The kind of the last failure: `error`, `panic`, `timeout` and so on.
    pub const ERROR_KIND: &str = "leveret-error-kind";
    /// When the task first failed, in Unix milliseconds.
    pub const FIRST_FAILED_AT: &str = "leveret-first-failed-at";
    /// When the task last failed, in Unix milliseconds.
    pub const FAILED_AT: &str = "leveret-failed-at";
    /// On a moved message: the property `user_id` that its publisher set, which nobody else may claim.
    pub const USER_ID: &str = "leveret-user-id";
    /// The worker that saw the last failure.
    pub const WORKER: &str = "leveret-worker";
    /// On the message of a long task while a worker holds it: which copy of it this is.
    pub const LEASE: &str = "leveret-lease";
    /// On the message of a long task while a worker holds it: how many workers were lost while they held it.
    pub const LOST_LEASES: &str = "leveret-lost-leases";
    /// `always`: what becomes of this task is published as events, whatever its queue's setting.
    pub const TRACK: &str = "leveret-track";
    /// How often the task was brought back from the dead. Only Leveret raises it.
    pub const REPLAYS: &str = "leveret-replays";
    /// Names and values to find the task by: a JSON object of texts, which events repeat.
    pub const LABELS: &str = "leveret-labels";
    /// On a reply: `done`, `dead` or `cancelled`.
    pub const STATUS: &str = "leveret-status";
    /// On a reply: the id of the task that it answers.
    pub const TASK_ID: &str = "leveret-task-id";
}

/// The media type of a body of JSON, the default.
pub const JSON: &str = "application/json";

/// A text from outside as an AMQP short string.
///
/// # Errors
/// [`TooLong`] above 255 bytes, where lapin's own conversion panics.
pub fn short(what: &'static str, text: &str) -> Result<ShortString, TooLong> {
    ShortString::try_new(text).map_err(|_| TooLong { what, bytes: text.len() })
}

/// A text does not fit where AMQP has room for 1 to 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} has {bytes} bytes, AMQP has room for 1 to 255")]
pub struct TooLong {
    /// What the text was to be.
    pub what: &'static str,
    /// Its length in bytes.
    pub bytes: usize,
}
