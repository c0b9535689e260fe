//! SQLite: open a file, and make the tables.

use std::{path::Path, time::Duration};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::Instant;

use crate::{
    StoreError,
    migrate::{Step, take_steps},
};

/// How long other writers are waited for.
const BUSY: Duration = Duration::from_secs(5);
/// How long to wait before a file that was busy is opened again.
const PAUSE: Duration = Duration::from_millis(20);

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
        .busy_timeout(BUSY);
    let pool = connect(&options).await.map_err(|error| StoreError::connect("SQLite", error))?;
    migrate(&pool).await?;
    Ok(pool)
}

/// SQLite waits for other writers, but not for one that makes the write-ahead log of a new file: so we do.
async fn connect(options: &SqliteConnectOptions) -> sqlx::Result<SqlitePool> {
    let began = Instant::now();
    loop {
        // One writes at a time; the others read.
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options.clone()).await;
        match pool {
            Err(error) if is_busy(&error) && began.elapsed() < BUSY => tokio::time::sleep(PAUSE).await,
            pool => return pool,
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    // SQLITE_BUSY, in the low byte of the extended codes.
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
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
