//! What a centre sees: what becomes of tasks, and which workers there are.
//!
//! The events of tasks wait in the queue `<namespace>.centre`, which all centres read together; an event is acknowledged
//! once it is in the database. What the broker itself declares dead nobody tells of: copies of such dead letters wait in
//! `<namespace>.centre.deaths` and are read in the same way. Workers are followed by each centre by itself.

mod cancels;
mod copies;
mod deaths;
mod events;
mod keeper;
mod metrics;
mod queues;
mod read;
mod relay;
mod retention;
mod start;
mod workers;

pub(crate) use cancels::command as cancel;
pub use metrics::WatchStats;
pub use retention::Retention;
pub use start::{Announcer, RunningWatcher, WatchError, WatchOptions, Watcher};
pub use workers::{KnownWorker, TaskKind, WorkerStatus, Workers};
