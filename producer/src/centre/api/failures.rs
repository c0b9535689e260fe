//! What failed elsewhere, as a problem.

use leveret_common::{control::ControlError, link::PublishError, message::InvalidMessage, topology::InvalidName};

use super::{Problem, ProblemKind};
use crate::{
    centre::database::DatabaseError,
    plan::{InvalidDefinition, InvalidScheduleName},
};

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Connect { .. } => Self::unavailable("the database does not answer: try again"),
            other => Self::internal(&other),
        }
    }
}

impl From<InvalidScheduleName> for Problem {
    fn from(error: InvalidScheduleName) -> Self {
        Self::new(ProblemKind::Malformed, error.to_string())
    }
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Self::new(ProblemKind::Malformed, error.to_string())
    }
}

impl From<InvalidDefinition> for Problem {
    fn from(error: InvalidDefinition) -> Self {
        Self::invalid_part(format!("/{}", error.key), error.fix)
    }
}

impl From<InvalidMessage> for Problem {
    fn from(error: InvalidMessage) -> Self {
        Self::invalid(error)
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Invalid(error) => error.into(),
            PublishError::Unroutable { .. } => Self::new(ProblemKind::Conflict, error.to_string()),
            other => Self::unavailable(other.to_string()),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Nobody { .. } | ControlError::NoExchange { .. } => {
                Self::new(ProblemKind::NotFound, error.to_string())
            }
            ControlError::Name(error) => error.into(),
            ControlError::TooLong(_) => Self::new(ProblemKind::Malformed, error.to_string()),
            other => Self::unavailable(other.to_string()),
        }
    }
}
