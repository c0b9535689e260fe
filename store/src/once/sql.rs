//! Marks in a table `leveret_once`: the same statements serve SQLite and PostgreSQL.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use leveret_common::{
    clock::{Clock, UnixMillis},
    once::{Claim, Mark, OnceError, OnceStore},
    task::TaskId,
};

use crate::error::once_error;

/// $1 key, $2 task, $3 holder, $4 end of the lease, $5 now, $6 whether it was redelivered. A row comes back when the
/// claim is ours.
const CLAIM: &str = "
    INSERT INTO leveret_once AS mark (key, task_id, holder, state, ends_at) VALUES ($1, $2, $3, 'running', $4)
    ON CONFLICT (key) DO UPDATE SET
        task_id = excluded.task_id, holder = excluded.holder, state = excluded.state, ends_at = excluded.ends_at
    WHERE mark.ends_at <= $5 OR mark.task_id = excluded.task_id AND (
        mark.state = 'waiting' OR mark.state = 'running' AND (mark.holder = excluded.holder OR $6)
    )
    RETURNING state";
const LOOK: &str = "SELECT task_id, state, ends_at FROM leveret_once WHERE key = $1 AND ends_at > $2";
/// $1 end of the lease, $2 key, $3 holder, $4 now.
const EXTEND: &str = "
    UPDATE leveret_once SET ends_at = $1 WHERE key = $2 AND holder = $3 AND state = 'running' AND ends_at > $4";
/// $1 key, $2 task, $3 holder, $4 end of the window, $5 now.
const DONE: &str = "
    INSERT INTO leveret_once AS mark (key, task_id, holder, state, ends_at) VALUES ($1, $2, $3, 'done', $4)
    ON CONFLICT (key) DO UPDATE SET
        task_id = excluded.task_id, holder = excluded.holder, state = excluded.state, ends_at = excluded.ends_at
    WHERE mark.ends_at <= $5 OR mark.task_id = excluded.task_id";
/// As [`DONE`], but only for whoever holds the claim, or where nobody does.
const DONE_BY_HOLDER: &str = "
    INSERT INTO leveret_once AS mark (key, task_id, holder, state, ends_at) VALUES ($1, $2, $3, 'done', $4)
    ON CONFLICT (key) DO UPDATE SET
        task_id = excluded.task_id, holder = excluded.holder, state = excluded.state, ends_at = excluded.ends_at
    WHERE mark.ends_at <= $5 OR mark.task_id = excluded.task_id AND (
        mark.state = 'waiting' OR mark.state = 'running' AND mark.holder = excluded.holder
    )";
/// $1 end of the window, $2 key, $3 holder, $4 now.
const RELEASE: &str = "
    UPDATE leveret_once SET state = 'waiting', ends_at = $1
    WHERE key = $2 AND holder = $3 AND state = 'running' AND ends_at > $4";
const FORGET: &str = "DELETE FROM leveret_once WHERE key = $1 AND holder = $2 AND state = 'running'";

/// How many rows whose time is over are removed at once.
const SWEEP: u64 = 1_000;
const SWEEP_EVERY: Duration = Duration::from_secs(30);
#[cfg(feature = "sqlite")]
const SWEEP_SQLITE: &str = "
    DELETE FROM leveret_once WHERE key IN (SELECT key FROM leveret_once WHERE ends_at <= $1 ORDER BY ends_at LIMIT 1000)";
#[cfg(feature = "postgres")]
const SWEEP_POSTGRES: &str = "
    DELETE FROM leveret_once WHERE key IN (
        SELECT key FROM leveret_once WHERE ends_at <= $1 ORDER BY ends_at LIMIT 1000 FOR UPDATE SKIP LOCKED)";

/// How often a claim looks again when the row changes between its two statements.
const LOOKS: usize = 8;

macro_rules! once_in {
    ($(#[$about:meta])* $name:ident, $database:ty, $sweep:expr) => {
        $(#[$about])*
        ///
        /// Cheap to clone. Rows whose time is over are removed a thousand at a time, beside later claims.
        #[derive(Clone, Debug)]
        pub struct $name {
            pool: sqlx::Pool<$database>,
            clock: Clock,
            next_sweep: Arc<AtomicI64>,
        }

        impl $name {
            /// Marks in a database that has the tables already.
            pub fn new(pool: sqlx::Pool<$database>, clock: Clock) -> Self {
                Self { pool, clock, next_sweep: Arc::default() }
            }

            /// The pool, for work in the same database.
            pub fn pool(&self) -> &sqlx::Pool<$database> {
                &self.pool
            }

            /// The work is done: the mark commits together with it, or not at all. A claim comes before, but need
            /// not.
            ///
            /// # Errors
            /// [`OnceError::Lost`] when the work was done before or another has the claim: roll back.
            /// [`OnceError::Store`] when the statement failed.
            pub async fn done_in(
                &self,
                transaction: &mut sqlx::Transaction<'_, $database>,
                mark: &Mark,
            ) -> Result<(), OnceError> {
                self.mark_done(DONE_BY_HOLDER, mark, &mut **transaction).await
            }

            async fn mark_done<'c>(
                &self,
                statement: &'static str,
                mark: &Mark,
                executor: impl sqlx::Executor<'c, Database = $database>,
            ) -> Result<(), OnceError> {
                let now = self.clock.now();
                let done = sqlx::query(statement)
                    .bind(mark.key())
                    .bind(mark.task_id().as_str())
                    .bind(mark.holder())
                    .bind((now + mark.remembered_for()).0)
                    .bind(now.0)
                    .execute(executor)
                    .await
                    .map_err(once_error)?;
                if done.rows_affected() == 0 { Err(lost(mark)) } else { Ok(()) }
            }

            async fn take(&self, mark: &Mark, redelivered: bool) -> Result<Claim, OnceError> {
                self.sweep();
                for _ in 0..LOOKS {
                    let now = self.clock.now();
                    let taken = sqlx::query(CLAIM)
                        .bind(mark.key())
                        .bind(mark.task_id().as_str())
                        .bind(mark.holder())
                        .bind((now + mark.leased_for()).0)
                        .bind(now.0)
                        .bind(redelivered)
                        .fetch_optional(&self.pool)
                        .await
                        .map_err(once_error)?;
                    if taken.is_some() {
                        return Ok(Claim::First);
                    }
                    let look = sqlx::query_as(LOOK).bind(mark.key()).bind(now.0).fetch_optional(&self.pool);
                    let row: Option<(String, String, i64)> = look.await.map_err(once_error)?;
                    if let Some((task_id, state, ends_at)) = row {
                        if let Some(claim) = verdict(mark, task_id, &state, UnixMillis(ends_at)) {
                            return Ok(claim);
                        }
                    }
                    // It has changed hands between the two statements.
                }
                Ok(Claim::Busy { until: self.clock.now() + Duration::from_secs(1) })
            }

            /// Removes rows whose time is over, beside whatever the caller goes on to do.
            fn sweep(&self) {
                let now = self.clock.now();
                let next = self.next_sweep.load(Ordering::Relaxed);
                let after = (now + SWEEP_EVERY).0;
                if now.0 < next
                    || self.next_sweep.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_err()
                {
                    return;
                }
                let (pool, next_sweep) = (self.pool.clone(), self.next_sweep.clone());
                tokio::spawn(async move {
                    match sqlx::query($sweep).bind(now.0).execute(&pool).await {
                        // There may be more: the next claim goes on.
                        Ok(removed) if removed.rows_affected() >= SWEEP => next_sweep.store(0, Ordering::Relaxed),
                        Ok(_) => {}
                        Err(error) => tracing::debug!(%error, "marks whose time is over were not removed"),
                    }
                });
            }
        }

        impl OnceStore for $name {
            fn claim<'a>(&'a self, mark: &'a Mark, redelivered: bool) -> BoxFuture<'a, Result<Claim, OnceError>> {
                self.take(mark, redelivered).boxed()
            }

            fn extend<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
                async move {
                    let now = self.clock.now();
                    let extended = sqlx::query(EXTEND)
                        .bind((now + mark.leased_for()).0)
                        .bind(mark.key())
                        .bind(mark.holder())
                        .bind(now.0)
                        .execute(&self.pool)
                        .await
                        .map_err(once_error)?;
                    if extended.rows_affected() == 0 { Err(lost(mark)) } else { Ok(()) }
                }
                .boxed()
            }

            fn done<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
                self.mark_done(DONE, mark, &self.pool).boxed()
            }

            fn release<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
                async move {
                    let now = self.clock.now();
                    sqlx::query(RELEASE)
                        .bind((now + mark.remembered_for()).0)
                        .bind(mark.key())
                        .bind(mark.holder())
                        .bind(now.0)
                        .execute(&self.pool)
                        .await
                        .map_err(once_error)?;
                    Ok(())
                }
                .boxed()
            }

            fn forget<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
                async move {
                    let statement = sqlx::query(FORGET).bind(mark.key()).bind(mark.holder());
                    statement.execute(&self.pool).await.map_err(once_error)?;
                    Ok(())
                }
                .boxed()
            }
        }
    };
}

#[cfg(feature = "sqlite")]
once_in! {
    /// Marks in SQLite: for the workers of one machine, which may share the file. See [`crate::sqlite::open`].
    SqliteOnce, sqlx::Sqlite, SWEEP_SQLITE
}

#[cfg(feature = "postgres")]
once_in! {
    /// Marks in PostgreSQL: for workers on any number of machines. See [`crate::postgres::connect`].
    PostgresOnce, sqlx::Postgres, SWEEP_POSTGRES
}

/// What a row that is not ours says. `None` when it could have been ours: it has changed since we tried.
fn verdict(mark: &Mark, task_id: String, state: &str, ends_at: UnixMillis) -> Option<Claim> {
    match state {
        _ if task_id != mark.task_id().as_str() => {
            // What was written there was an id, and an id is never longer than an id may be.
            TaskId::try_from(task_id).ok().map(|of| Claim::Duplicate { of })
        }
        "done" => Some(Claim::Done),
        "running" => Some(Claim::Busy { until: ends_at }),
        _ => None,
    }
}

fn lost(mark: &Mark) -> OnceError {
    OnceError::Lost { key: mark.key().to_owned() }
}
