//! What the broker's own notes on a dead letter tell of its task.

use lapin::BasicProperties;

use super::DeadLetter;
use crate::{
    clock::UnixMillis,
    event::{self, Happening, TaskEvent, Tracking},
    trace_context::TraceContext,
    wire::{DeadReason, header},
};

/// A death that the broker has declared, and that no worker tells of.
#[derive(Clone, Debug, PartialEq)]
pub struct Death {
    /// The same as a worker would have told.
    pub event: TaskEvent,
    /// Whether the message asks for its task to be followed, by its header `leveret-track`.
    pub tracked: bool,
}

impl Death {
    /// Reads the properties of a dead letter, or of a copy. None if whoever published it has said why it is dead, or if it
    /// came without an id, for nobody knows its task.
    pub fn read(properties: &BasicProperties) -> Option<Self> {
        let letter = DeadLetter::by_broker(properties)?;
        let (id, at) = (letter.id.as_deref()?.parse().ok()?, letter.failed_at?);
        let tracked = Tracking::Off.follows(&id, &letter.headers);
        let schedule = letter.headers.get_str(header::SCHEDULE).map(str::to_owned);
        let scheduled_at = letter.headers.get_i64(header::SCHEDULED_AT).map(UnixMillis);
        let (schedule, scheduled_at) = schedule.zip(scheduled_at).unzip();
        let (reason, error) = why(&letter.reason, letter.error);
        let event = TaskEvent {
            id,
            task: letter.task,
            queue: letter.queue,
            attempt: letter.attempt.max(1),
            at,
            trace_id: TraceContext::read(&letter.headers)
                .and_then(|trace| trace.traceparent().split('-').nth(1).map(str::to_owned)),
            replays: letter.replays,
            schedule,
            scheduled_at,
            labels: event::labels(&letter.headers),
            what: Happening::Dead { ran_ms: None, reason, error_kind: letter.error_kind.unwrap_or_default(), error },
        };
        Some(Self { event, tracked })
    }
}

/// The reason as workers have it, and a text for people.
fn why(reason: &str, error: Option<String>) -> (DeadReason, String) {
    match reason {
        "delivery-limit" => (DeadReason::DeliveryLimit, error.unwrap_or_default()),
        "expired" => (DeadReason::Expired, "it was not run before its time in the queue was over".to_owned()),
        "rejected" => (DeadReason::Rejected, "rejected by a consumer that did not say why, or could not".to_owned()),
        other => (DeadReason::Rejected, format!("moved to the dead letters by the broker: {other}")),
    }
}
