//! Work that takes effect once: by id, by a unique key, whatever comes twice.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leveret::{Clock, Error, Message, Outcome, TaskPolicy, layer::Once, once::MemoryOnce};
use leveret_testkit::{eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, Probe, probe, quick, start, worker};

fn once() -> Once {
    Once::new(MemoryOnce::new(Clock::system()))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_publishes_of_one_unique_key_run_once() {
    let place = Place::new().await;
    let store: Arc<dyn leveret::once::OnceStore> = Arc::new(MemoryOnce::new(Clock::system()));
    let runs = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for _ in 0..2 {
        let counting = runs.clone();
        let worker = leveret::Worker::builder(place.settings.clone())
            .queue("default", quick(50).prefetch(500))
            .layer(Once::shared(store.clone()))
            .task(move |_: leveret::Context, _: leveret::Job<Probe>| {
                counting.fetch_add(1, Ordering::SeqCst);
                async { Ok::<_, Error>(Outcome::Done) }
            });
        workers.push(start(worker).await);
    }
    let client = place.client().await;
    let same = |number: u32| probe(number).unique("invoice-17", Duration::from_secs(3_600));
    client.publish_many((0..10_000).map(same)).await.into_iter().for_each(|id| drop(id.unwrap()));
    eventually_eq(PATIENCE, 0, async || {
        let depth = place.vhost.depth("default").await;
        depth.ready + depth.unacked
    })
    .await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    // Another key is another matter.
    client.publish_message(probe(0).unique("invoice-18", Duration::from_secs(3_600))).await.unwrap();
    eventually_eq(PATIENCE, 2, async || runs.load(Ordering::SeqCst)).await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(place.vhost.ready("default.dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_is_run_once_and_whoever_asks_again_is_answered() {
    let place = Place::new().await;
    let (building, mut runs) = place.worker();
    let working = start(building.queue("default", quick(2)).layer(once())).await;
    let client = place.client().await;
    place.vhost.declare("answers").await;
    let same = || probe("pay").id("order-17".parse().unwrap()).reply_to("answers", None);
    client.publish_message(same()).await.unwrap();
    runs.next().await.end(Outcome::result(&"paid"));
    let first = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(first.json(), "paid");
    client.publish_message(same()).await.unwrap();
    let second = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(second.header_text("leveret-status").as_deref(), Some("done"));
    assert!(runs.begun().is_none());
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_leaves_the_work_to_the_next_and_a_dead_task_to_another() {
    let place = Place::new().await;
    let (building, mut runs) = place.worker();
    let policy = TaskPolicy::default().retries(1).backoff("1ms".parse().unwrap());
    let working = start(building.policy(policy).queue("default", quick(1)).layer(once())).await;
    let client = place.client().await;
    place.vhost.declare("answers").await;
    let unique = |word: &str| -> Message {
        probe(word).unique("invoice-17", Duration::from_secs(3_600)).reply_to("answers", Some(word))
    };
    client.publish_message(unique("first")).await.unwrap();
    runs.next().await.fail("not yet");
    // While it waits for its second attempt, another of its key is a duplicate.
    client.publish_message(unique("second")).await.unwrap();
    let run = runs.next().await;
    assert_eq!((run.arguments.clone(), run.attempt()), ("first".into(), 2));
    let told = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(told.header_text("leveret-status").as_deref(), Some("cancelled"));
    assert!(told.json()["error"].as_str().unwrap().starts_with("the same as task "));
    run.fail("never");
    eventually_eq(PATIENCE, 1, async || place.vhost.ready("default.dead").await).await;
    client.publish_message(unique("third")).await.unwrap();
    let run = runs.next().await;
    assert_eq!(run.arguments, "third", "the dead one is no obstacle");
    run.done();
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_when_the_connection_was_lost_is_not_done_again() {
    let place = Place::new().await;
    let (building, mut runs) = worker(place.settings.clone());
    let working = start(building.queue("default", quick(1)).layer(once())).await;
    let client = place.client().await;
    let published = client.publish_many((0..3).map(probe)).await;
    let published: BTreeSet<_> = published.into_iter().map(|id| id.unwrap().to_string()).collect();
    let run = runs.next().await;
    let mut seen = BTreeSet::from([run.id()]);
    eventually_eq(PATIENCE, 2, async || place.vhost.connections().await.len().saturating_sub(1)).await;
    place.vhost.close_connections().await;
    run.done();
    for _ in 0..2 {
        let run = runs.next().await;
        assert!(seen.insert(run.id()), "run twice");
        run.done();
    }
    assert_eq!(seen, published);
    eventually_eq(PATIENCE, 0, async || {
        let depth = place.vhost.depth("default").await;
        depth.ready + depth.unacked
    })
    .await;
    assert!(runs.begun().is_none());
    working.stop().await;
}
