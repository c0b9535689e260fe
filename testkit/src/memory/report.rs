//! What became of the tasks that a worker was given.

use std::{fmt, ops::Deref};

use leveret_common::{clock::UnixMillis, task::Task};

/// How a worker settled one delivery of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// It is done.
    Done,
    /// It is gone, for it was of no use any more.
    Discarded {
        /// Why.
        reason: String,
    },
    /// It is gone, for it was called off.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// The attempt failed, and there will be another.
    Retried {
        /// The number of the next attempt.
        attempt: u32,
        /// When it is due.
        at: UnixMillis,
        /// What went wrong.
        error: String,
    },
    /// The handler asked to be called again later.
    Snoozed {
        /// When that is.
        until: UnixMillis,
    },
    /// It is in the dead-letter queue.
    Dead {
        /// The value of the header `leveret-dead-reason`, such as `exhausted`.
        reason: String,
        /// What went wrong.
        error: String,
    },
    /// It went back to its queue: the worker gave it back, or was lost.
    Returned,
}

/// One delivery of a task to a worker, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// The task's name; empty if the message had none.
    pub task: String,
    /// The task's id.
    pub id: String,
    /// The work queue that it came from.
    pub queue: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// How it ended.
    pub end: End,
}

impl fmt::Display for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, id, queue, attempt, end } = self;
        write!(f, "{task} {id} of queue {queue}, attempt {attempt}: ")?;
        match end {
            End::Done => f.write_str("done"),
            End::Discarded { reason } => write!(f, "discarded: {reason}"),
            End::Cancelled { reason } => write!(f, "cancelled: {reason}"),
            End::Retried { attempt, at, error } => write!(f, "attempt {attempt} at {}: {error}", at.to_rfc3339()),
            End::Snoozed { until } => write!(f, "snoozed until {}", until.to_rfc3339()),
            End::Dead { reason, error } => write!(f, "dead, {reason}: {error}"),
            End::Returned => f.write_str("back in its queue"),
        }
    }
}

/// What became of the tasks that a worker was given, in the order in which they ended. What was not yet to be run, and
/// only went on to its next tier, is not among them. Reads like a slice; printed, it is one task a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<Handled>);

impl Report {
    pub(super) fn new(handled: Vec<Handled>) -> Self {
        Self(handled)
    }

    pub(super) fn add(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// How the only one ended.
    ///
    /// # Panics
    /// If it is not exactly one, with what there is.
    #[must_use]
    #[track_caller]
    pub fn only(&self) -> &End {
        match &self.0[..] {
            [one] => &one.end,
            _ => panic!("the worker was to be given one task, it was given {}:\n{self}", self.0.len()),
        }
    }

    /// How the tasks of type `T` ended, each time that a worker was given one.
    #[must_use]
    pub fn of<T: Task>(&self) -> Vec<&End> {
        self.0.iter().filter(|handled| handled.task == T::NAME).map(|handled| &handled.end).collect()
    }

    /// How many ended like this: `report.count(|end| matches!(end, End::Done))`.
    pub fn count(&self, like: impl Fn(&End) -> bool) -> usize {
        self.0.iter().filter(|handled| like(&handled.end)).count()
    }
}

impl Deref for Report {
    type Target = [Handled];
    fn deref(&self) -> &[Handled] {
        &self.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|handled| writeln!(f, "{handled}"))
    }
}
