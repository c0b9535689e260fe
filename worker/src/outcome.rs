//! What a handler says in the end.

use std::{fmt, time::Duration};

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
    /// The task is of no use any more: away with it. The reason is logged.
    Discard(String),
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

/// Why an attempt failed.
///
/// Any error type becomes one with `?`, and is tried again as the retry policy says. [`Error::reject`] is for
/// failures that come back however often one tries.
#[derive(Clone)]
pub struct Error {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

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
    /// The worker is being stopped: back to the queue, without counting the attempt.
    Stopped,
}

impl Error {
    /// A failure that may pass: try again as the policy says.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::Retry, message: message.to_string() }
    }

    /// A failure that may pass: try again after `delay`, if attempts are left.
    pub fn retry_after(delay: Duration, message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::RetryAfter(delay), message: message.to_string() }
    }

    /// A failure that comes back however often one tries: to the dead-letter queue as `rejected`.
    pub fn reject(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::Reject, message: message.to_string() }
    }

    pub(crate) fn of(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }

    /// The value for the header `leveret-error-kind`.
    pub(crate) fn label(&self) -> &'static str {
        match self.kind {
            ErrorKind::Retry | ErrorKind::RetryAfter(_) => "error",
            ErrorKind::Reject => "rejected",
            ErrorKind::Undecodable => "arguments",
            ErrorKind::TimedOut => "timeout",
            ErrorKind::Panicked => "panic",
            ErrorKind::Stopped => "stopped",
        }
    }
}

impl<E: std::error::Error> From<E> for Error {
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
        Self::retry(message)
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
    }
}
