//! What can go wrong with operations.

use leveret_common::dead_letters::DeadLettersError;

use crate::centre::database::DatabaseError;

/// An operation cannot be begun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The request cannot work.
    #[error("{0}")]
    Invalid(&'static str),
    /// Another is at work there.
    #[error("operation {id} is at work on this queue: wait for its end, or cancel it")]
    Busy {
        /// The other.
        id: String,
    },
    /// This centre is about to end.
    #[error("this centre is stopping: ask another, or ask again soon")]
    Stopping,
    /// The dead letters cannot be looked at.
    #[error(transparent)]
    DeadLetters(#[from] DeadLettersError),
    /// The database did not do what was asked.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// An error and its causes in one line.
pub(in crate::centre) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
