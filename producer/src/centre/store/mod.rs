//! What a centre keeps in its database. Everything that more than one centre looks at is here, and every change that
//! belongs together is one transaction.

mod access;
mod audit;
mod calendars;
mod idempotency;
mod kinds;
mod operations;
mod runs;

use leveret_common::clock::Clock;

pub use access::{ALL_NAMESPACES, Role, Token, UnknownRole};
pub use audit::{AuditEntry, AuditSearch};
pub use calendars::StoredCalendar;
pub use idempotency::{Begun, KEPT, KeptAnswer};
pub use kinds::StoredKind;
pub use operations::{Operation, OperationKind, OperationState, Progress};
pub use runs::{RunEnd, RunEnded};

use super::database::Database;

/// The tables of a centre. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
}

impl Store {
    /// The tables in `database`, with times from `clock`.
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock }
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Where times come from.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}
