//! SQLite: open a file, and make the tables.

use std::{path::Path, time::Duration};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    StoreError,
    migrate::{Step, take_steps},
};

const STEPS: [Step; 2] = [
    (1, include_str!("../migrations/sqlite/0001_once.sql")),
    (2, include_str!("../migrations/sqlite/0002_outbox.sql")),
];

/// A pool for the database in the file `path`, which is made if it is missing, with the tables in it.
///
/// It has a write-ahead log, and waits up to 5 seconds for other writers. A commit survives a killed process; a power
/// cut may undo the commits of the last moments, never part of one. An application that wants more brings a pool of
/// its own.
///
/// # Errors
/// [`StoreError::Connect`], [`StoreError::Migrate`].
pub async fn open(path: impl AsRef<Path>) -> Result<SqlitePool, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(5));
    // One writes at a time; the others read.
    let pool = SqlitePoolOptions::new()
        .max_connections(4)
        .connect_with(options)
        .await
        .map_err(|error| StoreError::connect("SQLite", error))?;
    migrate(&pool).await?;
    Ok(pool)
}

/// Makes the tables `leveret_*` where they are missing. Several processes may do so at once.
///
/// # Errors
/// [`StoreError::Migrate`].
pub async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
    steps(pool).await.map_err(StoreError::migrate)
}

async fn steps(pool: &SqlitePool) -> sqlx::Result<()> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    take_steps!(transaction, "SELECT max(name) FROM sqlite_master WHERE name = 'leveret_migrations'", STEPS)
}
