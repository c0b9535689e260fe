//! What can go wrong between us and a database.

use std::error::Error;

use leveret_common::message::InvalidMessage;

/// A store could not be opened, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No connection.
    #[error("no connection to {what}: check the address, that it runs, and that this user may enter")]
    Connect {
        /// `PostgreSQL`, `SQLite` or `Redis`.
        what: &'static str,
        /// What failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The tables could not be made.
    #[error(
        "the tables leveret_* cannot be made: let this user create tables, or have them made from store/migrations"
    )]
    Migrate(#[source] Box<dyn Error + Send + Sync>),
    /// A statement failed.
    #[error("the database did not do what was asked")]
    Statement(#[source] Box<dyn Error + Send + Sync>),
    /// The message could never be published.
    #[error(transparent)]
    Message(#[from] InvalidMessage),
}

impl StoreError {
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
    pub(crate) fn connect(what: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Connect { what, source: Box::new(source) }
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn migrate(source: sqlx::Error) -> Self {
        Self::Migrate(Box::new(source))
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Statement(Box::new(error))
    }
}

/// A store of marks that failed.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
pub(crate) fn once_error(error: impl Error + Send + Sync + 'static) -> leveret_common::once::OnceError {
    leveret_common::once::OnceError::Store(Box::new(error))
}
