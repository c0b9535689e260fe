//! A broker that is short of memory takes no publishes: they wait, their callers are told why, and everything else
//! goes on.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::time::Duration;

use leveret::{BrokerSettings, Client, PublishError};
use leveret_testkit::{Depth, Node, eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, probe, quick, start, within, worker};
use tokio::time::Instant;

/// What waits for this broker waits a second.
fn impatient(place: &Place) -> BrokerSettings {
    let mut settings = place.settings.clone();
    settings.publish_timeout = Duration::from_secs(1);
    settings.timeout = Duration::from_secs(1);
    settings
}

/// Publishes something that cannot get through, which is also what lets the broker say that it blocks.
async fn told_why(client: &Client) -> String {
    let error = within("an answer", client.publish_message(probe("too late"))).await.unwrap_err();
    assert!(matches!(error, PublishError::Unconfirmed { waited_ms: 1_000, .. }), "{error:?}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_wait_and_tasks_go_on() {
    let node = Node::private("blocked").await;
    let place = Place::on(node.broker()).await;
    let (builder, mut runs) = worker(impatient(&place));
    // One that says nothing of itself, and so publishes nothing while its tasks are done.
    let worker = start(builder.queue("default", quick(2)).without_control()).await;
    let health = worker.health();
    let (patient, hasty) = (place.client().await, Client::connect(impatient(&place)).await.unwrap());
    for result in patient.publish_many((0..20).map(probe)).await {
        result.unwrap();
    }

    node.block_publishers().await;
    let why = told_why(&hasty).await;
    assert!(why.contains("blocked publishing: low on memory") && why.contains("under the same id"), "{why}");
    let waiting = tokio::spawn(async move { (patient.publish_message(probe("patient")).await, patient) });

    // Deliveries and acknowledgements have a connection of their own.
    for _ in 0..20 {
        runs.next().await.done();
    }
    let nothing_left = Depth { ready: 0, unacked: 0, consumers: 1 };
    eventually_eq(PATIENCE, nothing_left, async || place.vhost.depth("default").await).await;
    // The worker has not published: nothing stands in its way.
    assert_eq!(health.ready(), Ok(()));
    assert!(!waiting.is_finished());

    // Another client can still come, and a worker as well: only publishes are held.
    let (builder, _) = leveret_tests::worker(impatient(&place));
    start(builder.queue("other", quick(1))).await.stop().await;

    node.unblock_publishers().await;
    let (confirmed, patient) = within("the confirm", waiting).await.unwrap();
    confirmed.unwrap();
    // What its caller was told to be unknown has been stored after all.
    let mut came: Vec<_> = runs.take(2).await.iter().map(|run| run.arguments.to_string()).collect();
    came.sort();
    assert_eq!(came, ["\"patient\"", "\"too late\""]);
    within("publish", hasty.publish_message(probe("again"))).await.unwrap();
    runs.next().await.done();
    worker.stop().await;
    patient.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_publish_says_so_and_keeps_its_task() {
    let node = Node::private("blocked-worker").await;
    let place = Place::on(node.broker()).await;
    let (builder, mut runs) = worker(impatient(&place));
    let worker = start(builder.queue("default", quick(1))).await;
    let health = worker.health();
    let client = place.client().await;
    let id = client.publish_message(probe("fails")).await.unwrap().to_string();
    let run = runs.next().await;

    node.block_publishers().await;
    run.fail("first");
    let why = eventually(PATIENCE, async || health.ready().err()).await;
    assert_eq!(why, "the broker has blocked the publishing connection: low on memory");
    // It could not be moved to its tier in time: it goes back to its queue and is run again, the same attempt.
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (id.clone(), (1, true)));

    node.unblock_publishers().await;
    eventually(PATIENCE, async || health.ready()).await;
    run.done();
    // What was on its way to the tier arrives now, for nobody could take it back.
    let run = runs.next().await;
    assert_eq!((run.id(), run.attempt()), (id, 2));
    run.done();
    let nothing_left = Depth { ready: 0, unacked: 0, consumers: 1 };
    eventually_eq(PATIENCE, nothing_left, async || place.vhost.depth("default").await).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_for_a_broker_that_is_blocked() {
    let node = Node::private("blocked-stop").await;
    let place = Place::on(node.broker()).await;
    let (builder, mut runs) = worker(impatient(&place));
    let worker = start(builder.grace(Duration::from_secs(1)).queue("default", quick(1))).await;
    let client = Client::connect(impatient(&place)).await.unwrap();
    let id = client.publish_message(probe("fails")).await.unwrap().to_string();
    let run = runs.next().await;

    node.block_publishers().await;
    run.fail("cannot be moved");
    told_why(&client).await;
    let began = Instant::now();
    within("stop", worker.stop()).await;
    within("close", client.close()).await;
    let took = began.elapsed();
    // Grace, publish timeout and the time for the broker's answer, once each for the worker, and the last two for
    // the client.
    assert!(took < Duration::from_secs(8), "{took:?}");

    node.unblock_publishers().await;
    let (worker, mut runs) = place.working(1).await;
    loop {
        let run = runs.next().await;
        let found = run.id() == id;
        run.done();
        if found {
            break;
        }
    }
    worker.stop().await;
    // Nothing of those that were closed is left at the broker.
    eventually(PATIENCE, async || place.vhost.connections().await.is_empty()).await;
}
