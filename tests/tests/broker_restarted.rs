//! A broker that is restarted, or crashes, while tasks are published and run: everything that it confirmed is run, and
//! both ends come back by themselves.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leveret::{Client, Clock, QueueOptions};
use leveret_testkit::{Node, eventually};
use leveret_tests::{PATIENCE, Place, Runs, probe, start, within};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// What the publishing and the running end know of each other.
struct Flow {
    confirmed: AtomicUsize,
    done: AtomicUsize,
    /// How many more may be on their way, so that no backlog builds up.
    room: Semaphore,
    stop: CancellationToken,
}

/// Publishes tasks until told to stop; the ids of all. Every publish must be confirmed in the end, however long the
/// broker was away.
fn keep_publishing(client: &Client, flow: &Arc<Flow>) -> JoinHandle<BTreeSet<String>> {
    let (client, flow) = (client.clone(), flow.clone());
    tokio::spawn(async move {
        let mut ids = BTreeSet::new();
        while let Some(room) = flow.stop.run_until_cancelled(flow.room.acquire_many(10)).await {
            room.unwrap().forget();
            for id in client.publish_many((0..10).map(probe)).await {
                ids.insert(id.unwrap().to_string());
                flow.confirmed.fetch_add(1, Ordering::Relaxed);
            }
        }
        ids
    })
}

/// Lets tasks be done as they come, until the worker ends; the ids of all.
fn keep_running(mut runs: Runs, flow: &Arc<Flow>) -> JoinHandle<BTreeSet<String>> {
    let flow = flow.clone();
    tokio::spawn(async move {
        let mut ids = BTreeSet::new();
        while let Some(run) = runs.next_or_end().await {
            if ids.insert(run.id()) {
                flow.done.fetch_add(1, Ordering::Relaxed);
                flow.room.add_permits(1);
            }
        }
        ids
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_and_a_crash_lose_nothing_that_was_confirmed() {
    let node = Node::private("restarted").await;
    let mut place = Place::on(node.broker()).await;
    place.settings.publish_timeout = Duration::from_secs(120);
    let (worker, runs) = place.worker();
    let worker = start(worker.queue("default", QueueOptions::concurrency(4).prefetch(7))).await;
    let client = place.client().await;
    let flow = Arc::new(Flow {
        confirmed: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        room: Semaphore::new(100),
        stop: CancellationToken::new(),
    });
    let publishing: Vec<_> = (0..4).map(|_| keep_publishing(&client, &flow)).collect();
    let running = keep_running(runs, &flow);
    // The flow goes on at both ends: so many more have been confirmed, and run.
    let goes_on = async || {
        let counts = || [&flow.confirmed, &flow.done].map(|count| count.load(Ordering::Relaxed));
        let before = counts();
        let more = async || counts().iter().zip(before).all(|(now, before)| *now >= before + 200);
        eventually(PATIENCE * 2, more).await;
    };

    let mut delayed = Vec::new();
    for crash in [false, true] {
        goes_on().await;
        let due = Clock::system().now() + Duration::from_secs(6);
        delayed.push(client.publish_message(probe("delayed").not_before(due)).await.unwrap().to_string());
        eventually(PATIENCE, async || place.vhost.ready("default.retry.5s").await == 1).await;
        if crash {
            node.kill().await;
            eventually(PATIENCE, async || worker.health().ready().is_err()).await;
            node.start().await;
        } else {
            node.restart().await;
        }
        goes_on().await;
        eventually(PATIENCE, async || worker.health().ready()).await;
        eventually(PATIENCE, async || place.consumers("default").await.iter().map(|(_, prefetch)| *prefetch).eq([7]))
            .await;
    }

    flow.stop.cancel();
    let mut wanted = BTreeSet::from_iter(delayed);
    for publishing in publishing {
        wanted.extend(within("all confirms", publishing).await.unwrap());
    }
    eventually(PATIENCE, async || flow.done.load(Ordering::Relaxed) >= wanted.len()).await;
    within("the worker stops", worker.stop()).await;
    let run = within("the last run", running).await.unwrap();
    assert_eq!(run, wanted, "what was confirmed was run, and nothing else: whatever came twice came under one id");
    assert_eq!(place.vhost.ready("default").await + place.vhost.ready("default.dead").await, 0);
}
