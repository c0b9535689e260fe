//! What becomes of tasks, for whoever listens on `<namespace>.events`.
//!
//! Off unless a queue's setting or a task's header asks for it: see [`Tracking`]. Reporting never waits: [`Events`] has a
//! buffer of 8,192 events, publishes many in one message, and drops and counts what does not fit.

mod happening;
mod reporter;
mod tracking;

pub use happening::{EventBatch, Happening, LARGEST_RESULT, Progress, TaskEvent};
pub use reporter::Events;
pub use tracking::{InvalidTracking, Tracking};
