//! A change and its line in the audit log: both or neither, in both databases.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test reports by failing")]

mod centre;

use std::time::Duration;

use centre::{NOON, both, definition, name};
use leveret_common::{
    clock::{Clock, UnixMillis},
    message::{Message, StoredMessage},
    task::TaskId,
};
use leveret_producer::centre::store::{
    AuditEntry, AuditSearch, DelayedTask, Expected, ScheduleError, Source, Store, StoredSchedule, TickRecord,
};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3_600);

fn line(id: &str, action: &str) -> AuditEntry {
    AuditEntry {
        id: id.to_owned(),
        at: NOON,
        token_id: "t".to_owned(),
        token_name: "ann".to_owned(),
        request_id: "r".to_owned(),
        namespace: None,
        action: action.to_owned(),
        object: "a".to_owned(),
        before: None,
        after: None,
    }
}

async fn lines(store: &Store) -> Vec<AuditEntry> {
    store.audit_log(&AuditSearch::default(), 100).await.unwrap()
}

/// All that a change can change.
async fn all(store: &Store) -> (Option<StoredSchedule>, Vec<TickRecord>, Vec<DelayedTask>) {
    let schedule = store.schedule(&name("a")).await.ok();
    let ticks = store.ticks(&name("a"), None, 100).await.unwrap().items;
    (schedule, ticks, store.delayed(None, None, 100).await.unwrap().items)
}

/// What a change needs to know.
struct Tables {
    store: Store,
    task: StoredMessage,
}

impl Tables {
    /// Makes a change; whether there was anything to change.
    async fn make(&self, what: &str, expected: Expected, change: &AuditEntry) -> Result<bool, ScheduleError> {
        let (store, schedule, change) = (&self.store, name("a"), Some(change));
        let id: TaskId = self.task.id.parse().unwrap();
        match what {
            "save" => {
                let hourly = definition(json!({"cron": "@hourly"}));
                let saved = store.save_schedule(&schedule, &hourly, &[], Source::Api, expected, change).await?;
                return Ok(saved.has_changed);
            }
            "pause" => store.pause_schedule(&schedule, "why", expected, change).await.map(drop)?,
            "resume" => store.resume_schedule(&schedule, &[], expected, change).await.map(drop)?,
            "run" => store.run_schedule_now(&schedule, Some(json!(1)), &[], change).await.map(drop)?,
            "backfill" => {
                let from = NOON - 2 * HOUR;
                store.backfill_schedule(&schedule, from, NOON, 9, &[], change).await.map(drop)?;
            }
            "publish" => store.publish_later(self.task.clone(), NOON + HOUR, "n", change).await.map(drop)?,
            "reschedule" => return Ok(store.reschedule(&id, UnixMillis(i64::MAX), change).await?),
            "cancel" => return Ok(store.cancel_delayed(&id, change).await?),
            "remove" => store.remove_schedule(&schedule, expected, change).await?,
            other => panic!("{other} is no change"),
        }
        Ok(true)
    }
}

fn tables(store: &Store, clock: &Clock) -> Tables {
    let task = Message::raw("t", b"{}".to_vec(), "a/b").to_stored(clock).unwrap();
    Tables { store: store.clone(), task }
}

const CHANGES: [&str; 9] = ["save", "pause", "resume", "run", "backfill", "publish", "reschedule", "cancel", "remove"];

#[tokio::test(flavor = "multi_thread")]
async fn a_change_has_one_line_or_is_not_made() {
    both(async |store: Store, clock: Clock| {
        let tables = tables(&store, &clock);
        store.audit(&line("taken", "other")).await.unwrap();
        for (made, what) in CHANGES.into_iter().enumerate() {
            let before = all(&store).await;
            let unwritten = tables.make(what, Expected::Any, &line("taken", what)).await;
            assert!(matches!(unwritten, Err(ScheduleError::Database(_))), "{what}: {unwritten:?}");
            assert_eq!(all(&store).await, before, "{what} without its line");
            assert_eq!(lines(&store).await.len(), made + 1, "{what}");
            assert!(tables.make(what, Expected::Any, &line(&format!("{made}"), what)).await.unwrap());
            assert_ne!(all(&store).await, before, "{what}");
            let lines = lines(&store).await;
            let of_this = lines.iter().filter(|line| line.action == what).count();
            assert_eq!((lines.len(), of_this), (made + 2, 1), "{what}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_and_what_changes_nothing_leave_no_line() {
    both(async |store: Store, clock: Clock| {
        let tables = tables(&store, &clock);
        for what in ["pause", "resume", "run", "backfill", "remove"] {
            let refused = tables.make(what, Expected::Any, &line("1", what)).await;
            assert!(matches!(refused, Err(ScheduleError::Absent { .. })), "{what}: {refused:?}");
        }
        for what in ["reschedule", "cancel"] {
            assert!(!tables.make(what, Expected::Any, &line("1", what)).await.unwrap(), "{what}");
        }
        let daily = definition(json!({"cron": "@daily"}));
        store.save_schedule(&name("a"), &daily, &[], Source::Api, Expected::Any, None).await.unwrap();
        for what in ["save", "pause", "resume", "remove"] {
            let refused = tables.make(what, Expected::Revision(7), &line("1", what)).await;
            assert!(matches!(refused, Err(ScheduleError::Changed { .. })), "{what}: {refused:?}");
        }
        // It is not paused.
        tables.make("resume", Expected::Any, &line("1", "resume")).await.unwrap();
        let change = line("1", "save");
        let same = store.save_schedule(&name("a"), &daily, &[], Source::Api, Expected::Any, Some(&change)).await;
        assert!(!same.unwrap().has_changed);
        assert_eq!(lines(&store).await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_says_what_came_of_the_change() {
    both(async |store: Store, clock: Clock| {
        let tables = tables(&store, &clock);
        let after = async |what: &str, after: Value| {
            let change = AuditEntry { after: Some(after), ..line(what, what) };
            tables.make(what, Expected::Any, &change).await.unwrap();
            let written = lines(&store).await.into_iter().find(|line| line.action == what).unwrap();
            written.after.unwrap()
        };
        assert_eq!(after("save", json!({"x": 1})).await, json!({"x": 1}));
        let run = after("run", json!({"payload": 1})).await;
        let tick = store.ticks(&name("a"), None, 1).await.unwrap().items.remove(0);
        assert_eq!(run, json!({"payload": 1, "task_id": tick.task_id}));
        assert_eq!(after("backfill", json!({"from": 2})).await, json!({"from": 2, "ticks": 3}));
    })
    .await;
}
