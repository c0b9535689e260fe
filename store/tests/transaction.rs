//! Work and its mark commit together: however an attempt ends, the work takes effect once.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::time::Duration;

use leveret_common::{
    clock::{Clock, UnixMillis},
    once::{Claim, Mark, OnceError, OnceStore},
    task::TaskId,
};
use leveret_store::{
    once::{PostgresOnce, SqliteOnce},
    postgres, sqlite, sqlx,
};
use leveret_testkit::Postgres;

/// Where an attempt is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    AfterTheClaim,
    AfterTheWork,
    AfterTheMark,
    AfterTheCommit,
    Never,
}

fn delivery() -> Mark {
    let id: TaskId = "charge-17".parse().unwrap();
    Mark::of_task(&id, "worker")
}

macro_rules! promises {
    ($module:ident, $once:ident, $database:ty, $begin:expr, $place:expr) => {
        mod $module {
            use super::*;

            /// Runs one delivery of the task as a worker would. Whether it got through.
            async fn attempt(once: &$once, redelivered: bool, killed: Killed) -> Result<bool, OnceError> {
                let mark = delivery();
                if once.claim(&mark, redelivered).await? != Claim::First {
                    return Ok(true);
                }
                if killed == Killed::AfterTheClaim {
                    return Ok(false);
                }
                let mut transaction = once.pool().begin_with($begin).await.unwrap();
                work(&mut transaction).await;
                if killed == Killed::AfterTheWork {
                    return Ok(false);
                }
                once.done_in(&mut transaction, &mark).await?;
                if killed == Killed::AfterTheMark {
                    return Ok(false);
                }
                transaction.commit().await.unwrap();
                if killed != Killed::AfterTheCommit {
                    // What the layer does after any handler is harmless.
                    once.done(&mark).await?;
                }
                Ok(killed != Killed::AfterTheCommit)
            }

            async fn effects(once: &$once) -> i64 {
                sqlx::query_scalar("SELECT count(*) FROM charges").fetch_one(once.pool()).await.unwrap()
            }

            async fn work(connection: &mut <$database as sqlx::Database>::Connection) {
                sqlx::query("INSERT INTO charges (cents) VALUES (100)").execute(connection).await.unwrap();
            }

            #[tokio::test]
            async fn an_attempt_that_is_killed_anywhere_leaves_no_double_and_no_lost_effect() {
                for killed in [
                    Killed::AfterTheClaim,
                    Killed::AfterTheWork,
                    Killed::AfterTheMark,
                    Killed::AfterTheCommit,
                    Killed::Never,
                ] {
                    let (once, _kept) = $place.await;
                    let through = attempt(&once, false, killed).await.unwrap();
                    assert_eq!(through, killed == Killed::Never);
                    // What is not acknowledged comes again.
                    assert!(attempt(&once, true, Killed::Never).await.unwrap());
                    assert_eq!(effects(&once).await, 1, "killed {killed:?}");
                    assert!(attempt(&once, true, Killed::Never).await.unwrap());
                    assert_eq!(effects(&once).await, 1, "killed {killed:?}");
                }
            }

            #[tokio::test]
            async fn an_attempt_that_was_taken_over_cannot_commit() {
                let (once, _kept) = $place.await;
                let cut_off = delivery();
                assert_eq!(once.claim(&cut_off, false).await.unwrap(), Claim::First);
                // The connection to the broker is lost, the handler goes on; its task comes again and is done.
                assert!(attempt(&once, true, Killed::Never).await.unwrap());
                let mut transaction = once.pool().begin_with($begin).await.unwrap();
                work(&mut transaction).await;
                assert!(matches!(once.done_in(&mut transaction, &cut_off).await, Err(OnceError::Lost { .. })));
                transaction.rollback().await.unwrap();
                assert_eq!(effects(&once).await, 1);
            }

            #[tokio::test]
            async fn of_two_attempts_at_once_one_commits() {
                let (once, _kept) = $place.await;
                // Without any claim, as of a handler that uses nothing but its transaction.
                let attempts: Vec<_> = (0..8)
                    .map(|_| {
                        let once = once.clone();
                        tokio::spawn(async move {
                            let mut transaction = once.pool().begin_with($begin).await.unwrap();
                            work(&mut transaction).await;
                            once.done_in(&mut transaction, &delivery()).await?;
                            transaction.commit().await.unwrap();
                            Ok::<_, OnceError>(())
                        })
                    })
                    .collect();
                let mut committed = 0;
                for attempt in attempts {
                    match attempt.await.unwrap() {
                        Ok(()) => committed += 1,
                        Err(error) => assert!(matches!(error, OnceError::Lost { .. }), "{error:?}"),
                    }
                }
                assert_eq!((committed, effects(&once).await), (1, 1));
            }

            #[tokio::test]
            async fn a_lease_that_is_over_does_not_matter_while_nobody_has_taken_it() {
                let (once, _kept) = $place.await;
                let clock = Clock::held(UnixMillis(1_800_000_000_000));
                let once = $once::new(once.pool().clone(), clock.clone());
                let slow = delivery();
                assert_eq!(once.claim(&slow, false).await.unwrap(), Claim::First);
                clock.advance(Mark::DEFAULT_LEASE + Duration::from_secs(1));
                let mut transaction = once.pool().begin_with($begin).await.unwrap();
                once.done_in(&mut transaction, &slow).await.unwrap();
                transaction.commit().await.unwrap();
                assert_eq!(once.claim(&delivery(), true).await.unwrap(), Claim::Done);
            }
        }
    };
}

promises!(on_sqlite, SqliteOnce, sqlx::Sqlite, "BEGIN IMMEDIATE", async {
    let folder = tempfile::tempdir().unwrap();
    let pool = sqlite::open(folder.path().join("shop.db")).await.unwrap();
    sqlx::query("CREATE TABLE charges (cents INTEGER NOT NULL)").execute(&pool).await.unwrap();
    (SqliteOnce::new(pool, Clock::system()), folder)
});

promises!(on_postgres, PostgresOnce, sqlx::Postgres, "BEGIN", async {
    let database = Postgres::shared().await.database().await;
    let pool = postgres::connect(database.url()).await.unwrap();
    sqlx::query("CREATE TABLE charges (cents INTEGER NOT NULL)").execute(&pool).await.unwrap();
    (PostgresOnce::new(pool, Clock::system()), database)
});
