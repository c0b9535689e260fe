//! What becomes of tasks, for whoever listens on `<namespace>.events`.
//!
//! Off unless a queue's setting or a task's header asks for it: see [`Tracking`]. Reporting never waits: [`Events`] has a
//! buffer of 8,192 events, publishes many in one message, and drops and counts what does not fit.

mod happening;
mod reporter;
mod tracking;

use std::time::Duration;

use crate::{
    topology::Names,
    wire::{Outgoing, TooLong},
};

pub use happening::{EventBatch, Happening, LARGEST_RESULT, Progress, TaskEvent};
pub use reporter::Events;
pub use tracking::{InvalidTracking, Tracking};

/// A message of JSON to `<namespace>.events` under another routing key than those of tasks and workers. Nobody need be
/// listening; what nobody has taken after `lifetime` is gone.
///
/// # Errors
/// [`TooLong`] when a name does not fit.
pub fn message(names: &Names, routing_key: &str, body: Vec<u8>, lifetime: Duration) -> Result<Outgoing, TooLong> {
    crate::registry::event(names, routing_key, body, Some(lifetime))
}
