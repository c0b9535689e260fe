//! How a command ends: exit codes, and errors as one line.

use std::{error::Error, fmt, process::ExitCode};

use leveret::common::{
    client::ClientError,
    control::ControlError,
    dead_letters::DeadLettersError,
    link::{ConnectError, PoolError},
    registry::RegistryError,
    topology::TopologyError,
};
use leveret::producer::centre::database::DatabaseError;
use leveret::{BuildError, PublishError, StartError};

use crate::{api::ApiError, settings::InvalidConfig};

/// The exit codes as help shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed, or the answer is no: a task is dead, a topology differs
  2   the command line is wrong
  64  the configuration is wrong
  69  the broker cannot be reached, or refuses the connection; or the database, or the centre
  75  no answer in time; trying again may help";

/// An exit code of `leveret`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It is done.
    Done = 0,
    /// It failed, or the answer is no.
    Failed = 1,
    /// The command line is wrong. clap uses it for what it finds itself.
    Usage = 2,
    /// The configuration is wrong.
    Config = 64,
    /// The broker, the database or the centre cannot be reached, or refuses the connection.
    Unavailable = 69,
    /// No answer in time.
    NoAnswer = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends without having done what it was asked. Any error becomes one by `?`; its exit code
/// follows from its type.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// A failure in words of the command's own. They say what to do about it.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, error: text.into().into() }
    }

    /// Whether whoever read our output has stopped reading, as `head` does: nothing is wrong then.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let error: &(dyn Error + 'static) = self.error.as_ref();
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// The error and its causes in one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self.error.as_ref()))
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: exit(&error), error: Box::new(error) }
    }
}

fn exit(error: &(dyn Error + 'static)) -> Exit {
    if error.is::<ConnectError>() || matches!(error.downcast_ref(), Some(DatabaseError::Connect { .. })) {
        return Exit::Unavailable;
    }
    if let Some(PublishError::Unconfirmed { .. } | PublishError::Closed) = error.downcast_ref() {
        return Exit::NoAnswer;
    }
    if let Some(error) = error.downcast_ref::<ApiError>() {
        return error.exit();
    }
    if error.is::<InvalidConfig>() || error.is::<BuildError>() {
        return Exit::Config;
    }
    // These pass another error through, which counts then.
    let inner: Option<&(dyn Error + 'static)> = if let Some(ClientError::Connect(error)) = error.downcast_ref() {
        Some(error)
    } else if let Some(ClientError::Topology(error)) = error.downcast_ref() {
        Some(error)
    } else if let Some(StartError::Connect(error)) = error.downcast_ref() {
        Some(error)
    } else if let Some(StartError::Topology(error)) = error.downcast_ref() {
        Some(error)
    } else if let Some(TopologyError::Pool(error)) = error.downcast_ref() {
        Some(error)
    } else if let Some(PoolError::Connect(error)) = error.downcast_ref() {
        Some(error)
    } else if let Some(DeadLettersError::Connect(error)) = error.downcast_ref() {
        Some(error)
    } else if let Some(ControlError::Connect(error)) = error.downcast_ref() {
        Some(error)
    } else if let Some(RegistryError::Connect(error)) = error.downcast_ref() {
        Some(error)
    } else if let Some(RegistryError::Topology(error)) = error.downcast_ref() {
        Some(error)
    } else {
        None
    };
    inner.map_or(Exit::Failed, exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_broker_is_told_through_every_layer() {
        let lost = || ConnectError::Closed;
        assert_eq!(Failure::from(lost()).exit, Exit::Unavailable);
        assert_eq!(Failure::from(ClientError::Connect(lost())).exit, Exit::Unavailable);
        let layered = StartError::Topology(TopologyError::Pool(PoolError::Connect(lost())));
        assert_eq!(Failure::from(layered).exit, Exit::Unavailable);
        assert_eq!(Failure::from(std::io::Error::other("disk")).exit, Exit::Failed);
    }

    #[test]
    fn causes_follow_in_one_line() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read it\n  at all")]
        struct Outer(#[source] std::io::Error);
        let failure = Failure::from(Outer(std::io::Error::other("disk on fire")));
        assert_eq!(failure.to_string(), "cannot read it at all: disk on fire");
    }
}
