//! The seam between a worker and where marks are kept.

use std::{error::Error, fmt};

use futures_util::future::BoxFuture;

use super::Mark;
use crate::{clock::UnixMillis, task::TaskId};

/// Where marks are kept.
///
/// A mark is claimed for its lease; then it is done and remembered for its window, or kept for its task's next
/// attempt, or gone. What is over, lease or window, is as if it had never been. Times come from the store's
/// [`Clock`](crate::clock::Clock): the clocks of workers that share a store have to agree to well within a lease.
pub trait OnceStore: fmt::Debug + Send + Sync + 'static {
    /// Asks whether to do the work, and takes it on if so. Asking again with the same mark is harmless.
    ///
    /// `redelivered` is the broker's flag. The broker gives a message out again only when the channel of whoever had
    /// it is gone, so a claim of the same task by another holder is then taken over at once; the holder, if it lives,
    /// learns of it from [`OnceStore::extend`]. (A task that was published twice under one id is two messages: if one
    /// of them is given back and comes again while the other runs, it is taken over as well. Where work and mark are
    /// committed in one transaction, only one of the two can.)
    ///
    /// # Errors
    /// [`OnceError::Store`].
    fn claim<'a>(&'a self, mark: &'a Mark, redelivered: bool) -> BoxFuture<'a, Result<Claim, OnceError>>;

    /// Makes a claim hold for another lease from now.
    ///
    /// # Errors
    /// [`OnceError::Lost`] when it is another's by now, or its lease was over; [`OnceError::Store`].
    fn extend<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>>;

    /// The work took effect: remember that for the window from now, whoever of the same task holds the claim.
    ///
    /// # Errors
    /// [`OnceError::Lost`] when another task has taken it on meanwhile; [`OnceError::Store`].
    fn done<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>>;

    /// The attempt failed and the task will be tried again: it may claim at once, other tasks with the same unique
    /// key stay duplicates of it, until the window from now is over. Does nothing when the claim is not ours.
    ///
    /// # Errors
    /// [`OnceError::Store`].
    fn release<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>>;

    /// The task is dead or discarded: the mark is gone, and another task with the same unique key may do the work. If
    /// one does, a replay of the dead letter is a duplicate of it. Does nothing when the claim is not ours.
    ///
    /// # Errors
    /// [`OnceError::Store`].
    fn forget<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>>;
}

/// Whether to do the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Do it: the claim is yours for the mark's lease.
    First,
    /// This task has done it, within the window.
    Done,
    /// Another task has done it within the window, or has taken it on.
    Duplicate {
        /// The id of that task.
        of: TaskId,
    },
    /// Another delivery of this same task is being worked on.
    Busy {
        /// When that claim ends unless it is extended.
        until: UnixMillis,
    },
}

/// A mark could not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnceError {
    /// The claim was taken over, or the work was done by another.
    #[error("the claim of {key:?} was taken over or its work done by another: undo what this attempt did")]
    Lost {
        /// The mark's key.
        key: String,
    },
    /// The store cannot be asked, or nobody can say whether it did what was asked.
    #[error("the store of marks cannot be used: check that it runs, can be reached and lets this user in")]
    Store(#[source] Box<dyn Error + Send + Sync>),
}
