use std::time::Duration;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct ExecFailure {
    /// What is to follow from it.
    pub kind: ExecFailureKind,
    /// How long the called server asked us to wait before the next attempt, at most one day.
    pub retry_after: Option<Duration>,
    /// What happened, with the end of what the command printed or the start of what the server answered.
    pub message: String,
}

/// What is to follow from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExecFailureKind {
    /// Another attempt may go better.
    Retryable,
    /// Another attempt would fail the same way.
    Permanent,
    /// The attempt ran out of time and was stopped.
    TimedOut,
    /// The attempt was stopped because the task was cancelled.
    Cancelled,
}

impl ExecFailure {
    pub(super) fn new(kind: ExecFailureKind, message: impl Into<String>) -> Self {
        Self { kind, retry_after: None, message: message.into() }
    }

    pub(super) fn retryable(message: impl Into<String>) -> Self {
        Self::new(ExecFailureKind::Retryable, message)
    }

    pub(super) fn permanent(message: impl Into<String>) -> Self {
        Self::new(ExecFailureKind::Permanent, message)
    }
}
