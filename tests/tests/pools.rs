//! Queues that share their runners by weight, and queues that are paused.

use std::time::Duration;

use leveret::{PoolOptions, QueueOptions, TaskPolicy};
use leveret_testkit::eventually_eq;
use leveret_tests::{PATIENCE, Place, probe, quick, start};

fn share(prefetch: u16) -> QueueOptions {
    quick(1).prefetch(prefetch)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_turns_of_queues_go_by_their_weights_whatever_came_first() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let pool = PoolOptions::concurrency(1);
    let pool = pool.queue_with("urgent", 4, share(60)).queue_with("bulk", 1, share(60)).queue_with("gate", 1, share(1));
    let worker = start(worker.pool(pool)).await;
    let client = place.client().await;
    // The one runner is kept busy until all that is to be ordered is here.
    client.publish_message(probe("gate").queue("gate")).await.unwrap();
    let gate = runs.next().await;
    for queue in ["bulk", "urgent"] {
        let messages = (0..50).map(|_| probe(queue).queue(queue));
        client.publish_many(messages).await.into_iter().for_each(|id| drop(id.unwrap()));
        eventually_eq(PATIENCE, 0, async || place.vhost.ready(queue).await).await;
    }
    gate.done();
    let mut urgent = 0;
    for _ in 0..50 {
        let run = runs.next().await;
        urgent += usize::from(run.arguments == "urgent");
        run.done();
    }
    assert_eq!(urgent, 40, "four in five");
    for _ in 0..50 {
        runs.next().await.done();
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_of_each_queue_are_fetched_to_choose_from() {
    let place = Place::new().await;
    let pool = PoolOptions::concurrency(1).queue_with("urgent", 4, quick(1)).queue_with("bulk", 1, quick(1));
    let fetched = async |queue: &str| place.consumers(queue).await.first().map(|(_, prefetch)| *prefetch);
    // Two tasks of ten minutes, the default, may wait for each other, and not eight.
    for (minutes, prefetch) in [(1, 4), (10, 1)] {
        let policy = TaskPolicy::default().timeout(Duration::from_secs(minutes * 60));
        let worker = place.worker().0.policy(policy).pool(pool.clone()).queue("alone", quick(1));
        let worker = start(worker).await;
        for (queue, prefetch) in [("urgent", prefetch), ("bulk", prefetch), ("alone", 1)] {
            eventually_eq(PATIENCE, Some(prefetch), async || fetched(queue).await).await;
        }
        worker.steering().set_concurrency("bulk", 8).unwrap();
        let resized = if minutes == 1 { 16 } else { 8 };
        eventually_eq(PATIENCE, Some(resized), async || fetched("urgent").await).await;
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_gives_back_what_was_fetched_and_lets_go_on_what_runs() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.queue("default", quick(1).prefetch(5))).await;
    let client = place.client().await;
    client.publish_many((0..4).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
    let running = runs.next().await;
    eventually_eq(PATIENCE, 0, async || place.vhost.ready("default").await).await;
    let steering = worker.steering();
    steering.pause("default", "the bank is closed").unwrap();
    eventually_eq(PATIENCE, 3, async || place.vhost.ready("default").await).await;
    assert_eq!(steering.paused("default").unwrap().as_deref(), Some("the bank is closed"));
    assert!(worker.health().ready().is_ok(), "a pause is no fault");
    running.done();
    // Twice is once.
    steering.pause("default", "still closed").unwrap();
    eventually_eq(PATIENCE, 0, async || place.vhost.consumers("default").await).await;
    assert!(runs.begun().is_none());
    steering.resume("default").unwrap();
    steering.resume("default").unwrap();
    for _ in 0..3 {
        let run = runs.next().await;
        assert_eq!(run.attempt(), 1, "a pause costs no attempt");
        run.done();
    }
    assert!(steering.pause("elsewhere", "").is_err());
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stops_while_a_queue_is_paused() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.queue("default", quick(1)).grace(Duration::from_secs(60))).await;
    let client = place.client().await;
    client.publish_message(probe("runs")).await.unwrap();
    let run = runs.next().await;
    worker.steering().pause("default", "for the night").unwrap();
    let stopping = tokio::spawn(worker.stop());
    run.done();
    leveret_tests::within("it stops", stopping).await.unwrap();
    assert_eq!(place.vhost.ready("default").await, 0);
}
