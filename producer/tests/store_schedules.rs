//! Schedules, ticks and tasks that are put off, as both databases keep them.

#![expect(clippy::unwrap_used, reason = "a test reports by failing")]

mod centre;

use std::time::Duration;

use centre::{NOON, both, definition, name};
use leveret_common::{clock::UnixMillis, message::Message};
use leveret_producer::{
    centre::store::{Expected, ScheduleError, ScheduleFilter, Source, Store, TickState},
    plan::{Calendar, TickKind},
};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

async fn save(store: &Store, schedule: &str, json: Value) -> i64 {
    let saved = store.save_schedule(&name(schedule), &definition(json), &[], Source::Api, Expected::Any, None).await;
    saved.unwrap().revision
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_kept_with_its_next_tick() {
    both(async |store, clock| {
        let hourly = definition(json!({"cron": "@hourly", "payload": {"a": [1.5, null]}}));
        let saved =
            store.save_schedule(&name("n/a"), &hourly, &[], Source::File, Expected::Absent, None).await.unwrap();
        assert_eq!((saved.revision, saved.is_new, saved.next.unwrap().scheduled_at), (1, true, NOON + 60 * MINUTE));
        let stored = store.schedule(&name("n/a")).await.unwrap();
        assert_eq!((&stored.definition, stored.source, stored.next), (&hourly, Source::File, saved.next));
        assert_eq!((stored.number, stored.runs_left, stored.created_at), (0, None, NOON));
        // The same again is no change.
        let again = store.save_schedule(&name("n/a"), &hourly, &[], Source::File, Expected::Any, None).await.unwrap();
        assert_eq!((again.revision, again.has_changed), (1, false));
        // What is due already stays due when only the arguments change.
        clock.advance(90 * MINUTE);
        let other = definition(json!({"cron": "@hourly", "payload": 2}));
        let saved =
            store.save_schedule(&name("n/a"), &other, &[], Source::File, Expected::Revision(1), None).await.unwrap();
        assert_eq!((saved.revision, saved.next.unwrap().scheduled_at), (2, NOON + 60 * MINUTE));
        let daily = definition(json!({"cron": "@daily", "runs": 3}));
        let saved = store.save_schedule(&name("n/a"), &daily, &[], Source::File, Expected::Any, None).await.unwrap();
        assert_eq!((saved.revision, saved.next.unwrap().scheduled_at), (3, NOON + 12 * 60 * MINUTE));
        assert_eq!(store.schedule(&name("n/a")).await.unwrap().runs_left, Some(3));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_somebody_else_is_not_overwritten() {
    both(async |store, _| {
        let hourly = definition(json!({"cron": "@hourly"}));
        let save = async |expected| store.save_schedule(&name("a"), &hourly, &[], Source::Api, expected, None).await;
        let revision = async |result: Result<_, ScheduleError>| match result {
            Err(ScheduleError::Changed { revision, .. }) => revision,
            _ => panic!("it was overwritten"),
        };
        assert_eq!(revision(save(Expected::Revision(1)).await.map(drop)).await, None);
        save(Expected::Absent).await.unwrap();
        assert_eq!(revision(save(Expected::Absent).await.map(drop)).await, Some(1));
        let pause = store.pause_schedule(&name("a"), "why", Expected::Revision(7), None).await;
        assert_eq!(revision(pause.map(drop)).await, Some(1));
        let remove = store.remove_schedule(&name("a"), Expected::Revision(7), None).await;
        assert_eq!(revision(remove).await, Some(1));
        store.remove_schedule(&name("a"), Expected::Revision(1), None).await.unwrap();
        let absent = store.schedule(&name("a")).await.unwrap_err();
        assert!(matches!(absent, ScheduleError::Absent { .. }));
        let invalid = definition(json!({"cron": "61 * * * *"}));
        let invalid =
            store.save_schedule(&name("a"), &invalid, &[], Source::Api, Expected::Any, None).await.unwrap_err();
        assert!(matches!(invalid, ScheduleError::Invalid(_)), "{invalid}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_schedule_has_no_ticks_and_makes_none_up() {
    both(async |store, clock| {
        save(&store, "a", json!({"cron": "@hourly"})).await;
        assert_eq!(store.pause_schedule(&name("a"), "maintenance", Expected::Revision(1), None).await.unwrap(), 2);
        let paused = store.schedule(&name("a")).await.unwrap();
        assert_eq!((paused.paused.as_deref(), paused.next), (Some("maintenance"), None));
        clock.advance(150 * MINUTE);
        let (revision, next) = store.resume_schedule(&name("a"), &[], Expected::Any, None).await.unwrap();
        assert_eq!((revision, next.unwrap().scheduled_at), (3, NOON + 180 * MINUTE));
        assert_eq!(store.resume_schedule(&name("a"), &[], Expected::Any, None).await.unwrap(), (3, next));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_found_page_by_page() {
    both(async |store, _| {
        for (schedule, json) in [
            ("b", json!({"cron": "@hourly", "labels": {"team": "x", "a.b": "c"}})),
            ("a", json!({"cron": "@daily", "description": "Nightly 100% report"})),
            ("other/a", json!({"every": "1m", "labels": {"team": "y"}})),
        ] {
            save(&store, schedule, json).await;
        }
        store.pause_schedule(&name("a"), "why", Expected::Any, None).await.unwrap();
        let found = async |filter: ScheduleFilter| {
            let page = store.schedules(&filter, None, 10).await.unwrap();
            page.items.iter().map(|found| found.name.to_string()).collect::<Vec<_>>()
        };
        let all = ScheduleFilter::default;
        assert_eq!(found(all()).await, ["a", "b", "other/a"]);
        let label = |name: &str, value: Option<&str>| ScheduleFilter {
            label: Some((name.to_owned(), value.map(str::to_owned))),
            ..all()
        };
        assert_eq!(found(label("team", None)).await, ["b", "other/a"]);
        assert_eq!(found(label("team", Some("y"))).await, ["other/a"]);
        assert_eq!(found(label("a.b", Some("c"))).await, ["b"]);
        let text = |text: &str| ScheduleFilter { text: Some(text.to_owned()), ..all() };
        assert_eq!(found(text("100% REPORT")).await, ["a"]);
        assert!(found(text("100_ report")).await.is_empty());
        assert_eq!(found(text("other/")).await, ["other/a"]);
        assert_eq!(found(ScheduleFilter { paused: Some(true), ..all() }).await, ["a"]);
        assert_eq!(found(ScheduleFilter { namespace: Some("other".to_owned()), ..all() }).await, ["other/a"]);
        assert!(found(ScheduleFilter { source: Some(Source::File), ..all() }).await.is_empty());
        let first = store.schedules(&all(), None, 2).await.unwrap();
        let second = store.schedules(&all(), first.next.as_deref(), 2).await.unwrap();
        assert_eq!((first.items.len(), second.items.len(), second.next), (2, 1, None));
        assert!(matches!(store.schedules(&all(), Some("x"), 2).await, Err(ScheduleError::Cursor { .. })));
        assert_eq!(store.schedule_count().await.unwrap(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_asks_for_ticks() {
    both(async |store, _| {
        save(&store, "a", json!({"cron": "@hourly", "payload": 1})).await;
        let one = store.run_schedule_now(&name("a"), Some(json!({"x": 1})), &[], None).await.unwrap();
        let two = store.run_schedule_now(&name("a"), None, &[], None).await.unwrap();
        assert_ne!(one, two);
        let from = NOON - 5 * 60 * MINUTE;
        assert_eq!(store.backfill_schedule(&name("a"), from, NOON, 4, &[], None).await.unwrap(), 4);
        assert_eq!(store.backfill_schedule(&name("a"), from, NOON, 100, &[], None).await.unwrap(), 2);
        let ticks = store.ticks(&name("a"), None, 100).await.unwrap().items;
        let kinds: Vec<_> = ticks.iter().map(|tick| tick.kind).collect();
        assert_eq!(kinds, [&[TickKind::Now; 2][..], &[TickKind::Backfill; 6]].concat());
        assert!(ticks.iter().all(|tick| tick.state == TickState::Pending));
        let page = store.ticks(&name("a"), None, 3).await.unwrap();
        let rest = store.ticks(&name("a"), page.next.as_deref(), 100).await.unwrap();
        assert_eq!([page.items, rest.items].concat(), ticks);
        // Where runs may not overlap they wait for each other.
        save(&store, "b", json!({"cron": "@hourly", "overlap": "skip"})).await;
        store.run_schedule_now(&name("b"), None, &[], None).await.unwrap();
        assert_eq!(store.ticks(&name("b"), None, 9).await.unwrap().items[0].state, TickState::Buffered);
        store.remove_schedule(&name("b"), Expected::Any, None).await.unwrap();
        let ticks = store.ticks(&name("b"), None, 9).await.unwrap().items;
        assert_eq!(
            (ticks[0].state, ticks[0].reason.as_deref()),
            (TickState::Skipped, Some("the schedule was removed"))
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_follow_a_calendar_holds_up_no_other() {
    both(async |store, _| {
        let calendar =
            |name: &str, json: Value| Calendar { name: name.to_owned(), days: serde_json::from_value(json).unwrap() };
        let before = [calendar("holidays", json!({})), calendar("gone", json!({}))];
        for (schedule, calendars) in
            [("a", json!(["holidays"])), ("b", json!(["holidays", "gone"])), ("c", json!(["holidays"]))]
        {
            let daily = definition(json!({"cron": "0 9 * * *", "calendars": calendars}));
            let saved = store.save_schedule(&name(schedule), &daily, &before, Source::Api, Expected::Any, None).await;
            assert_eq!(saved.unwrap().next.unwrap().scheduled_at, NOON + 21 * 60 * MINUTE);
        }
        let after = [calendar("holidays", json!({"2027-01-02": {"kind": "off"}}))];
        let followed = store.calendar_changed("holidays", &after).await.unwrap();
        let left: Vec<_> = followed.left.iter().map(|(name, error)| (name.to_string(), error.key)).collect();
        assert_eq!((followed.changed, left), (2, vec![("b".to_owned(), "calendars")]));
        for (schedule, hours) in [("a", 45), ("b", 21), ("c", 45)] {
            let next = store.schedule(&name(schedule)).await.unwrap().next.unwrap();
            assert_eq!(next.scheduled_at, NOON + hours * 60 * MINUTE, "{schedule}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_of_all_schedules_are_found_by_when_they_were_decided_about() {
    both(async |store, clock| {
        save(&store, "a", json!({"cron": "@hourly"})).await;
        save(&store, "n/b", json!({"cron": "@hourly"})).await;
        let first = store.run_schedule_now(&name("a"), None, &[], None).await.unwrap();
        clock.advance(MINUTE);
        let second = store.run_schedule_now(&name("n/b"), None, &[], None).await.unwrap();
        let found = async |since, limit| {
            let found = store.ticks_since(since, limit).await.unwrap();
            found.into_iter().map(|tick| tick.task_id).collect::<Vec<_>>()
        };
        assert_eq!(found(NOON, 9).await, [second.clone(), first]);
        assert_eq!(found(NOON, 1).await, std::slice::from_ref(&second));
        assert_eq!(found(NOON + MINUTE, 9).await, [second]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_put_off_listed_and_called_off() {
    both(async |store, clock| {
        let later = async |body: &[u8], minutes: u32, namespace: &str| {
            let message = Message::raw("t", body.to_vec(), "a/b").header("x", 1).to_stored(&clock).unwrap();
            let id = store.publish_later(message.clone(), NOON + minutes * MINUTE, namespace, None).await.unwrap();
            assert_eq!(id.as_str(), message.id);
            // Twice is once.
            store.publish_later(message.clone(), NOON, namespace, None).await.unwrap();
            (id, message)
        };
        let (two, message) = later(&[0, 255], 2, "n").await;
        let (one, _) = later(b"{}", 1, "m").await;
        let ids = async |namespace, cursor, limit| {
            let page = store.delayed(namespace, cursor, limit).await.unwrap();
            (page.items.iter().map(|task| task.task_id.clone()).collect::<Vec<_>>(), page.next)
        };
        let (first, next) = ids(None, None, 1).await;
        assert_eq!(first, std::slice::from_ref(&one));
        assert_eq!(ids(None, next.as_deref(), 9).await, (vec![two.clone()], None));
        assert_eq!(ids(Some("n"), None, 9).await.0, std::slice::from_ref(&two));
        let found = store.delayed_task(&two).await.unwrap().unwrap();
        assert_eq!((found.message, found.due_at, found.created_at), (message, NOON + 2 * MINUTE, NOON));
        assert!(store.reschedule(&one, UnixMillis(i64::MAX), None).await.unwrap());
        assert_eq!(ids(None, None, 9).await.0, [two.clone(), one.clone()]);
        assert!(store.cancel_delayed(&one, None).await.unwrap());
        assert!(!store.cancel_delayed(&one, None).await.unwrap());
        assert!(!store.reschedule(&one, NOON, None).await.unwrap());
        assert_eq!(store.delayed_task(&one).await.unwrap(), None);
    })
    .await;
}
