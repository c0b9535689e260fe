//! What a request about schedules can fail with.

use leveret_common::message::InvalidMessage;

use crate::{
    centre::database::DatabaseError,
    plan::{InvalidDefinition, ScheduleName},
};

/// A request about schedules, or about tasks that were put off, was not carried out: nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// There is no such schedule.
    #[error("there is no schedule {name}")]
    Absent {
        /// The name that was given.
        name: ScheduleName,
    },
    /// The schedule is not as the caller has seen it.
    #[error("the schedule {name} has changed in the meantime: look at it again, then decide")]
    Changed {
        /// Its name.
        name: ScheduleName,
        /// Its revision now; `None` when there is none.
        revision: Option<i64>,
    },
    /// The definition cannot work.
    #[error(transparent)]
    Invalid(#[from] InvalidDefinition),
    /// The message cannot be published.
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    /// A cursor is not one that was given out.
    #[error("the cursor {cursor:?} is none that was given out: begin again without one")]
    Cursor {
        /// What was given.
        cursor: String,
    },
    /// The database did not do what was asked.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}
