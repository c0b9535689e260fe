//! The tasks of ticks are known before a worker has them.

use std::{collections::BTreeMap, time::Duration};

use leveret_common::{
    client::Client,
    clock::UnixMillis,
    config::BrokerSettings,
    event::{Happening, TaskEvent},
    message::Message,
    registry::Instance,
    task::TaskId,
};
use leveret_producer::{
    centre::{
        engine::{Engine, EngineOptions},
        store::{
            Expected, RunEnd, Source, TickState,
            tasks::{TaskFilter, TaskState, Told},
        },
        watch::{WatchOptions, Watcher},
    },
    plan::{Calendar, Facts, TickKind},
};
use leveret_testkit::{eventually, eventually_eq};
use serde_json::json;

use crate::{
    centre::{NOON, both, definition, name},
    rig::{MINUTE, PATIENCE, Rig},
};

/// What a worker tells of a task that begins and is done.
fn run(id: &TaskId, schedule: &str, at: UnixMillis) -> [Told; 2] {
    [Happening::Started { waited_ms: Some(5) }, Happening::done(5, None)].map(|what| {
        let event = TaskEvent {
            id: id.clone(),
            task: "t".to_owned(),
            queue: "default".to_owned(),
            attempt: 1,
            at,
            trace_id: None,
            replays: 0,
            schedule: Some(schedule.to_owned()),
            scheduled_at: Some(at),
            labels: BTreeMap::new(),
            what,
        };
        Told::by("one", Instance::new(), event)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_of_a_tick_is_found_before_a_worker_has_it() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("n/a", json!({"cron": "* * * * *", "labels": {"team": "billing"}})).await;
        let engine = rig.engine().await;
        rig.pass(1);
        rig.states("n/a", &[TickState::Published]).await;
        rig.task_states("n/a", &[TaskState::Published]).await;
        let tick = rig.ticks("n/a").await.remove(0);
        let task = rig.tasks_of("n/a").await.remove(0);
        assert_eq!((&task.id, task.state, task.attempt), (&tick.task_id, TaskState::Published, 0));
        assert_eq!((task.namespace.as_str(), task.task.as_str(), task.queue.as_str()), ("n", "t", "default"));
        assert_eq!((task.scheduled_at, task.due_at), (Some(NOON + MINUTE), Some(NOON + MINUTE)));
        assert_eq!(task.created_at, tick.decided_at);
        let labels = BTreeMap::from([("team".to_owned(), "billing".to_owned())]);
        let filter = TaskFilter { labels, namespaces: vec!["n".to_owned()], ..TaskFilter::default() };
        assert_eq!(rig.store.search(&filter, None, 9).await.unwrap().items.len(), 1);

        // What a worker tells is joined with it, also when it tells before it is known that the broker has the task.
        let second = Facts {
            schedule: name("n/a"),
            scheduled_at: NOON + 2 * MINUTE,
            kind: TickKind::Tick,
            number: 2,
            last_success: None,
            payload: None,
        };
        rig.store.apply(&run(&second.task_id(), "n/a", NOON + 2 * MINUTE)).await.unwrap();
        rig.pass(1);
        rig.states("n/a", &[TickState::Published; 2]).await;
        rig.store.apply(&run(&tick.task_id, "n/a", NOON + MINUTE)).await.unwrap();
        rig.task_states("n/a", &[TaskState::Done; 2]).await;
        // It writes what is left.
        engine.stop().await;
        for task in rig.tasks_of("n/a").await {
            assert_eq!((task.labels["team"].as_str(), task.state), ("billing", TaskState::Done));
            assert_eq!((task.namespace.as_str(), task.worker.as_deref()), ("n", Some("one")));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_scheduled_and_what_is_called_off_is_cancelled() {
    both(async |store, clock| {
        use TaskState::{Cancelled, Published, Scheduled};
        let rig = Rig::new(store, clock).await;
        for overlap in ["buffer-one", "cancel-running"] {
            rig.save(overlap, json!({"cron": "* * * * *", "overlap": overlap})).await;
        }
        let engine = rig.engine().await;
        for minute in 1..=3 {
            rig.pass(1);
            for schedule in ["buffer-one", "cancel-running"] {
                eventually(PATIENCE, async || {
                    let ticks = rig.ticks(schedule).await;
                    ticks.len() == minute && ticks.iter().all(|tick| tick.state != TickState::Pending)
                })
                .await;
            }
        }
        // The third of the one was skipped: it has no task.
        rig.task_states("buffer-one", &[Published, Scheduled]).await;
        rig.task_states("cancel-running", &[Published, Cancelled, Scheduled]).await;
        let replaced = rig.tasks_of("cancel-running").await.remove(1);
        assert_eq!(replaced.error.as_deref(), Some("a later tick took its place"));
        assert_eq!(replaced.ended_at, Some(NOON + 3 * MINUTE));
        rig.ended(&rig.ticks("cancel-running").await[0].task_id, RunEnd::Cancelled).await;
        rig.task_states("cancel-running", &[Published, Cancelled, Published]).await;
        rig.store.remove_schedule(&name("buffer-one"), Expected::Any, None).await.unwrap();
        rig.task_states("buffer-one", &[Published, Cancelled]).await;
        let removed = rig.tasks_of("buffer-one").await.remove(1);
        assert_eq!(removed.error.as_deref(), Some("the schedule was removed"));
        engine.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_seen_to_wait_and_to_be_given_up() {
    both(async |store, clock| {
        use TaskState::{Cancelled, Published, Scheduled};
        let rig = Rig::new(store, clock).await;
        rig.save("short", json!({"at": "2027-01-01T12:01:00Z", "catch_up": "1m"})).await;
        rig.save("long", json!({"at": "2027-01-01T12:01:00Z"})).await;
        rig.save("asked", json!({"cron": "@yearly"})).await;
        let asked = rig.store.run_schedule_now(&name("asked"), None, &[], None).await.unwrap();
        assert_eq!(rig.store.task(&asked).await.unwrap().unwrap().state, Scheduled);
        let later = Message::raw("t", "", "a/b").to_stored(&rig.clock).unwrap();
        let later = rig.store.publish_later(later, NOON + MINUTE, "default", None).await.unwrap();
        let nobody = rig.engine_at("amqp://127.0.0.1:1/").await;
        rig.pass(1);
        rig.task_states("short", &[Scheduled]).await;
        rig.task_states("long", &[Scheduled]).await;
        rig.pass(2);
        rig.task_states("short", &[Cancelled]).await;
        let given_up = rig.tasks_of("short").await.remove(0);
        assert!(given_up.error.unwrap().starts_with("it could not be published within its catch-up window"));
        nobody.stop().await;
        let engine = rig.engine().await;
        rig.task_states("long", &[Published]).await;
        rig.task_states("asked", &[Published]).await;
        // One that was put off over REST is published as well.
        eventually(PATIENCE, async || {
            rig.store.task(&later).await.unwrap().is_some_and(|task| task.state == Published)
        })
        .await;
        engine.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_that_were_missed_have_no_task() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("a", json!({"cron": "* * * * *"})).await;
        rig.clock.advance(3 * MINUTE + Duration::from_secs(30));
        let engine = rig.engine().await;
        rig.states("a", &[TickState::Missed, TickState::Missed, TickState::Published]).await;
        rig.task_states("a", &[TaskState::Published]).await;
        let tasks = rig.tasks_of("a").await;
        assert_eq!(tasks.iter().map(|task| task.scheduled_at).collect::<Vec<_>>(), [Some(NOON + 3 * MINUTE)]);
        engine.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_hear_of_the_tasks_of_ticks() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        let settings = BrokerSettings::new(rig.vhost.url()).unwrap();
        let watcher = Watcher::start(rig.store.clone(), settings.clone(), WatchOptions::default()).await.unwrap();
        let mut follower = watcher.subscribe();
        rig.save("a", json!({"cron": "* * * * *"})).await;
        let client = Client::open(settings, rig.clock.clone()).unwrap();
        let options = EngineOptions { announcer: Some(watcher.announcer()), ..EngineOptions::default() };
        let engine = Engine::start(rig.store.clone(), client, options).await.unwrap();
        rig.pass(1);
        let told = tokio::time::timeout(PATIENCE, async {
            loop {
                let task = follower.recv().await.unwrap();
                if task.state == TaskState::Published {
                    return task;
                }
            }
        });
        let told = told.await.unwrap();
        assert_eq!((told.schedule.as_deref(), told.scheduled_at), (Some("a"), Some(NOON + MINUTE)));
        engine.stop().await;
        watcher.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_nobody_can_decide_about_is_counted_as_overdue() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        // Its calendar is gone when the engine looks for it.
        let calendar = Calendar { name: "days".to_owned(), days: BTreeMap::new() };
        let broken = definition(json!({"cron": "* * * * *", "calendars": ["days"]}));
        rig.store.save_schedule(&name("broken"), &broken, &[calendar], Source::Api, Expected::Any, None).await.unwrap();
        rig.save("whole", json!({"cron": "* * * * *"})).await;
        rig.clock.advance(MINUTE + Duration::from_secs(11));
        let engine = rig.engine().await;
        rig.states("whole", &[TickState::Published]).await;
        eventually_eq(PATIENCE, 1, async || engine.health().overdue).await;
        engine.stop().await;
    })
    .await;
}
