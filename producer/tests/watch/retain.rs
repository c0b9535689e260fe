//! What is old goes, a little at a time, and by one centre.

use std::time::Duration;

use leveret_common::clock::{Clock, UnixMillis};
use leveret_producer::centre::{
    store::{
        AuditEntry, AuditSearch,
        tasks::{RecordedState, TaskFilter, TaskRetention},
    },
    watch::{Retention, WatchOptions, Watcher},
};
use leveret_testkit::eventually;

use crate::stage::*;

#[tokio::test(flavor = "multi_thread")]
async fn tasks_go_by_age_and_by_number() {
    both(async |url| {
        let clock = Clock::held(START);
        let store = store(&url, clock.clone()).await;
        let left = async || {
            let page = store.search(&TaskFilter::default(), None, 100).await.unwrap();
            page.items.iter().map(|task| task.id.to_string()).collect::<Vec<_>>().join(" ")
        };
        for task in ["a", "b", "c", "d"] {
            store.apply(&[done(task, 0)]).await.unwrap();
            clock.advance(Duration::from_secs(1));
        }
        store.apply(&[started("e", 0)]).await.unwrap();
        store.record_published(&[record("f", 0, RecordedState::Scheduled)]).await.unwrap();
        let none = UnixMillis(0);
        let mut retention = TaskRetention { ended_before: none, silent_before: none, most: 100 };
        assert_eq!(store.retain_tasks(&retention, 10).await.unwrap(), 0);
        retention.most = 2;
        assert_eq!(store.retain_tasks(&retention, 1).await.unwrap(), 1, "a batch is not exceeded");
        assert_eq!(store.retain_tasks(&retention, 10).await.unwrap(), 1);
        assert_eq!(left().await, "f e d c");
        retention.ended_before = START + Duration::from_secs(3);
        store.retain_tasks(&retention, 10).await.unwrap();
        assert_eq!(left().await, "f e d");
        clock.advance(Duration::from_secs(1));
        store.apply(&[started("g", 4_000)]).await.unwrap();
        retention.most = 1;
        assert_eq!(store.retain_tasks(&retention, 10).await.unwrap(), 1, "nobody may ever tell of their end");
        assert_eq!(left().await, "g f d");
        retention.silent_before = START + Duration::from_secs(60);
        store.retain_tasks(&retention, 10).await.unwrap();
        assert_eq!(left().await, "f d", "what is held may be held for long");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_goes_by_age_and_by_number() {
    both(async |url| {
        let store = store(&url, Clock::held(START)).await;
        let left = async || {
            let log = store.audit_log(&AuditSearch::default(), 100).await.unwrap();
            log.into_iter().map(|entry| entry.object).collect::<Vec<_>>().join(" ")
        };
        // Two at a time, as one request may make them.
        for (number, object) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
            let at = START + Duration::from_secs(u64::try_from(number).unwrap() / 2);
            let entry = AuditEntry {
                id: format!("0199aaaa-0000-7000-8000-{number:012}"),
                at,
                token_id: "1".to_owned(),
                token_name: "ann".to_owned(),
                request_id: "7".to_owned(),
                namespace: None,
                action: "schedule.save".to_owned(),
                object: object.to_owned(),
                before: None,
                after: None,
            };
            store.audit(&entry).await.unwrap();
        }
        let never = UnixMillis(0);
        assert_eq!(store.retain_audit(never, 6, 10).await.unwrap(), 0);
        assert_eq!(store.retain_audit(never, 3, 1).await.unwrap(), 1, "a batch is not exceeded");
        assert_eq!(left().await, "f e d c b");
        assert_eq!(store.retain_audit(never, 3, 10).await.unwrap(), 2);
        assert_eq!(left().await, "f e d");
        assert_eq!(store.retain_audit(START + Duration::from_secs(2), 3, 10).await.unwrap(), 1);
        assert_eq!(left().await, "f e");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watcher_lets_go_of_tasks_and_ticks() {
    both(async |url| {
        let store = store(&url, Clock::system()).await;
        let tick = "INSERT INTO leveret_centre_ticks (namespace, schedule, scheduled_at, kind, shard, number, task_id, \
            queue, state, decided_at, lost_after) VALUES ('default', 'nightly', $1, 'tick', 0, 1, $2, 'mail', $3, $1, 1)";
        for number in 0..1_200_i64 {
            let state = if number == 7 { "running" } else { "done" };
            let values = [number.into(), number.to_string().into(), state.into()];
            store.database().execute(tick, values).await.unwrap();
        }
        let rows = store.database().fetch("SELECT count(*) AS ticks FROM leveret_centre_ticks", []).await.unwrap();
        assert_eq!(rows[0].number("ticks").unwrap(), 1_200);
        let events: Vec<_> = (0..1_200).map(|task| done(&format!("task {task}"), 0)).collect();
        store.apply(&events).await.unwrap();
        let vhost = vhost().await;
        let retention = Retention { tasks: Duration::ZERO, every: Duration::from_millis(100), ..Retention::default() };
        let options = WatchOptions { retention: Some(retention), ..WatchOptions::default() };
        let watcher = Watcher::start(store.clone(), settings(vhost.url()), options).await.unwrap();
        let left = async |table: &'static str| {
            let rows = store.database().search(format!("SELECT count(*) AS left FROM {table}"), []).await.unwrap();
            rows[0].number("left").unwrap()
        };
        eventually(PATIENCE, async || left("leveret_centre_tasks").await == 0).await;
        eventually(PATIENCE, async || left("leveret_centre_ticks").await == 1).await;
        watcher.stop().await;
        assert_eq!(left("leveret_centre_duties").await, 0, "another may begin at once");
    })
    .await;
}
