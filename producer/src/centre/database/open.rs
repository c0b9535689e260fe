//! Which database, and how it is opened.

use std::{error::Error, fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Database, Kind};

/// How long a statement waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits for another process that writes into the same SQLite file.
const BUSY: Duration = Duration::from_secs(5);
const SQLITE_READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 10;

/// Where the database is: `sqlite:leveret.db`, a file, or `postgres://user:password@host/database`. What is printed of it
/// has no password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Whether several centres may share it.
    pub fn is_shared(&self) -> bool {
        !self.0.starts_with("sqlite:")
    }
}

impl Default for DatabaseUrl {
    /// `sqlite:leveret.db`.
    fn default() -> Self {
        Self("sqlite:leveret.db".to_owned())
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;
    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let is_file = text.strip_prefix("sqlite:").is_some_and(|file| !file.trim_start_matches('/').is_empty());
        let is_server = || {
            (text.starts_with("postgres://") || text.starts_with("postgresql://"))
                && text.parse::<PgConnectOptions>().is_ok()
        };
        if is_file || is_server() { Ok(Self(text.to_owned())) } else { Err(InvalidDatabaseUrl) }
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = InvalidDatabaseUrl;
    fn try_from(text: String) -> Result<Self, InvalidDatabaseUrl> {
        text.parse()
    }
}

impl From<DatabaseUrl> for String {
    fn from(url: DatabaseUrl) -> Self {
        url.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.0.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@')));
        match rest {
            Some((scheme, Some((_, place)))) => write!(f, "{scheme}://{}", place.split('?').next().unwrap_or_default()),
            _ => f.write_str(self.0.split('?').next().unwrap_or_default()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no address of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no address of a database: write \"sqlite:leveret.db\" or \"postgres://user:password@host/database\"")]
pub struct InvalidDatabaseUrl;

impl Database {
    /// Opens the database, and makes the tables `leveret_centre_*` that are not there yet.
    ///
    /// # Errors
    /// [`DatabaseError::Connect`], [`DatabaseError::Migrate`], [`DatabaseError::Newer`].
    pub async fn open(url: &DatabaseUrl) -> Result<Self, DatabaseError> {
        let connect = |source: sqlx::Error| DatabaseError::Connect { url: url.clone(), source: Box::new(source) };
        let kind = match url.0.strip_prefix("sqlite:") {
            Some(file) => {
                let file = PathBuf::from(file.strip_prefix("//").unwrap_or(file));
                let options = SqliteConnectOptions::new()
                    .filename(file)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // What was decided must outlive a power cut as well.
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(BUSY)
                    .disable_statement_logging();
                let pool = |most| SqlitePoolOptions::new().max_connections(most).acquire_timeout(PATIENCE);
                let writer = pool(1).connect_with(options.clone()).await.map_err(connect)?;
                let readers = pool(SQLITE_READERS).connect_lazy_with(options.read_only(true));
                Kind::Sqlite { writer, readers }
            }
            None => {
                let options: PgConnectOptions = url.0.parse().map_err(connect)?;
                let pool = PgPoolOptions::new().max_connections(POSTGRES_CONNECTIONS).acquire_timeout(PATIENCE);
                let options = options.application_name("leveret").disable_statement_logging();
                Kind::Postgres(pool.connect_with(options).await.map_err(connect)?)
            }
        };
        let database = Self(kind);
        database.migrate().await?;
        Ok(database)
    }
}

/// The database could not be opened, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// No connection.
    #[error("no connection to the database {url}: check the address, that it runs, and that this user may enter")]
    Connect {
        /// Where.
        url: DatabaseUrl,
        /// What failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The tables could not be made.
    #[error("the tables leveret_centre_* cannot be made: let this user create tables in the database")]
    Migrate(#[source] Box<dyn Error + Send + Sync>),
    /// A newer version of Leveret has been here and changed what this one would not understand.
    #[error("the database is of a newer version of Leveret (step {found}, this one knows {known}): use that version")]
    Newer {
        /// The last step that was taken.
        found: i64,
        /// The last step that is known here.
        known: i64,
    },
    /// A statement failed.
    #[error("the database did not do what was asked")]
    Statement(#[source] Box<dyn Error + Send + Sync>),
    /// What is in a column is not what was written there, or cannot be written.
    #[error("the database holds something that cannot be read")]
    Json(#[source] serde_json::Error),
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        Self::Statement(Box::new(error))
    }
}

impl DatabaseError {
    /// Whether a statement failed because a row with the same key is there.
    pub fn is_conflict(&self) -> bool {
        let Self::Statement(source) = self else { return false };
        let database = source.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
        database.is_some_and(sqlx::error::DatabaseError::is_unique_violation)
    }
}
