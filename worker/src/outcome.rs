//! What a handler says in the end.

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;

/// How an attempt ended that did not fail.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The task is done.
    Done,
    /// The task is done, and this is its result as JSON: sent to whoever asked for it. See [`Outcome::result`].
    Result(serde_json::Value),
    /// Not now: run it again after this time, without counting the attempt.
    Snooze(Duration),
    /// The task can never succeed: to the dead-letter queue as `rejected`, with this reason.
    Reject(String),
    /// The task is of no use any more: away with it, and nobody is told. The reason is logged.
    Discard(String),
    /// The task was called off: away with it, and whoever waits for its result is told so, with this reason.
    Cancel(String),
}

impl Outcome {
    /// The task is done, with a result.
    ///
    /// # Errors
    /// [`Error`] when the result cannot be written as JSON; trying again would not help, so the task is rejected.
    pub fn result(result: &impl Serialize) -> Result<Self, Error> {
        serde_json::to_value(result)
            .map(Self::Result)
            .map_err(|error| Error::reject(format!("the result cannot be written as JSON: {error}")))
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Done
    }
}

/// A typed result: a handler that returns `Result<Reply<Thumbnail>, Error>` says in its signature what whoever asked
/// will get, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<T>(pub T);

impl<T: Serialize> From<Reply<T>> for Outcome {
    fn from(Reply(result): Reply<T>) -> Self {
        Self::result(&result).unwrap_or_else(|error| Self::Reject(error.message))
    }
}

/// Why an attempt failed.
///
/// Any error type becomes one with `?`, and is tried again as the retry policy says. [`Error::reject`] is for
/// failures that come back however often one tries.
#[derive(Clone)]
pub struct Error {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// What it was made from.
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// How an attempt ended: what a handler returns, and what passes through the layers around it.
pub type Ended = Result<Outcome, Error>;

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Try again as the policy says.
    Retry,
    /// Try again after this time at the earliest.
    RetryAfter(Duration),
    /// Do not try again.
    Reject,
    /// The arguments are not what the handler takes.
    Undecodable,
    /// The attempt ran out of time; try again as the policy says.
    TimedOut,
    /// The handler panicked; try again as the policy says.
    Panicked,
    /// It was called off while it ran.
    Cancelled,
    /// The worker is being stopped: back to the queue, without counting the attempt.
    Stopped,
}

impl Error {
    /// A failure that may pass: try again as the policy says.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self::of(ErrorKind::Retry, message)
    }

    /// A failure that may pass: try again after `delay`, if attempts are left.
    pub fn retry_after(delay: Duration, message: impl fmt::Display) -> Self {
        Self::of(ErrorKind::RetryAfter(delay), message)
    }

    /// A failure that comes back however often one tries: to the dead-letter queue as `rejected`.
    pub fn reject(message: impl fmt::Display) -> Self {
        Self::of(ErrorKind::Reject, message)
    }

    pub(crate) fn of(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), source: None }
    }

    /// The error that `?` made it from, if it is of this type: for a layer that tells errors apart.
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.source.as_deref()?.downcast_ref()
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Retry | ErrorKind::RetryAfter(_) | ErrorKind::TimedOut | ErrorKind::Panicked)
    }

    /// Whether the task was called off.
    pub fn is_cancelled(&self) -> bool {
        self.kind == ErrorKind::Cancelled
    }

    /// Whether the attempt went wrong, as opposed to being called off or given back.
    pub(crate) fn is_failure(&self) -> bool {
        !matches!(self.kind, ErrorKind::Cancelled | ErrorKind::Stopped)
    }

    /// The same failure, not to be tried again.
    #[must_use]
    pub fn rejected(mut self) -> Self {
        self.kind = ErrorKind::Reject;
        self
    }

    /// The same failure, to be tried again as the policy says or, if given, after this time.
    #[must_use]
    pub fn retried(mut self, after: Option<Duration>) -> Self {
        self.kind = after.map_or(ErrorKind::Retry, ErrorKind::RetryAfter);
        self
    }

    /// The value for the header `leveret-error-kind`: `error`, `timeout`, `panic` and so on.
    pub fn label(&self) -> &'static str {
        match self.kind {
            ErrorKind::Retry | ErrorKind::RetryAfter(_) => "error",
            ErrorKind::Reject => "rejected",
            ErrorKind::Undecodable => "arguments",
            ErrorKind::TimedOut => "timeout",
            ErrorKind::Panicked => "panic",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Stopped => "stopped",
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors repeat their source in their own text.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = cause.source();
        }
        Self { source: Some(Arc::new(error)), ..Self::retry(message) }
    }
}

// `Error` does not implement `std::error::Error`: the conversion above would clash with that of a type into itself.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot send the mail")]
    struct SendFailed(#[source] std::io::Error);

    #[test]
    fn a_failure_tells_its_causes_once() {
        let cause = || std::io::Error::other("connection refused");
        let failed = || -> Result<(), Error> { Err(SendFailed(cause()))? };
        assert_eq!(failed().unwrap_err().to_string(), "cannot send the mail: connection refused");
        assert_eq!(Error::from(cause()).to_string(), "connection refused");
        assert!(failed().unwrap_err().downcast_ref::<SendFailed>().is_some());
    }
}
