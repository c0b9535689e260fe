//! What every store of marks promises, asked of each.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::{any::Any, sync::Arc, time::Duration};

use leveret_common::{
    clock::{Clock, UnixMillis},
    once::{Claim, Mark, MemoryOnce, OnceError, OnceStore},
    task::TaskId,
};
use leveret_store::{
    once::{PostgresOnce, RedisOnce, SqliteOnce},
    postgres, sqlite, sqlx,
};
use leveret_testkit::{Postgres, Redis, eventually_eq};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

struct Place {
    once: Arc<dyn OnceStore>,
    clock: Clock,
    _kept: Box<dyn Any + Send>,
}

fn place(once: impl OnceStore, clock: Clock, kept: impl Any + Send) -> Place {
    Place { once: Arc::new(once), clock, _kept: Box::new(kept) }
}

fn noon() -> Clock {
    Clock::held(UnixMillis(1_800_000_000_000))
}

async fn in_memory() -> Place {
    let clock = noon();
    place(MemoryOnce::new(clock.clone()), clock, ())
}

async fn in_sqlite() -> Place {
    let clock = noon();
    let folder = tempfile::tempdir().unwrap();
    let pool = sqlite::open(folder.path().join("once.db")).await.unwrap();
    place(SqliteOnce::new(pool, clock.clone()), clock, folder)
}

async fn in_postgres() -> Place {
    let clock = noon();
    let database = Postgres::shared().await.database().await;
    let pool = postgres::connect(database.url()).await.unwrap();
    place(PostgresOnce::new(pool, clock.clone()), clock, database)
}

async fn in_redis() -> Place {
    let clock = noon();
    let redis = Redis::shared().await;
    let once = RedisOnce::connect(redis.url(), clock.clone()).await.unwrap();
    place(once.prefix(&redis.prefix()), clock, ())
}

impl Place {
    async fn claim(&self, mark: &Mark) -> Claim {
        self.once.claim(mark, false).await.unwrap()
    }

    async fn claim_redelivered(&self, mark: &Mark) -> Claim {
        self.once.claim(mark, true).await.unwrap()
    }

    fn after(&self, length: Duration) -> UnixMillis {
        self.clock.now() + length
    }

    /// How claims at once by all of these ended.
    async fn race(&self, marks: Vec<Mark>) -> Vec<Claim> {
        let claims: Vec<_> = marks
            .into_iter()
            .map(|mark| {
                let once = self.once.clone();
                tokio::spawn(async move { once.claim(&mark, false).await.unwrap() })
            })
            .collect();
        let mut ended = Vec::new();
        for claim in claims {
            ended.push(claim.await.unwrap());
        }
        ended
    }
}

fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

/// A delivery of task `text`.
fn task(text: &str) -> Mark {
    Mark::of_task(&id(text), "worker").lease(MINUTE).window(HOUR)
}

/// A delivery of task `text`, which sends the invoice `17`.
fn invoice(text: &str) -> Mark {
    Mark::unique("invoice.send", "17", &id(text), "worker").lease(MINUTE).window(HOUR)
}

fn duplicate(of: &str) -> Claim {
    Claim::Duplicate { of: id(of) }
}

fn is_lost(result: &Result<(), OnceError>) -> bool {
    matches!(result, Err(OnceError::Lost { .. }))
}

async fn of_50_tasks_with_one_key_one_is_first(place: Place) {
    let ids: Vec<String> = (0..50).map(|number| format!("task-{number}")).collect();
    let claims = place.race(ids.iter().map(|id| invoice(id)).collect()).await;
    let first: Vec<_> = (0..50).filter(|&number| claims[number] == Claim::First).collect();
    assert_eq!(first.len(), 1, "{claims:?}");
    let others = claims.iter().filter(|&claim| *claim == duplicate(&ids[first[0]]));
    assert_eq!(others.count(), 49);
}

async fn of_50_deliveries_of_one_task_one_is_first(place: Place) {
    let claims = place.race((0..50).map(|_| task("a")).collect()).await;
    assert_eq!(claims.iter().filter(|&claim| *claim == Claim::First).count(), 1, "{claims:?}");
    let busy = Claim::Busy { until: place.after(MINUTE) };
    assert_eq!(claims.iter().filter(|&claim| *claim == busy).count(), 49);
}

async fn what_is_done_stays_done_for_its_window(place: Place) {
    let mark = task("a");
    assert_eq!(place.claim(&mark).await, Claim::First);
    place.once.done(&mark).await.unwrap();
    assert_eq!(place.claim(&task("a")).await, Claim::Done);
    assert_eq!(place.claim_redelivered(&task("a")).await, Claim::Done);
    assert_eq!(place.claim(&task("b")).await, Claim::First);
    place.clock.advance(HOUR - Duration::from_millis(1));
    assert_eq!(place.claim(&task("a")).await, Claim::Done);
    place.clock.advance(Duration::from_millis(1));
    assert_eq!(place.claim(&task("a")).await, Claim::First);
}

async fn a_second_task_with_the_key_is_a_duplicate_for_the_window(place: Place) {
    let mark = invoice("a");
    assert_eq!(place.claim(&mark).await, Claim::First);
    assert_eq!(place.claim(&invoice("b")).await, duplicate("a"));
    assert_eq!(place.claim_redelivered(&invoice("b")).await, duplicate("a"));
    place.once.done(&mark).await.unwrap();
    assert_eq!(place.claim(&invoice("b")).await, duplicate("a"));
    assert_eq!(place.claim(&invoice("a")).await, Claim::Done);
    let other_name = Mark::unique("invoice.print", "17", &id("b"), "worker");
    assert_eq!(place.claim(&other_name).await, Claim::First);
    place.clock.advance(HOUR);
    assert_eq!(place.claim(&invoice("b")).await, Claim::First);
}

async fn the_claim_of_a_dead_holder_ends_with_its_lease(place: Place) {
    assert_eq!(place.claim(&task("a")).await, Claim::First);
    assert_eq!(place.claim(&invoice("b")).await, Claim::First);
    let until = place.after(MINUTE);
    place.clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(place.claim(&task("a")).await, Claim::Busy { until });
    assert_eq!(place.claim(&invoice("c")).await, duplicate("b"));
    place.clock.advance(Duration::from_millis(1));
    assert_eq!(place.claim(&task("a")).await, Claim::First);
    assert_eq!(place.claim(&invoice("c")).await, Claim::First);
    assert_eq!(place.claim(&invoice("b")).await, duplicate("c"));
}

async fn a_redelivered_task_takes_over_at_once(place: Place) {
    let (killed, second) = (task("a"), task("a"));
    assert_eq!(place.claim(&killed).await, Claim::First);
    assert_eq!(place.claim_redelivered(&second).await, Claim::First);
    // Should the first one live after all, it learns of it, and cannot free what is not its own.
    assert!(is_lost(&place.once.extend(&killed).await));
    place.once.release(&killed).await.unwrap();
    place.once.forget(&killed).await.unwrap();
    assert_eq!(place.claim(&task("a")).await, Claim::Busy { until: place.after(MINUTE) });
    place.once.extend(&second).await.unwrap();
    // But what took effect did so, whoever says it.
    place.once.done(&killed).await.unwrap();
    assert_eq!(place.claim(&task("a")).await, Claim::Done);
    place.once.done(&second).await.unwrap();
}

async fn a_claim_that_is_extended_outlives_its_lease(place: Place) {
    let mark = task("a");
    assert_eq!(place.claim(&mark).await, Claim::First);
    for _ in 0..5 {
        place.clock.advance(MINUTE - Duration::from_millis(1));
        place.once.extend(&mark).await.unwrap();
    }
    assert_eq!(place.claim(&task("a")).await, Claim::Busy { until: place.after(MINUTE) });
    place.clock.advance(MINUTE);
    assert!(is_lost(&place.once.extend(&mark).await), "a lease that is over is not brought back");
    assert_eq!(place.claim(&mark).await, Claim::First, "but may be claimed again");
}

async fn asking_again_with_the_same_mark_changes_nothing(place: Place) {
    let mark = invoice("a");
    assert_eq!(place.claim(&mark).await, Claim::First);
    assert_eq!(place.claim(&mark).await, Claim::First);
    place.once.done(&mark).await.unwrap();
    place.once.done(&mark).await.unwrap();
    assert_eq!(place.claim(&mark).await, Claim::Done);
}

async fn a_task_that_failed_keeps_its_key_for_the_next_attempt(place: Place) {
    let mark = invoice("a");
    assert_eq!(place.claim(&mark).await, Claim::First);
    place.once.release(&mark).await.unwrap();
    place.clock.advance(HOUR - Duration::from_millis(1));
    assert_eq!(place.claim(&invoice("b")).await, duplicate("a"));
    let next = invoice("a");
    assert_eq!(place.claim(&next).await, Claim::First);
    place.once.release(&next).await.unwrap();
    place.clock.advance(HOUR);
    assert_eq!(place.claim(&invoice("b")).await, Claim::First);
}

async fn a_task_that_is_dead_gives_its_key_away(place: Place) {
    let mark = invoice("a");
    assert_eq!(place.claim(&mark).await, Claim::First);
    place.once.forget(&mark).await.unwrap();
    let other = invoice("b");
    assert_eq!(place.claim(&other).await, Claim::First);
    // A replay of the dead letter comes too late.
    assert_eq!(place.claim(&invoice("a")).await, duplicate("b"));
    place.once.done(&other).await.unwrap();
    place.once.forget(&other).await.unwrap();
    assert_eq!(place.claim(&invoice("a")).await, duplicate("b"), "what is done is not forgotten");
}

async fn a_claim_that_another_task_took_cannot_be_done(place: Place) {
    let slow = invoice("a");
    assert_eq!(place.claim(&slow).await, Claim::First);
    place.clock.advance(MINUTE);
    assert_eq!(place.claim(&invoice("b")).await, Claim::First);
    assert!(is_lost(&place.once.done(&slow).await));
    // Where nobody has taken it, a lease that is over does not matter.
    let late = task("c");
    assert_eq!(place.claim(&late).await, Claim::First);
    place.clock.advance(MINUTE);
    place.once.done(&late).await.unwrap();
    assert_eq!(place.claim(&task("c")).await, Claim::Done);
}

async fn any_id_and_any_key_can_be_kept(place: Place) {
    let strange = ["zero\0byte", "'; drop table leveret_once; --", "ключ 🐇", "\u{1}\n\t%_\\"];
    for text in strange {
        let id = id(text);
        let long = text.repeat(20_000);
        for mark in [Mark::of_task(&id, "worker"), Mark::unique(text, &long, &id, "worker")] {
            assert_eq!(place.claim(&mark).await, Claim::First, "{text:?}");
            place.once.done(&mark).await.unwrap();
            assert_eq!(place.claim(&mark).await, Claim::Done, "{text:?}");
        }
    }
    let forever = Mark::of_task(&id("f"), "worker").window(Duration::MAX).lease(Duration::MAX);
    assert_eq!(place.claim(&forever).await, Claim::First);
    place.once.done(&forever).await.unwrap();
    assert_eq!(place.claim(&forever).await, Claim::Done);
}

macro_rules! every_store {
    ($($promise:ident)*) => {
        every_store! { @ in_this_process: super::in_memory; $($promise)* }
        every_store! { @ on_sqlite: super::in_sqlite; $($promise)* }
        every_store! { @ on_postgres: super::in_postgres; $($promise)* }
        every_store! { @ on_redis: super::in_redis; $($promise)* }
    };
    (@ $store:ident: $make:path; $($promise:ident)*) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    super::$promise($make().await).await;
                }
            )*
        }
    };
}

every_store! {
    of_50_tasks_with_one_key_one_is_first
    of_50_deliveries_of_one_task_one_is_first
    what_is_done_stays_done_for_its_window
    a_second_task_with_the_key_is_a_duplicate_for_the_window
    the_claim_of_a_dead_holder_ends_with_its_lease
    a_redelivered_task_takes_over_at_once
    a_claim_that_is_extended_outlives_its_lease
    asking_again_with_the_same_mark_changes_nothing
    a_task_that_failed_keeps_its_key_for_the_next_attempt
    a_task_that_is_dead_gives_its_key_away
    a_claim_that_another_task_took_cannot_be_done
    any_id_and_any_key_can_be_kept
}

macro_rules! rows_that_are_over_are_removed {
    ($pool:expr, $once:ident) => {{
        let (pool, clock) = ($pool, noon());
        let once = $once::new(pool.clone(), clock.clone());
        for number in 0..20 {
            once.done(&task(&number.to_string())).await.unwrap();
        }
        clock.advance(HOUR);
        once.claim(&task("later"), false).await.unwrap();
        let count = async || sqlx::query_scalar("SELECT count(*) FROM leveret_once").fetch_one(&pool).await.unwrap();
        eventually_eq(Duration::from_secs(20), 1_i64, count).await;
    }};
}

#[tokio::test]
async fn rows_that_are_over_are_removed_from_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    rows_that_are_over_are_removed!(sqlite::open(folder.path().join("once.db")).await.unwrap(), SqliteOnce);
}

#[tokio::test]
async fn rows_that_are_over_are_removed_from_postgres() {
    let database = Postgres::shared().await.database().await;
    rows_that_are_over_are_removed!(postgres::connect(database.url()).await.unwrap(), PostgresOnce);
}

#[tokio::test]
async fn many_workers_may_make_the_tables_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let database = Postgres::shared().await.database().await;
    let (file, url) = (folder.path().join("once.db"), database.url().to_owned());
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (file, url) = (file.clone(), url.clone());
        starts.spawn(async move {
            sqlite::open(file).await.unwrap();
            postgres::connect(&url).await.unwrap();
        });
    }
    while let Some(started) = starts.join_next().await {
        started.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_says_so() {
    let nowhere = "127.0.0.1:1";
    let failed = postgres::connect(&format!("postgres://leveret@{nowhere}/none")).await.unwrap_err();
    assert!(failed.to_string().contains("PostgreSQL"), "{failed}");
    let failed = RedisOnce::connect(&format!("redis://{nowhere}/"), noon()).await.unwrap_err();
    assert!(failed.to_string().contains("Redis"), "{failed}");
    let failed = sqlite::open("/nowhere/at/all.db").await.unwrap_err();
    assert!(failed.to_string().contains("SQLite"), "{failed}");
}
