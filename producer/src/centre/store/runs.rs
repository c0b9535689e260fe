//! What became of the tasks of ticks.

use leveret_common::{clock::UnixMillis, task::TaskId};

use super::Store;
use crate::centre::database::{DatabaseError, Transaction};

/// The task of a tick, perhaps: something became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnded {
    /// The task.
    pub task_id: TaskId,
    /// What became of it.
    pub end: RunEnd,
    /// When.
    pub at: UnixMillis,
}

/// What became of a task in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// It is done.
    Done,
    /// It is dead, with this error.
    Dead(String),
    /// It was cancelled.
    Cancelled,
}

impl Store {
    /// Notes what became of tasks that may be those of ticks; others are ignored. What waits for them is due from then
    /// on. Told twice is told once.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn runs_ended(&self, _transaction: &mut Transaction, _runs: &[RunEnded]) -> Result<(), DatabaseError> {
        Ok(())
    }
}
