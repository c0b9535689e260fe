//! Workers share the work of a queue.

use std::collections::BTreeSet;

use leveret_testkit::eventually_eq;
use leveret_tests::{PATIENCE, Place, probe, quick, start};

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_each_get_a_share_and_no_task_twice() {
    let place = Place::new().await;
    let (first, mut first_runs) = place.working(2).await;
    let (second, mut second_runs) = place.working(2).await;
    let client = place.client().await;
    let published = client.publish_many((0..8).map(probe)).await;
    let published: BTreeSet<_> = published.into_iter().map(|id| id.unwrap().to_string()).collect();
    // Nothing ends here, so each worker has what it can run at once, and no more.
    let mut runs = first_runs.take(2).await;
    runs.extend(second_runs.take(2).await);
    assert_eq!(place.vhost.ready("default").await, 4);
    assert!(first_runs.begun().is_none() && second_runs.begun().is_none());
    // Whoever is free takes the next one: four more for the second, none for the first, which is still at work.
    let busy: Vec<_> = runs.drain(..2).collect();
    let mut seen: BTreeSet<_> = busy.iter().chain(&runs).map(|run| run.id()).collect();
    runs.clear();
    for _ in 0..4 {
        seen.insert(second_runs.next().await.id());
    }
    assert_eq!(seen, published);
    assert!(first_runs.begun().is_none());
    drop(busy);
    first.stop().await;
    second.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_task_holds_back_no_more_than_the_prefetch() {
    let place = Place::new().await;
    let (slow, mut slow_runs) = place.worker();
    let slow = start(slow.queue("default", quick(1).prefetch(3))).await;
    let client = place.client().await;
    client.publish_many((0..10).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
    let stuck = slow_runs.next().await;
    eventually_eq(PATIENCE, 7, async || place.vhost.ready("default").await).await;
    let (quick, mut quick_runs) = place.working(1).await;
    for _ in 0..7 {
        quick_runs.next().await.done();
    }
    assert!(slow_runs.begun().is_none());
    stuck.done();
    for _ in 0..2 {
        slow_runs.next().await.done();
    }
    quick.stop().await;
    slow.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_one_name_are_consumers_of_their_own() {
    let place = Place::new().await;
    let (first, mut first_runs) = place.worker();
    let (second, mut second_runs) = place.worker();
    let first = start(first.name("replica").queue("default", quick(1))).await;
    let second = start(second.name("replica").queue("default", quick(1))).await;
    assert_eq!(place.vhost.consumers("default").await, 2);
    let client = place.client().await;
    for _ in 0..3 {
        client.publish_many((0..2).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
        let both = (first_runs.next().await, second_runs.next().await);
        assert_eq!((both.0.context.worker(), both.1.context.worker()), ("replica", "replica"));
        assert_ne!(both.0.id(), both.1.id());
    }
    // One goes, the other stays.
    first.stop().await;
    client.publish_message(probe("alone")).await.unwrap();
    assert_eq!(second_runs.next().await.arguments, "alone");
    second.stop().await;
}
