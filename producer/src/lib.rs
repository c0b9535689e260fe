//! Schedules, and the cron producer that publishes a task for each of their ticks.
//!
//! | module | what is in it |
//! |---|---|
//! | [`schedule`] | when a schedule runs and what it publishes |
//! | [`settings`] | the `[schedules.<name>]` tables of `leveret.toml` |
//! | [`stats`] | what became of the ticks |
//! | [`Producer`] | watches the clock and publishes |

mod backlog;
mod producer;
mod publish;
pub mod schedule;
pub mod settings;
pub mod stats;
mod ticker;

pub use producer::{Producer, RunningProducer};
pub use publish::Publish;
