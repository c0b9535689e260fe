//! Remote control: commands to workers over `<namespace>.control`, and pauses that last.
//!
//! [`Control`] sends a [`Command`] to a [`Target`] and collects the [`Reply`] of each worker. Commands and replies are
//! JSON, so that any AMQP client can do the same: docs/protocol.md has their fields. Whoever may write to the exchange
//! may steer.

mod client;
mod command;
mod pause;
mod reply;

pub use client::{Control, ControlError, Replies, is_expired};
pub use command::{Command, LimitChange, Target};
pub use pause::{Pause, PauseError, PauseFlags};
pub use reply::{Answer, LimitReport, Outcome, Refusal, RefusalKind, Reply, RunningTask, WorkerStats};
