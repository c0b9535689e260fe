//! A worker that is stopped finishes what it has begun, and gives back the rest at no cost.

use std::{collections::BTreeSet, time::Duration};

use leveret_testkit::{eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, probe, quick, start, within};
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn running_tasks_finish_and_the_rest_goes_back_at_once() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.queue("default", quick(2).prefetch(10))).await;
    let client = place.client().await;
    let published = client.publish_many((0..10).map(probe)).await;
    let published: BTreeSet<_> = published.into_iter().map(|id| id.unwrap().to_string()).collect();
    let begun = runs.take(2).await;

    let stopping = tokio::spawn(worker.stop());
    // They are back for others while two still run.
    eventually_eq(PATIENCE, 8, async || place.vhost.ready("default").await).await;
    assert!(!stopping.is_finished() && begun.iter().all(|run| !run.is_given_up()));
    let (other, mut other_runs) = place.worker();
    let other = start(other.queue("default", quick(8))).await;
    let given_back = other_runs.take(8).await;
    assert!(given_back.iter().all(|run| run.attempt() == 1), "{given_back:?}");
    let all = begun.iter().chain(&given_back).map(|run| run.id()).collect::<BTreeSet<_>>();
    assert_eq!(all, published, "each is with one worker");
    drop(begun);
    within("the worker ends", stopping).await.unwrap();
    drop(given_back);
    other.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0, "what was finished is not run again");
    assert!(runs.begun().is_none() && other_runs.begun().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_while_stopping_still_reaches_its_tier() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    let id = client.publish_message(probe(1).delay(Duration::ZERO)).await.unwrap().to_string();
    let run = runs.next().await;
    worker.stopper().stop();
    eventually(PATIENCE, async || place.consumers("default").await.is_empty()).await;
    run.fail("at the last moment");
    within("the worker ends", worker.wait()).await;
    let (worker, mut runs) = place.working(1).await;
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (id, (2, false)));
    run.done();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_grace_is_over_what_still_runs_goes_back() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.grace(Duration::from_secs(1)).queue("default", quick(2))).await;
    let client = place.client().await;
    let endless = client.publish_message(probe("endless")).await.unwrap().to_string();
    let mut endless_run = runs.next().await;
    client.publish_message(probe("short")).await.unwrap();
    let short_run = runs.next().await;
    let stopping = endless_run.context.cancellation();

    let began = Instant::now();
    let stopped = tokio::spawn(worker.stop());
    short_run.done();
    endless_run.given_up().await;
    within("the worker ends", stopped).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "the grace was cut short: {:?}", began.elapsed());
    assert!(stopping.is_cancelled(), "a handler is told");

    let (worker, mut runs) = place.working(2).await;
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (endless, (1, true)), "giving back costs no attempt");
    run.done();
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_now_waits_for_nothing() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.queue("default", quick(2).prefetch(5))).await;
    let client = place.client().await;
    let published = client.publish_many((0..7).map(probe)).await;
    let published: BTreeSet<_> = published.into_iter().map(|id| id.unwrap().to_string()).collect();
    let mut begun = runs.take(2).await;
    within("the worker ends", worker.stop_now()).await;
    for run in &mut begun {
        run.given_up().await;
    }
    assert_eq!(place.vhost.ready("default").await, 7);

    let (worker, mut runs) = place.working(7).await;
    let runs = runs.take(7).await;
    assert!(runs.iter().all(|run| run.attempt() == 1));
    assert_eq!(runs.iter().map(|run| run.id()).collect::<BTreeSet<_>>(), published);
    drop(runs);
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_grace() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    client.publish_message(probe("endless")).await.unwrap();
    let mut run = runs.next().await;
    let stopper = worker.stopper();
    stopper.stop();
    eventually(PATIENCE, async || place.consumers("default").await.is_empty()).await;
    assert!(!run.is_given_up());
    stopper.stop_now();
    run.given_up().await;
    within("the worker ends", worker.wait()).await;
    assert_eq!(place.vhost.ready("default").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_dropped_stops_gracefully_by_itself() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    client.publish_message(probe(1)).await.unwrap();
    let run = runs.next().await;
    drop(worker);
    eventually(PATIENCE, async || place.consumers("default").await.is_empty()).await;
    run.done();
    client.close().await;
    eventually(PATIENCE, async || place.vhost.connections().await.is_empty()).await;
    assert_eq!(place.vhost.ready("default").await, 0);
}
