//! What follows from the end of an attempt.

use std::time::Duration;

use leveret_common::{metrics::TaskEnd, wire::DeadReason};

use crate::{
    context::{Cancelled, Context},
    outcome::{Ended, Error, ErrorKind, Outcome},
};

/// What becomes of a task after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// It runs again after this time, and nothing went wrong.
    Snoozed(Duration),
    /// It goes away, and nobody is told.
    Discarded,
    /// It goes away, and whoever waits is told.
    Cancelled,
    /// It failed and runs again: after this time, or as the policy says.
    Retried(Option<Duration>),
    /// It will not run again by itself.
    Dead(DeadReason),
    /// Back to its queue, at no cost to its attempts.
    GivenBack,
}

impl Fate {
    pub(crate) fn of(context: &Context, ended: &Ended) -> Self {
        match ended {
            Ok(Outcome::Done | Outcome::Result(_)) => Self::Done,
            Ok(Outcome::Snooze(delay)) => Self::Snoozed(*delay),
            Ok(Outcome::Discard(_)) => Self::Discarded,
            Ok(Outcome::Cancel(_)) => Self::Cancelled,
            Ok(Outcome::Reject(_)) => Self::Dead(DeadReason::Rejected),
            Err(error) => Self::of_failure(context, error),
        }
    }

    fn of_failure(context: &Context, error: &Error) -> Self {
        let last = context.attempt() >= context.max_attempts();
        match error.kind {
            ErrorKind::Cancelled => Self::Cancelled,
            // A command that was stopped does not know why.
            ErrorKind::Stopped => match context.why_cancelled() {
                Some(Cancelled::Requested(_)) => Self::Cancelled,
                _ => Self::GivenBack,
            },
            ErrorKind::Reject => Self::Dead(DeadReason::Rejected),
            ErrorKind::Undecodable => Self::Dead(DeadReason::Undecodable),
            ErrorKind::TimedOut if last => Self::Dead(DeadReason::Timeout),
            _ if last => Self::Dead(DeadReason::Exhausted),
            ErrorKind::RetryAfter(delay) => Self::Retried(Some(delay)),
            ErrorKind::Retry | ErrorKind::TimedOut | ErrorKind::Panicked => Self::Retried(None),
        }
    }

    /// As the metrics call it.
    pub(crate) fn end(self) -> TaskEnd {
        match self {
            Self::Done => TaskEnd::Done,
            Self::Snoozed(_) => TaskEnd::Snoozed,
            Self::Discarded => TaskEnd::Discarded,
            Self::Cancelled => TaskEnd::Cancelled,
            Self::Retried(_) => TaskEnd::Retried,
            Self::Dead(_) => TaskEnd::Dead,
            Self::GivenBack => TaskEnd::GivenBack,
        }
    }
}
