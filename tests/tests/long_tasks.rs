//! A task that runs for longer than the broker leaves a delivery unacknowledged runs once, and elsewhere when its worker
//! dies.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::time::Duration;

use futures_util::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use leveret::{BuildError, QueueOptions, QueueSettings, TaskPolicy};
use leveret_testkit::{Node, eventually_eq};
use leveret_tests::{PATIENCE, Place, probe, quick, short, start, victim::Victim, within};

/// The consumer timeout of the broker in these tests.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A broker that takes back what is unacknowledged for so long, and looks every second instead of every minute.
async fn impatient_broker(name: &str) -> (Node, Place) {
    let node = Node::private(name).await;
    node.ctl(&["eval", "application:set_env(rabbit, channel_tick_interval, 1000)."]).await;
    let timeout = format!("application:set_env(rabbit, consumer_timeout, {}).", TIMEOUT.as_millis());
    node.ctl(&["eval", &timeout]).await;
    let mut place = Place::on(node.broker()).await;
    place.settings.consumer_timeout = TIMEOUT;
    (node, place)
}

/// Waits until the broker has lost patience with a consumer that acknowledges nothing.
async fn broker_loses_patience(place: &Place) {
    place.vhost.declare("twin").await;
    place.vhost.publish("", "twin", BasicProperties::default(), "").await;
    let channel = place.vhost.channel().await;
    channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let consuming =
        channel.basic_consume(short("twin"), short("twin"), BasicConsumeOptions::default(), FieldTable::default());
    let mut deliveries = consuming.await.unwrap();
    deliveries.next().await.unwrap().unwrap();
    // Up to 4.2 the broker closes the channel, from 4.3 on it cancels the consumer.
    let end = within("the broker takes the delivery back", deliveries.next()).await;
    assert!(!matches!(end, Some(Ok(_))));
    place.vhost.take_all("twin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_once_however_often_the_broker_loses_patience() {
    let (_node, place) = impatient_broker("long").await;
    let (worker, mut runs) = place.worker();
    let policy = TaskPolicy::default().long(true).timeout(Duration::from_secs(3_600));
    let worker = start(worker.policy(policy).queue("default", quick(2))).await;
    let client = place.client().await;
    let id = client.publish_message(probe("hours").reply_to("twin", None)).await.unwrap();
    let run = runs.next().await;
    assert_eq!(run.count(), (1, false));
    for _ in 0..2 {
        broker_loses_patience(&place).await;
    }
    assert!(runs.begun().is_none() && !run.is_given_up(), "nobody else was given the task");
    run.done();
    eventually_eq(PATIENCE, 1, async || place.vhost.ready("twin").await).await;
    assert_eq!(place.vhost.take("twin").await.unwrap().header_text("leveret-task-id").as_deref(), Some(id.as_str()));
    // Nor is anything left of it.
    broker_loses_patience(&place).await;
    worker.stop().await;
    let left = place.vhost.queues().await;
    for queue in left.iter().filter(|queue| !queue.starts_with("default.retry")) {
        assert_eq!(place.vhost.ready(queue).await, 0, "{queue}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_elsewhere_when_its_worker_is_killed() {
    let (_node, place) = impatient_broker("long-killed").await;
    let mut victim = Victim::with_long_tasks(env!("CARGO_BIN_EXE_victim"), &place, TIMEOUT).attached().await;
    let id = place.client().await.publish_message(probe("hang")).await.unwrap();
    assert_eq!(victim.run().await, (id.to_string(), 1, false));
    broker_loses_patience(&place).await;
    let (worker, mut runs) = place.worker();
    let policy = TaskPolicy::default().long(true).timeout(Duration::from_secs(3_600));
    let worker = start(worker.policy(policy).queue("default", quick(1))).await;
    assert!(runs.begun().is_none());
    victim.kill().await;
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (id.to_string(), (1, true)), "given out before, and no attempt counted");
    run.fail("once");
    let again = runs.next().await;
    assert_eq!((again.id(), again.count()), (id.to_string(), (2, false)), "a retry is as usual");
    again.done();
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_kills_every_worker_ends_in_the_dead_letter_queue() {
    let place = Place::new().await;
    let settings = QueueSettings { delivery_limit: 1, ..QueueSettings::default() };
    let long = TaskPolicy::default().long(true);
    let (worker, _runs) = place.worker();
    let options = quick(1).settings(settings);
    // So that the queue has its limit.
    start(worker.policy(long.clone()).queue("default", options.clone())).await.stop().await;
    place.client().await.publish_message(probe("hours")).await.unwrap();
    for _ in 0..2 {
        let (worker, mut runs) = place.worker();
        let worker = start(worker.policy(long.clone()).queue("default", options.clone())).await;
        let mut run = runs.next().await;
        worker.stop_now().await;
        run.given_up().await;
    }
    let (worker, mut runs) = place.worker();
    let worker = start(worker.policy(long).queue("default", options)).await;
    eventually_eq(PATIENCE, 1, async || place.vhost.ready("default.dead").await).await;
    assert!(runs.begun().is_none(), "it is not run a third time");
    let dead = place.vhost.take("default.dead").await.unwrap();
    assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("delivery-limit"));
    assert_eq!(dead.header_text("leveret-error").as_deref(), Some("2 workers were lost while they ran it"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_now_gives_it_back() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.policy(TaskPolicy::default().long(true)).queue("default", quick(1))).await;
    let id = place.client().await.publish_message(probe("hours")).await.unwrap();
    let mut run = runs.next().await;
    worker.stop_now().await;
    run.given_up().await;
    let (worker, mut runs) = place.working(1).await;
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (id.to_string(), (1, true)));
    run.done();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_refuses_a_task_that_the_broker_would_take_back() {
    let place = Place::new().await;
    let hour = TaskPolicy::default().timeout(Duration::from_secs(3_600));
    let (worker, _) = place.worker();
    let refused = worker.policy(hour.clone()).build().unwrap_err();
    assert!(matches!(refused, BuildError::TooLong { .. }));
    let said = refused.to_string();
    for part in ["\"probe\" may run for 1h", "within 30m", "mark the task `long`", "raise consumer_timeout"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(place.worker().0.policy(hour.clone().long(true)).build().is_ok());
    let ordered = QueueSettings { shards: Some(2), ..QueueSettings::default() };
    let (worker, _) = place.worker();
    let worker = worker.queue("accounts", QueueOptions::concurrency(1).settings(ordered));
    let refused = worker.policy(hour.clone().long(true)).build().unwrap_err();
    assert!(matches!(refused, BuildError::LongInOrder { .. }), "{refused}");
    let (mut settings, policy) = (place.settings.clone(), hour.clone());
    settings.consumer_timeout = Duration::from_secs(7_200);
    assert!(leveret_tests::worker(settings).0.policy(policy).build().is_ok(), "the broker is patient enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_fetched_ahead_than_the_broker_has_patience_for() {
    let place = Place::new().await;
    // Of ten minutes two fit one after the other, of twenty they do not.
    for (minutes, prefetch) in [(10, 32), (20, 16)] {
        let policy = TaskPolicy::default().timeout(Duration::from_secs(minutes * 60));
        let worker = start(place.worker().0.policy(policy).queue("default", quick(16))).await;
        eventually_eq(PATIENCE, Some(prefetch), async || {
            place.consumers("default").await.first().map(|(_, prefetch)| *prefetch)
        })
        .await;
        worker.stop().await;
    }
}

/// The whole thing at its real size: `cargo test -p leveret-tests --test long_tasks -- --ignored` takes eight minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes eight minutes; the others do the same in seconds, at a broker that is more impatient"]
async fn three_minutes_at_a_broker_with_a_consumer_timeout_of_one() {
    let minute = Duration::from_secs(60);
    let node = Node::private("long-minutes").await;
    node.ctl(&["eval", "application:set_env(rabbit, consumer_timeout, 60000)."]).await;
    let mut place = Place::on(node.broker()).await;
    place.settings.consumer_timeout = minute;
    let policy = TaskPolicy::default().long(true).timeout(10 * minute);
    // Killed first: it has held the task for three minutes by then.
    let mut victim = Victim::with_long_tasks(env!("CARGO_BIN_EXE_victim"), &place, minute).attached().await;
    let id = place.client().await.publish_message(probe("hang")).await.unwrap();
    assert_eq!(victim.run().await, (id.to_string(), 1, false));
    tokio::time::sleep(3 * minute).await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.policy(policy).queue("default", quick(1))).await;
    assert!(runs.begun().is_none());
    victim.kill().await;
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (id.to_string(), (1, true)));
    // And then it runs for three minutes more, once.
    tokio::time::sleep(3 * minute).await;
    assert!(runs.begun().is_none() && !run.is_given_up());
    run.done();
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}
