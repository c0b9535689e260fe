//! The engine against a real broker and real databases, by a clock that the test moves.

#![expect(clippy::unwrap_used, reason = "a test reports by failing")]

mod centre;

#[path = "engine/away.rs"]
mod away;
#[path = "engine/cancel.rs"]
mod cancel;
#[path = "engine/clock.rs"]
mod clock;
#[path = "engine/rig.rs"]
mod rig;
#[path = "engine/tasks.rs"]
mod tasks;

use std::time::Duration;

use centre::{NOON, both, name};
use leveret_common::message::Message;
use leveret_producer::centre::store::{RunEnd, TickState};
use leveret_testkit::{eventually, eventually_eq};
use rig::{MINUTE, PATIENCE, Rig};
use serde_json::json;

use TickState::{Buffered, Cancelled, Dead, Done, Lost, Missed, Pending, Published, Skipped};

#[tokio::test(flavor = "multi_thread")]
async fn each_tick_is_published_once_to_a_queue_that_is_declared_for_it() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("a", json!({"cron": "* * * * *", "queue": "reports", "payload": {"n": 1}})).await;
        let engine = rig.engine().await;
        rig.pass(1);
        // Nothing takes it at first. It is tried again as time goes on, and by then the queue is there.
        eventually(PATIENCE, async || {
            rig.clock.advance(Duration::from_millis(250));
            rig.ticks("a").await.iter().any(|tick| tick.state == Published)
        })
        .await;
        assert!(rig.clock.now() < NOON + 2 * MINUTE, "it took {} tries", engine.stats().failures);
        rig.clock.advance((NOON + 2 * MINUTE).since(rig.clock.now()));
        rig.states("a", &[Published; 2]).await;
        // One that is saved while the engine runs.
        rig.save("n/b", json!({"cron": "* * * * *", "queue": "reports"})).await;
        rig.pass(1);
        rig.states("n/b", &[Published]).await;
        rig.states("a", &[Published; 3]).await;
        let messages = rig.vhost.take_all("reports").await;
        let mut ids: Vec<_> = messages.iter().map(|message| message.id().unwrap()).collect();
        let mut expected: Vec<_> = [rig.ticks("a").await, rig.ticks("n/b").await].concat();
        ids.sort();
        expected.sort_by(|a, b| a.task_id.cmp(&b.task_id));
        assert_eq!(ids, expected.iter().map(|tick| tick.task_id.to_string()).collect::<Vec<_>>());
        assert_eq!(messages[0].header_text("leveret-schedule").unwrap(), "a");
        assert_eq!(messages[0].json(), json!({"n": 1}));
        eventually_eq(PATIENCE, 0, async || rig.outbox().await).await;
        let stored = rig.store.schedule(&name("a")).await.unwrap();
        assert_eq!((stored.number, stored.last_tick_at), (3, Some(NOON + 3 * MINUTE)));
        let stats = engine.stop().await;
        assert_eq!((stats.decided, stats.published, stats.waiting), (4, 4, 0));
        assert!(rig.store.shards().await.unwrap().iter().all(|shard| shard.holder.is_none()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_of_a_time_without_a_centre_are_made_up_for_as_each_schedule_says() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        for missed in ["skip", "latest", "all"] {
            rig.save(missed, json!({"cron": "* * * * *", "missed": missed, "catch_up": "1h"})).await;
        }
        rig.save("often", json!({"every": "1s"})).await;
        rig.save("old", json!({"at": "2027-01-01T12:01:00Z", "catch_up": "1m"})).await;
        rig.clock.advance(3 * MINUTE + Duration::from_secs(30));
        let engine = rig.engine().await;
        rig.states("skip", &[Missed; 3]).await;
        rig.states("latest", &[Missed, Missed, Published]).await;
        rig.states("all", &[Published; 3]).await;
        rig.states("old", &[Missed]).await;
        rig.states("often", &[Missed, Published]).await;
        let often = rig.ticks("often").await;
        assert_eq!((often[0].count, often[1].scheduled_at), (209, rig.clock.now()));
        assert!(often[0].reason.as_deref().unwrap().contains("209 ticks up to 2027-01-01T12:03:29"), "{often:?}");
        assert_eq!(rig.tasks("default", 5).await.len(), 5);
        assert_eq!(engine.stop().await.missed, 3 + 2 + 1 + 209);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_are_put_off_and_ticks_that_are_asked_for_are_published() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("a", json!({"cron": "@yearly", "payload": 1})).await;
        let engine = rig.engine().await;
        let later = Message::raw("t", vec![0, 255], "a/b").to_stored(&rig.clock).unwrap();
        let later = rig.store.publish_later(later, NOON + MINUTE, "default", None).await.unwrap();
        let now = rig.store.run_schedule_now(&name("a"), Some(json!("other")), &[], None).await.unwrap();
        assert_eq!(rig.tasks("default", 1).await, [now.to_string()]);
        let from = NOON - 3 * 366 * 24 * 60 * MINUTE;
        assert_eq!(rig.store.backfill_schedule(&name("a"), from, NOON, 10, &[], None).await.unwrap(), 4);
        rig.tasks("default", 4).await;
        rig.pass(1);
        assert_eq!(rig.tasks("default", 1).await, [later.to_string()]);
        assert!(!rig.store.cancel_delayed(&later, None).await.unwrap());
        let stats = engine.stop().await;
        assert_eq!((stats.published, stats.delayed), (5, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_whose_predecessor_has_not_ended_does_what_its_policy_says() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        for overlap in ["allow", "skip", "buffer-one", "buffer-all", "cancel-running", "terminate-running"] {
            rig.save(overlap, json!({"cron": "* * * * *", "overlap": overlap})).await;
        }
        let engine = rig.engine().await;
        for minute in 1..=3 {
            rig.pass(1);
            for schedule in ["allow", "skip", "buffer-one", "buffer-all", "cancel-running", "terminate-running"] {
                eventually(PATIENCE, async || {
                    let ticks = rig.ticks(schedule).await;
                    ticks.len() == minute && ticks.iter().all(|tick| tick.state != Pending)
                })
                .await;
            }
        }
        rig.states("allow", &[Published; 3]).await;
        rig.states("skip", &[Published, Skipped, Skipped]).await;
        rig.states("buffer-one", &[Published, Buffered, Skipped]).await;
        rig.states("buffer-all", &[Published, Buffered, Buffered]).await;
        rig.states("cancel-running", &[Published, Skipped, Buffered]).await;
        rig.states("terminate-running", &[Published; 3]).await;
        let skipped = rig.ticks("skip").await.remove(1).reason.unwrap();
        assert_eq!(skipped, "the run of skip at 2027-01-01T12:01:00.000Z has not ended");
        for (schedule, end) in [("skip", RunEnd::Done), ("buffer-one", RunEnd::Dead("broken".to_owned()))] {
            rig.ended(&rig.ticks(schedule).await[0].task_id, end).await;
        }
        rig.ended(&rig.ticks("buffer-all").await[0].task_id, RunEnd::Done).await;
        rig.ended(&rig.ticks("cancel-running").await[0].task_id, RunEnd::Cancelled).await;
        rig.states("buffer-one", &[Dead, Published, Skipped]).await;
        rig.states("buffer-all", &[Done, Published, Buffered]).await;
        rig.states("cancel-running", &[Cancelled, Skipped, Published]).await;
        rig.pass(1);
        rig.states("skip", &[Done, Skipped, Skipped, Published]).await;
        assert_eq!(rig.ticks("buffer-one").await[0].reason.as_deref(), Some("broken"));
        let skip = rig.store.schedule(&name("skip")).await.unwrap();
        assert_eq!((skip.last_success_at, skip.number), (Some(NOON + 3 * MINUTE), 4));
        engine.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_of_a_group_run_one_after_another_by_priority() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        for (schedule, priority) in [("low", 1), ("high", 9), ("middle", 5)] {
            let json = json!({"cron": "@yearly", "overlap": "buffer-all", "group": "g", "priority": priority});
            rig.save(schedule, json).await;
        }
        let engine = rig.engine().await;
        rig.store.run_schedule_now(&name("low"), None, &[], None).await.unwrap();
        rig.states("low", &[Published]).await;
        for schedule in ["low", "middle", "high"] {
            rig.pass(1);
            rig.store.run_schedule_now(&name(schedule), None, &[], None).await.unwrap();
        }
        rig.ended(&rig.ticks("low").await[0].task_id, RunEnd::Done).await;
        for schedule in ["high", "middle"] {
            rig.states(schedule, &[Published]).await;
            rig.states("low", &[Done, Buffered]).await;
            rig.ended(&rig.ticks(schedule).await[0].task_id, RunEnd::Done).await;
        }
        rig.states("low", &[Done, Published]).await;
        engine.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_brings_the_next_or_a_pause() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("after", json!({"after": "2m"})).await;
        rig.save("fails", json!({"cron": "* * * * *", "pause_after": 2})).await;
        rig.save("lost", json!({"cron": "* * * * *", "overlap": "skip", "lost_after": "3m"})).await;
        let engine = rig.engine().await;
        rig.pass(1);
        rig.states("fails", &[Published]).await;
        rig.states("lost", &[Published]).await;
        rig.pass(1);
        rig.states("after", &[Published]).await;
        rig.states("fails", &[Published; 2]).await;
        rig.states("lost", &[Published, Skipped]).await;
        assert_eq!(rig.store.schedule(&name("after")).await.unwrap().next, None);
        rig.pass(1);
        rig.ended(&rig.ticks("after").await[0].task_id, RunEnd::Done).await;
        let next = rig.store.schedule(&name("after")).await.unwrap().next.unwrap();
        assert_eq!(next.scheduled_at, NOON + 5 * MINUTE);
        for tick in rig.ticks("fails").await {
            rig.ended(&tick.task_id, RunEnd::Dead("no disk".to_owned())).await;
        }
        let fails = rig.store.schedule(&name("fails")).await.unwrap();
        assert_eq!(fails.paused.as_deref(), Some("failed 2 times in a row, at last with: no disk"));
        assert_eq!(fails.next, None);
        rig.pass(2);
        rig.states("after", &[Done, Published]).await;
        eventually(PATIENCE, async || rig.ticks("lost").await[0].state == Lost).await;
        engine.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_waits_until_its_window_is_over() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("short", json!({"at": "2027-01-01T12:01:00Z", "catch_up": "1m"})).await;
        rig.save("long", json!({"at": "2027-01-01T12:01:00Z"})).await;
        let nobody = rig.engine_at("amqp://127.0.0.1:1/").await;
        rig.pass(1);
        rig.states("short", &[Pending]).await;
        rig.states("long", &[Pending]).await;
        rig.pass(2);
        rig.states("short", &[Missed]).await;
        // It ends without having published: the next does it, under the same id.
        nobody.stop().await;
        let engine = rig.engine().await;
        rig.states("long", &[Published]).await;
        assert_eq!(rig.tasks("default", 1).await, [rig.ticks("long").await[0].task_id.to_string()]);
        engine.stop().await;
        assert_eq!(rig.outbox().await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn centres_share_the_shards_and_take_over_from_one_that_is_gone() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("a", json!({"cron": "* * * * *"})).await;
        let one = rig.engine().await;
        let two = rig.engine().await;
        let three = rig.engine().await;
        let shares = async || {
            let mut shares = [&one, &two, &three].map(|engine| engine.health().shards);
            shares.sort_unstable();
            shares
        };
        eventually_eq(PATIENCE, [21, 21, 22], shares).await;
        assert_eq!(rig.store.centres().await.unwrap().len(), 3);
        two.stop().await;
        // Dropped, it says nothing: its lease has to end.
        drop(three);
        eventually_eq(PATIENCE, 64, async || one.health().shards).await;
        rig.pass(1);
        rig.states("a", &[Published]).await;
        assert_eq!(rig.tasks("default", 1).await.len(), 1);
        one.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_centre_whose_shards_were_taken_decides_nothing() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("a", json!({"cron": "* * * * *"})).await;
        let engine = rig.engine().await;
        // As if another had thought it dead: the engine learns of it by its next transaction, or its next beat.
        let take = "UPDATE leveret_centre_shards SET holder = 'other', fence = fence + 1";
        let beat = "INSERT INTO leveret_centre_centres (id, name, version, started_at, beat_at, ends_at)
            VALUES ('other', 'other', '1', 0, 0, 99999999999999)";
        // At one moment: shards of one that is not alive are free.
        let mut transaction = rig.store.database().begin().await.unwrap();
        transaction.execute(take, []).await.unwrap();
        transaction.execute(beat, []).await.unwrap();
        transaction.commit().await.unwrap();
        rig.pass(1);
        eventually_eq(PATIENCE, 0, async || engine.health().shards).await;
        assert!(rig.ticks("a").await.is_empty());
        let gone = "UPDATE leveret_centre_centres SET ends_at = 0 WHERE id = 'other'";
        rig.store.database().execute(gone, []).await.unwrap();
        rig.states("a", &[Published]).await;
        engine.stop().await;
    })
    .await;
}
