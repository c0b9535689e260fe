//! Schedules, and the cron producer that publishes a task for each of their ticks.
//!
//! | module | what is in it |
//! |---|---|
//! | [`schedule`] | when a schedule runs and what it publishes |
//! | [`plan`] | schedules of the centre: calendars, windows, jitter, and what becomes of ticks that cannot run |
//! | [`settings`] | the `[schedules.<name>]` tables of `leveret.toml` |
//! | [`stats`] | what became of the ticks |
//! | [`Producer`] | watches the clock and publishes; nothing is stored |
//! | `centre` | the scheduling centre: schedules in a database, by any number of processes (feature `centre`) |

mod backlog;
#[cfg(feature = "centre")]
pub mod centre;
pub mod plan;
mod producer;
mod publish;
pub mod schedule;
pub mod settings;
pub mod stats;
mod ticker;

pub use producer::{Producer, RunningProducer};
pub use publish::Publish;
