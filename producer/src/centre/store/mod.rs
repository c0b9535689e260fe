//! What a centre keeps in its database. Everything that more than one centre looks at is here, and every change that
//! belongs together is one transaction.

mod access;
mod audit;
mod calendars;
mod centres;
mod duties;
mod error;
pub(crate) mod held;
mod idempotency;
mod kinds;
pub(crate) mod lanes;
pub(crate) mod message;
mod operations;
mod outbox;
mod page;
mod retention;
pub(crate) mod rows;
mod runs;
pub(crate) mod schedules;
mod search;
pub(crate) mod shards;
pub mod tasks;
pub(crate) mod ticks;
pub(crate) mod turns;
mod workers;

use std::sync::Arc;

use leveret_common::clock::Clock;
use tokio::sync::Notify;

pub use access::{ALL_NAMESPACES, Role, Token, UnknownRole};
pub use audit::{AuditEntry, AuditSearch};
pub use calendars::StoredCalendar;
pub use centres::Centre;
pub use error::ScheduleError;
pub use idempotency::{Begun, KEPT, KeptAnswer};
pub use kinds::StoredKind;
pub use operations::{Operation, OperationKind, OperationState, Progress};
pub use outbox::DelayedTask;
pub use page::Page;
pub(crate) use rows::over_rows;
pub use runs::{RunEnd, RunEnded};
pub use schedules::{Expected, Saved, Source, StoredSchedule};
pub use search::{Followed, ScheduleFilter};
pub(crate) use shards::lane;
pub use shards::{SHARDS, Shard};
pub use ticks::{TickRecord, TickState};
pub use workers::WorkerRow;

use super::database::Database;

/// The tables of a centre. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    changed: Arc<Notify>,
}

impl Store {
    /// The tables in `database`, with times from `clock`.
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock, changed: Arc::default() }
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Where times come from.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Lets the engine of this process look at once for what is due; others look by themselves, twice a second. To be
    /// called after the transaction of [`runs_ended`](Self::runs_ended) is committed.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits until something has changed that the engine should look at.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
