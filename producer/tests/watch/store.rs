//! Rows follow from what was learnt, not from its order.

use std::time::Duration;

use leveret_common::{clock::Clock, event::Happening};
use leveret_producer::centre::store::tasks::{OpenCancel, RecordedState, Task, TaskFilter, TaskState, Told};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use crate::stage::*;

fn all_of_it() -> Vec<Told> {
    let progress = leveret_common::event::Progress { cursor: 3, total: Some(10), note: None };
    let result = serde_json::json!({ "zero": "a\0b", "pages": [1, 2] });
    vec![
        started("a", 0),
        event("a", 5, Happening::Progress(progress)),
        failed("a", 10, "no such host"),
        attempt(2, started("a", 120)),
        attempt(2, event("a", 125, Happening::Snoozed { ran_ms: 5, retry_at: START })),
        attempt(2, started("a", 150)),
        attempt(2, event("a", 160, Happening::done(10, Some(&result)))),
        started("b", 1),
        failed("b", 2, "zero \0"),
        attempt(2, dead("b", 3, "zero \0")),
        done("c", 9),
    ]
}

/// What is asked for is found by its queue, the latest first and a page at a time, until the tasks have ended.
#[tokio::test(flavor = "multi_thread")]
async fn open_cancels_are_found_until_the_tasks_have_ended() {
    both(async |url| {
        let clock = Clock::held(START);
        let store = store(&url, clock.clone()).await;
        let tasks = ["a", "b", "c", "d"];
        store.apply(&tasks.map(|task| started(task, 0))).await.unwrap();
        for task in tasks {
            clock.advance(Duration::from_millis(1));
            let task = store.task(&id(task)).await.unwrap().unwrap();
            let applied = store.request_cancel(&task, Some("zero \0"), None).await.unwrap();
            assert_eq!(applied.changed[0].cancel_requested_at, Some(clock.now()));
        }
        let page = store.open_cancels("mail", None, 3).await.unwrap();
        let ids = |page: &[OpenCancel]| page.iter().map(|open| open.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(&page), ["d", "c", "b"]);
        assert_eq!((page[0].replays, page[0].reason.as_deref()), (0, Some("zero \u{fffd}")));
        assert_eq!(ids(&store.open_cancels("mail", page.last(), 3).await.unwrap()), ["a"]);
        assert_eq!(store.open_cancels("other", None, 3).await.unwrap(), []);

        // One ends, and one is begun anew after it has died.
        let mut anew = started("c", 20);
        anew.event.replays = 1;
        store.apply(&[done("d", 10), anew]).await.unwrap();
        assert_eq!(ids(&store.open_cancels("mail", None, 3).await.unwrap()), ["b", "a"]);
        let task = store.task(&id("d")).await.unwrap().unwrap();
        clock.advance(Duration::from_millis(1));
        let late = store.request_cancel(&task, None, None).await.unwrap();
        assert_eq!((late.changed[0].state, late.changed[0].cancel_requested_at), (TaskState::Done, None));
        let listed = store.search(&TaskFilter::default(), None, 10).await.unwrap().items;
        let open = listed.iter().filter(|task| task.cancel_requested_at.is_some()).count();
        assert_eq!(open, 2);
    })
    .await;
}

/// The same rows, whatever the order, the batches and the repetitions; and with two centres at once.
#[tokio::test(flavor = "multi_thread")]
async fn any_order_gives_the_same_rows() {
    both(async |url| {
        let mut runner = TestRunner::new(Config::default());
        let mut wanted = None;
        for round in 0..8 {
            let (first, second) = (store(&url, Clock::held(START)).await, store(&url, Clock::held(START)).await);
            first.database().execute("DELETE FROM leveret_centre_tasks", []).await.unwrap();
            let mut events = all_of_it();
            events.extend(all_of_it());
            if round > 0 {
                events = Just(events).prop_shuffle().new_tree(&mut runner).unwrap().current();
            }
            let published = [record("a", -20, RecordedState::Published)];
            let (left, right) = events.split_at(events.len() / 2);
            let (one, other) = tokio::join!(
                async {
                    for batch in left.chunks(3) {
                        first.apply(batch).await.unwrap();
                    }
                },
                async {
                    second.record_published(&published).await.unwrap();
                    for batch in right.chunks(4) {
                        second.apply(batch).await.unwrap();
                    }
                },
            );
            let ((), ()) = (one, other);
            let mut rows = Vec::new();
            for task in ["a", "b", "c"] {
                rows.push(first.task(&id(task)).await.unwrap().unwrap());
            }
            let wanted = wanted.get_or_insert_with(|| rows.clone());
            assert_eq!(rows, *wanted, "round {round}");
            first.database().close().await;
            second.database().close().await;
        }
        let wanted: Vec<_> = wanted.unwrap();
        let states: Vec<_> = wanted.iter().map(|task| (task.state, task.attempt, task.attempts.len())).collect();
        assert_eq!(states, [(TaskState::Done, 2, 2), (TaskState::Dead, 2, 2), (TaskState::Done, 1, 1)]);
        assert_eq!(wanted[0].result.as_ref().unwrap()["pages"], serde_json::json!([1, 2]));
        assert_eq!(wanted[0].created_at.0, START.0 - 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_changes_nothing() {
    both(async |url| {
        let clock = Clock::held(START);
        let store = store(&url, clock.clone()).await;
        assert_eq!(store.apply(&all_of_it()).await.unwrap().changed.len(), 3);
        let before = store.task(&id("a")).await.unwrap().unwrap();
        clock.advance(PATIENCE);
        assert_eq!(store.apply(&all_of_it()).await.unwrap().changed, []);
        assert_eq!(store.task(&id("a")).await.unwrap().unwrap(), before);
        let news = store.apply(&[attempt(3, started("b", 200)), done("c", 9)]).await.unwrap().changed;
        assert_eq!(
            news.iter().map(|task| (task.id.as_str(), task.state)).collect::<Vec<_>>(),
            [("b", TaskState::Running)]
        );
        assert_eq!(news[0].changed_at, START + PATIENCE);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_centre_holds_is_listed_rescheduled_and_cancelled() {
    both(async |url| {
        let store = store(&url, Clock::held(START)).await;
        let held = |at, due| {
            let mut held = record("a", at, RecordedState::Scheduled);
            held.created_at = START;
            held.due_at = Some(due);
            held
        };
        let state = async || {
            let task = store.task(&id("a")).await.unwrap().unwrap();
            (task.state, task.due_at, task.ended_at)
        };
        let (soon, later) = (START + PATIENCE, START + PATIENCE + PATIENCE);
        store.record_published(&[held(0, soon)]).await.unwrap();
        assert_eq!(state().await, (TaskState::Scheduled, Some(soon), None));
        store.record_published(&[held(1, later)]).await.unwrap();
        assert_eq!(state().await, (TaskState::Scheduled, Some(later), None));

        let mut transaction = store.database().begin().await.unwrap();
        let mut cancelled = held(2, later);
        (cancelled.state, cancelled.reason) = (RecordedState::Cancelled, Some("not needed".to_owned()));
        store.record_tasks(&mut transaction, &[cancelled.clone()]).await.unwrap();
        drop(transaction);
        assert_eq!(state().await.0, TaskState::Scheduled, "that transaction never happened");
        store.record_published(&[cancelled]).await.unwrap();
        assert_eq!(state().await, (TaskState::Cancelled, Some(later), Some(START + Duration::from_millis(2))));
        assert_eq!(store.task(&id("a")).await.unwrap().unwrap().error.as_deref(), Some("not needed"));
        assert!(store.task(&id("b")).await.unwrap().is_none());
    })
    .await;
}

fn death(task: &str, at: i64, follows: bool) -> Told {
    Told { worker: None, follows, ..dead(task, at, "given out too often") }
}

/// What the broker declares dead ends a task that is known, and makes one known only if its message asks for that; a worker
/// that tells of the same attempt comes to the same, whoever is first.
#[tokio::test(flavor = "multi_thread")]
async fn deaths_by_the_broker_are_joined_in_any_order() {
    both(async |url| {
        let store = store(&url, Clock::held(START)).await;
        let changed = store.apply(&[death("a", 5, false), death("b", 5, true)]).await.unwrap().changed;
        assert_eq!(changed.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["b"]);
        assert!(store.task(&id("a")).await.unwrap().is_none());
        store.apply(&[started("a", 10), death("a", 5, false), death("c", 5, false)]).await.unwrap();
        let task = store.task(&id("a")).await.unwrap().unwrap();
        assert_eq!((task.state, task.worker.as_deref(), task.attempts.len()), (TaskState::Dead, Some("mail-1"), 1));
        assert_eq!((task.ended_at, task.error.as_deref()), (task.started_at, Some("given out too often")));
        assert!(store.task(&id("c")).await.unwrap().is_none());

        let both = [dead("d", 7, "no such host"), death("d", 5, true)];
        let reversed = [death("e", 5, true), dead("e", 7, "no such host")];
        for told in both.iter().chain(&reversed) {
            store.apply([told]).await.unwrap();
        }
        let [first, second] = [store.task(&id("d")).await.unwrap(), store.task(&id("e")).await.unwrap()];
        assert_eq!(first.as_ref().unwrap().attempts.len(), 1);
        let attempts = |task: Option<Task>| task.map(|task| task.attempts);
        assert_eq!(attempts(first), attempts(second));
    })
    .await;
}

/// PostgreSQL takes no zero in a text, and a worker may tell of an error that has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_tick_ends_whatever_its_error_says() {
    both(async |url| {
        let store = store(&url, Clock::held(START)).await;
        let tick = "INSERT INTO leveret_centre_ticks (namespace, schedule, scheduled_at, kind, shard, number, task_id, \
            queue, state, decided_at, lost_after) VALUES ('default', 'nightly', 1, 'tick', 0, 1, 'b', 'mail', 'running', 1, 1)";
        store.database().execute(tick, []).await.unwrap();
        store.apply(&[dead("b", 3, "zero \0")]).await.unwrap();
        let rows = store.database().fetch("SELECT state, reason FROM leveret_centre_ticks", []).await.unwrap();
        assert_eq!((rows[0].text("state").unwrap(), rows[0].text("reason").unwrap()), ("dead".into(), "zero \u{fffd}".into()));
    })
    .await;
}
