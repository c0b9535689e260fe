//! What becomes of tasks, for whoever listens on `<namespace>.events`.
//!
//! Off unless a queue's setting or a task's header asks for it: see [`Tracking`]. Reporting never waits: [`Events`] has a
//! buffer of 8,192 events, publishes many in one message, and drops and counts what does not fit.

mod happening;
mod reporter;
mod tracking;

use std::{collections::BTreeMap, time::Duration};

use crate::{
    headers::Headers,
    topology::Names,
    wire::{Outgoing, TooLong, header},
};

pub use happening::{EventBatch, Happening, LARGEST_RESULT, Progress, TaskEvent};
pub use reporter::Events;
pub use tracking::{InvalidTracking, Tracking};

/// The largest `leveret-labels` that is read, in bytes.
const LARGEST_LABELS: usize = 4 << 10;

/// The labels of a task. They are for people: what is no object of texts is no fault of the task.
pub fn labels(headers: &Headers) -> BTreeMap<String, String> {
    let text = headers.get_str(header::LABELS).filter(|text| text.len() <= LARGEST_LABELS);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// A message of JSON to `<namespace>.events` under another routing key than those of tasks and workers. Nobody need be
/// listening; what nobody has taken after `lifetime` is gone.
///
/// # Errors
/// [`TooLong`] when a name does not fit.
pub fn message(names: &Names, routing_key: &str, body: Vec<u8>, lifetime: Duration) -> Result<Outgoing, TooLong> {
    crate::registry::event(names, routing_key, body, Some(lifetime))
}
