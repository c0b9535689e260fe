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
    /// It failed and runs again after this time.
    Retried(Duration),
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
        let asked = match error.kind {
            ErrorKind::Cancelled => return Self::Cancelled,
            // A command that was stopped does not know why.
            ErrorKind::Stopped => match context.why_cancelled() {
                Some(Cancelled::Requested(_)) => return Self::Cancelled,
                // It has had its time: to begin anew at no cost would go on for ever.
                Some(Cancelled::OutOfTime) => None,
                Some(Cancelled::Stopping) | None => return Self::GivenBack,
            },
            ErrorKind::Reject => return Self::Dead(DeadReason::Rejected),
            ErrorKind::Undecodable => return Self::Dead(DeadReason::Undecodable),
            ErrorKind::RetryAfter(delay) => Some(delay),
            ErrorKind::Retry | ErrorKind::TimedOut | ErrorKind::Panicked => None,
        };
        let (facts, now) = (context.facts(), context.clock().now());
        let failed = facts.failed(error.label(), &error.message, asked, now);
        match facts.retry_policy(&context.kind().policy.retry).next(&failed) {
            Some(delay) => Self::Retried(delay),
            None if matches!(error.kind, ErrorKind::TimedOut | ErrorKind::Stopped) => Self::Dead(DeadReason::Timeout),
            None => Self::Dead(DeadReason::Exhausted),
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
