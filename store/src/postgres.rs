//! PostgreSQL: connect, and make the tables.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{
    StoreError,
    migrate::{Step, take_steps},
};

const STEPS: [Step; 2] = [
    (1, include_str!("../migrations/postgres/0001_once.sql")),
    (2, include_str!("../migrations/postgres/0002_outbox.sql")),
];

/// Any number that nobody else takes: the advisory lock of whoever makes the tables.
const LOCK: i64 = 0x6c65_7665_7265_7401;

/// A pool of up to 10 connections to the database at `url`, with the tables in it. PostgreSQL 13 or later.
///
/// # Errors
/// [`StoreError::Connect`], [`StoreError::Migrate`].
pub async fn connect(url: &str) -> Result<PgPool, StoreError> {
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_secs(5))
        .connect(url)
        .await
        .map_err(|error| StoreError::connect("PostgreSQL", error))?;
    migrate(&pool).await?;
    Ok(pool)
}

/// Makes the tables `leveret_*` in the first schema of the search path, where they are missing. Several workers may
/// do so at once. A user who may not create tables can work with tables that are there.
///
/// # Errors
/// [`StoreError::Migrate`].
pub async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    steps(pool).await.map_err(StoreError::migrate)
}

async fn steps(pool: &PgPool) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    take_steps!(transaction, "SELECT to_regclass('leveret_migrations')::TEXT", STEPS)
}
