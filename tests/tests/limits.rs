//! Tasks keep to the limits of their workers: no more at once over all of them than a limit admits, and what a limit has
//! no room for makes room for others.

use std::time::Duration;

use leveret::{LimitSettings, Message, common::control::LimitChange, worker::control::Controlled};
use leveret_testkit::eventually;
use leveret_tests::{PATIENCE, Place, probe, quick, start};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_over_two_workers_until_the_limit_is_raised() {
    let place = Place::new().await;
    let limit = LimitSettings::concurrency(1);
    let (one, mut ones) = place.worker();
    let (other, mut others) = place.worker();
    let one = start(one.queue("default", quick(4)).limit("single", limit.clone())).await;
    let other = start(other.queue("default", quick(4)).limit("single", limit)).await;
    place.client().await.publish_many((0..6).map(probe)).await;
    for _ in 0..5 {
        let run = tokio::select! {
            run = ones.next() => run,
            run = others.next() => run,
        };
        assert!(ones.begun().is_none() && others.begun().is_none(), "two at once");
        run.done();
    }
    let last = tokio::select! {
        run = ones.next() => run,
        run = others.next() => run,
    };
    place.client().await.publish_many((6..8).map(probe)).await;
    let limits = one.limits().unwrap();
    let raised = LimitChange { name: "single".to_owned(), concurrency: Some(3), rate: None, reset: false };
    one.steering().set_limit(&raised).await.unwrap();
    assert_eq!(limits.list()[0].changed, Some(LimitSettings::concurrency(3).terms()));
    for _ in 0..2 {
        tokio::select! {
            run = ones.next() => run.done(),
            run = others.next() => run.done(),
        }
    }
    last.done();
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_key_that_is_full_make_room_for_others_and_count_no_attempt() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let limit = LimitSettings { by_key: true, ..LimitSettings::concurrency(1) };
    let worker = start(worker.queue("default", quick(3)).limit("each", limit)).await;
    let client = place.client().await;
    let of = |key: &str, number: u32| -> Message { probe(json!(number)).key(key) };
    client.publish_many((0..4).map(|number| of("full", number))).await;
    let first = runs.next().await;
    // Two more wait in the other runners, until they are sent away for longer than the patience.
    client.publish_many([of("free", 10)]).await;
    let free = runs.next().await;
    assert_eq!(free.arguments, json!(10));
    free.done();
    first.done();
    for _ in 0..3 {
        let run = runs.next().await;
        assert_eq!(run.attempt(), 1);
        assert!(runs.begun().is_none(), "two of one key at once");
        run.done();
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_when_the_worker_stops_goes_back_to_the_queue() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.queue("default", quick(4)).limit("single", LimitSettings::concurrency(1))).await;
    place.client().await.publish_many((0..3).map(probe)).await;
    let first = runs.next().await;
    let limits = worker.limits().unwrap().clone();
    eventually(PATIENCE, async || limits.list()[0].waiting == 2).await;
    let stopping = tokio::spawn(worker.stop());
    eventually(PATIENCE, async || place.vhost.ready("default").await == 2).await;
    first.done();
    tokio::time::timeout(Duration::from_secs(10), stopping).await.unwrap().unwrap();
    assert!(runs.next_or_end().await.is_none(), "it began another after it was told to stop");
    assert_eq!(place.vhost.ready("default").await, 2);
}
