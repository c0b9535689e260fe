//! A delayed task runs when its time has come: not before, and behind nothing that is delayed for longer.

use std::time::Duration;

use lapin::types::AMQPValue;
use leveret::{Clock, Outcome, QueueOptions, QueueSettings, Tiers, UnixMillis};
use leveret_testkit::{eventually, eventually_eq, foreign as clients};
use leveret_tests::{PATIENCE, Place, foreign, probe, quick, start, text};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_is_not_held_up_by_an_hour_in_the_same_queue() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.queue("default", QueueOptions::concurrency(1))).await;
    let client = place.client().await;
    let hour = client.publish_message(probe("hour").delay(Duration::from_secs(3_600))).await.unwrap();
    eventually_eq(PATIENCE, 1, async || place.vhost.ready("default.retry.1h").await).await;
    let published = Clock::system().now();
    client.publish_message(probe("second").delay(Duration::from_secs(1))).await.unwrap();
    client.publish_message(probe("now")).await.unwrap();

    let first = runs.next().await;
    assert_eq!(first.arguments, "now");
    first.done();
    let second = runs.next().await;
    assert_eq!((second.arguments.clone(), second.count()), (json!("second"), (1, false)));
    let waited = second.started.since(published);
    assert!(waited >= Duration::from_secs(1), "early: after {waited:?}");
    second.done();
    worker.stop().await;
    let waiting = place.vhost.take("default.retry.1h").await.unwrap();
    assert_eq!(waiting.id().as_deref(), Some(hour.as_str()));
    assert_eq!(waiting.header_text("leveret-attempt").as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_delay_is_cut_short_however_many_tiers_it_goes_through() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.queue("default", quick(16))).await;
    let client = place.client().await;
    // With tiers of 50 ms, 200 ms and 1 s: one step, a few, and up to ten.
    let delays = [1, 50, 130, 249, 999, 1_300, 1_749];
    let published = Clock::system().now();
    for delay in delays {
        client.publish_message(probe(delay).delay(Duration::from_millis(delay))).await.unwrap();
    }
    for _ in delays {
        let run = runs.next().await;
        let (delay, waited) = (run.arguments.as_u64().unwrap(), run.started.since(published));
        assert!(waited >= Duration::from_millis(delay), "{delay} ms early: after {waited:?}");
        assert_eq!(run.count(), (1, false), "waiting costs no attempt");
    }
    worker.stop().await;
}

/// The worker's clock alone decides, and it stands still here: the task comes back from its tier again and again, and
/// each time it is sent away.
#[tokio::test(flavor = "multi_thread")]
async fn a_delay_of_days_is_made_of_many_steps() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let clock = Clock::held(UnixMillis(1_000_000_000_000));
    let tiers = Tiers::new(vec![Duration::from_millis(20)]).unwrap();
    let queue = QueueOptions::concurrency(1).settings(QueueSettings { tiers, ..QueueSettings::default() });
    let worker = start(worker.clock(clock.clone()).queue("default", queue)).await;
    let client = place.client().await;
    let days = Duration::from_secs(3 * 86_400);
    let id = client.publish_message(probe("days").not_before(clock.now() + days)).await.unwrap();

    clock.advance(days - Duration::from_millis(1));
    // Two tasks that come after it are run while it still waits: it has been looked at in between.
    for step in 0..2 {
        eventually(PATIENCE, async || place.vhost.ready("default.retry.20ms").await == 1).await;
        client.publish_message(probe(step)).await.unwrap();
        let run = runs.next().await;
        assert_eq!(run.arguments, step);
    }
    clock.advance(Duration::from_millis(1));
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (id.to_string(), (1, false)));
    let last_step = &run.context.headers().to_json()["x-death"][0];
    assert_eq!((&last_step["queue"], &last_step["reason"]), (&json!("default.retry.20ms"), &json!("expired")));
    run.done();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snooze_costs_no_attempt() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    let id = client.publish_message(probe("sleepy").max_attempts(2)).await.unwrap().to_string();
    let snooze = Duration::from_millis(120);
    for _ in 0..3 {
        let run = runs.next().await;
        assert_eq!((run.id(), run.count()), (id.clone(), (1, false)));
        let snoozed = Clock::system().now();
        run.end(Ok(Outcome::Snooze(snooze)));
        let run = runs.next().await;
        let waited = run.started.since(snoozed);
        assert!(waited >= snooze, "early: after {waited:?}");
        assert_eq!(run.attempt(), 1);
        run.end(Ok(Outcome::Snooze(Duration::ZERO)));
    }
    runs.next().await.fail("now it counts");
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (id, (2, false)));
    run.done();
    worker.stop().await;
    assert_eq!(place.vhost.ready("default.dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_delays_with_a_header() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(4).await;
    let at = Clock::system().now() + Duration::from_millis(700);
    let line = |id: &str| {
        json!({"routing_key": "default", "properties": {"type": "probe", "message_id": id,
            "headers": {"leveret-not-before": at.0}}, "body": id})
        .to_string()
    };
    // Both clients write the number as they like: it is the same moment. amqp-publish can only write texts.
    clients::pika("publish.py", &[place.vhost.url()], &line("pika")).await;
    clients::amqplib("publish.mjs", &[place.vhost.url()], &line("amqplib")).await;
    let as_text = foreign("text", [("leveret-not-before", text(&at.to_string()))]);
    place.vhost.publish("leveret.tasks", "default", as_text, "\"text\"").await;
    let as_timestamp = foreign("int", [("leveret-not-before", AMQPValue::LongLongInt(at.0))]);
    place.vhost.publish("leveret.tasks", "default", as_timestamp, "\"int\"").await;
    for _ in 0..4 {
        let run = runs.next().await;
        assert!(run.started >= at, "{} is early by {:?}", run.arguments, at.since(run.started));
        assert_eq!(run.attempt(), 1);
    }
    worker.stop().await;
}
