//! What can happen to a task, and how it is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{clock::UnixMillis, registry::Instance, task::TaskId, wire::DeadReason};

/// How far a task is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What has been done, in units of the handler's own.
    pub cursor: u64,
    /// What there is to do, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What it is at, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// The task's id.
    pub id: TaskId,
    /// Its name.
    pub task: String,
    /// The queue that it came from.
    pub queue: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// When it happened.
    pub at: UnixMillis,
    /// The trace that the attempt belongs to, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// How often it was brought back from the dead before: attempts count anew each time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replays: u32,
    /// The schedule that made the task, as in `leveret-schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The time of the tick that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<UnixMillis>,
    /// Names and values to find it by, from `leveret-labels`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What happened.
    #[serde(flatten)]
    pub what: Happening,
}

/// What can happen to a task. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Happening {
    /// An attempt began.
    Started {
        /// How long the task waited since it was published or due, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waited_ms: Option<u64>,
    },
    /// Its handler said how far it is.
    Progress(Progress),
    /// It is done.
    Done {
        /// How long the attempt ran.
        ran_ms: u64,
        /// The result, if there is one and it is not left out for its size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<serde_json::Value>,
        /// The size of a result that was left out, as JSON in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result_bytes: Option<u64>,
    },
    /// The attempt failed, and there will be another.
    Failed {
        /// How long the attempt ran.
        ran_ms: u64,
        /// What kind of failure it was, as in `leveret-error-kind`.
        error_kind: String,
        /// What happened, for people.
        error: String,
        /// When it is tried again, at the earliest.
        retry_at: UnixMillis,
    },
    /// It became a dead letter.
    Dead {
        /// How long the attempt ran; none if it was not begun.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ran_ms: Option<u64>,
        /// Why, as in `leveret-dead-reason`.
        reason: DeadReason,
        /// What kind of failure it was.
        error_kind: String,
        /// What happened, for people.
        error: String,
    },
    /// It was cancelled.
    Cancelled {
        /// How long the attempt ran; none if it was not begun.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ran_ms: Option<u64>,
        /// Why, if that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Its handler dropped it.
    Discarded {
        /// How long the attempt ran.
        ran_ms: u64,
        /// Why, if that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Its handler put it off: the same attempt begins again later.
    Snoozed {
        /// How long the attempt ran.
        ran_ms: u64,
        /// When it begins again, at the earliest.
        retry_at: UnixMillis,
    },
}

/// The largest result that an event carries, as JSON in bytes.
pub const LARGEST_RESULT: usize = 64 << 10;
/// The longest error text that an event carries, in bytes.
const LONGEST_ERROR: usize = 8 << 10;

impl Happening {
    pub(super) const KEYS: [&str; 8] = [
        "task.started",
        "task.progress",
        "task.done",
        "task.failed",
        "task.dead",
        "task.cancelled",
        "task.discarded",
        "task.snoozed",
    ];

    /// It is done, with this result; one that is too large is left out.
    pub fn done(ran_ms: u64, result: Option<&serde_json::Value>) -> Self {
        let Some(result) = result.filter(|result| !result.is_null()) else {
            return Self::Done { ran_ms, result: None, result_bytes: None };
        };
        match size(result) {
            ..=LARGEST_RESULT => Self::Done { ran_ms, result: Some(result.clone()), result_bytes: None },
            bytes => Self::Done { ran_ms, result: None, result_bytes: u64::try_from(bytes).ok() },
        }
    }

    /// Leaves the result out, and cuts a long error: what of it may wait, or go into one message, is bounded.
    pub(super) fn lighten(&mut self) {
        if let Self::Done { result, result_bytes, .. } = self
            && let Some(result) = result.take()
        {
            *result_bytes = u64::try_from(size(&result)).ok();
        }
    }

    /// Cuts a long text.
    pub(super) fn cut(&mut self) {
        let text = match self {
            Self::Failed { error, .. } | Self::Dead { error, .. } => error,
            Self::Cancelled { reason: Some(reason), .. } | Self::Discarded { reason: Some(reason), .. } => reason,
            Self::Progress(Progress { note: Some(note), .. }) => note,
            _ => return,
        };
        if text.len() > LONGEST_ERROR {
            let end = (0..=LONGEST_ERROR).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
            text.truncate(end);
        }
    }

    /// About how many bytes it takes beyond the rest of an event.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Done { result: Some(result), .. } => size(result),
            Self::Failed { error, .. } | Self::Dead { error, .. } => error.len(),
            _ => 0,
        }
    }

    /// The routing key at `<namespace>.events`.
    pub const fn routing_key(&self) -> &'static str {
        Self::KEYS[self.index()]
    }

    pub(super) const fn index(&self) -> usize {
        match self {
            Self::Started { .. } => 0,
            Self::Progress(_) => 1,
            Self::Done { .. } => 2,
            Self::Failed { .. } => 3,
            Self::Dead { .. } => 4,
            Self::Cancelled { .. } => 5,
            Self::Discarded { .. } => 6,
            Self::Snoozed { .. } => 7,
        }
    }
}

/// The body of a message of events: all of one kind, in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventBatch {
    /// The worker's name.
    pub worker: String,
    /// Its instance.
    pub instance: Instance,
    /// The events.
    pub events: Vec<TaskEvent>,
}

/// How long a value is as JSON, in bytes, without writing it down.
fn size(value: &serde_json::Value) -> usize {
    struct Counted(usize);
    impl std::io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(0);
    // Nothing in a value cannot be written, and counting does not fail.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_what_the_contract_shows() {
        let event = TaskEvent {
            id: "order-17".parse().unwrap(),
            task: "mail.send".to_owned(),
            queue: "mail".to_owned(),
            attempt: 2,
            at: UnixMillis(7),
            trace_id: None,
            replays: 0,
            schedule: None,
            scheduled_at: None,
            labels: BTreeMap::new(),
            what: Happening::Progress(Progress { cursor: 3, total: Some(10), note: None }),
        };
        let wanted = serde_json::json!({
            "id": "order-17", "task": "mail.send", "queue": "mail", "attempt": 2, "at": 7,
            "event": "progress", "cursor": 3, "total": 10,
        });
        assert_eq!(serde_json::to_value(&event).unwrap(), wanted);
        assert_eq!(serde_json::from_value::<TaskEvent>(wanted).unwrap(), event);
    }

    #[test]
    fn a_result_is_told_unless_it_is_too_large() {
        let result = |what: &Happening| serde_json::to_value(what).unwrap();
        let small = Happening::done(5, Some(&serde_json::json!({ "pages": 3 })));
        assert_eq!(result(&small), serde_json::json!({ "event": "done", "ran_ms": 5, "result": { "pages": 3 } }));
        let large = Happening::done(5, Some(&"x".repeat(LARGEST_RESULT).into()));
        assert_eq!(result(&large), serde_json::json!({ "event": "done", "ran_ms": 5, "result_bytes": 65_538 }));
        let none = Happening::done(5, Some(&serde_json::Value::Null));
        assert_eq!(result(&none), serde_json::json!({ "event": "done", "ran_ms": 5 }));
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let error = "ü".repeat(LONGEST_ERROR);
        let mut failed = Happening::Failed { ran_ms: 1, error_kind: "error".into(), error, retry_at: UnixMillis(1) };
        failed.cut();
        assert_eq!(failed.weight(), LONGEST_ERROR);
    }
}
