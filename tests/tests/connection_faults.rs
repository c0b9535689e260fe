//! A connection that is cut or stalls, a queue that is deleted, an operator who closes connections: nothing is lost,
//! and both ends come back by themselves.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::{collections::BTreeSet, time::Duration};

use lapin::options::QueueDeleteOptions;
use leveret::{Client, PublishError};
use leveret_testkit::{Direction, FaultProxy, Vhost, eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, probe, quick, settings, short, start, within, worker};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The ids of all that lies in a queue, and how many messages that is.
async fn stored(vhost: &Vhost, queue: &str) -> (BTreeSet<String>, usize) {
    let messages = vhost.take_all(queue).await;
    (messages.iter().map(|message| message.id().unwrap()).collect(), messages.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_whose_confirm_was_lost_is_sent_again_under_its_id() {
    let place = Place::new().await;
    place.declare_default().await;
    let proxy = FaultProxy::to(place.vhost.url()).await;
    let client = Client::connect(settings(proxy.url())).await.unwrap();
    // The broker hears and stores; its confirms do not come through.
    proxy.stall(Direction::FromBroker);
    let publishing = tokio::spawn({
        let client = client.clone();
        async move { client.publish_many((0..100).map(probe)).await }
    });
    eventually_eq(PATIENCE, 100, async || place.vhost.ready("default").await).await;
    assert!(!publishing.is_finished());
    proxy.refuse();
    eventually(PATIENCE, async || proxy.open() == 0).await;
    proxy.resume();
    let confirmed = within("the confirms", publishing).await.unwrap();
    let confirmed: BTreeSet<_> = confirmed.into_iter().map(|id| id.unwrap().to_string()).collect();
    let (ids, messages) = stored(&place.vhost, "default").await;
    assert_eq!(ids, confirmed);
    assert_eq!(messages, 200, "each twice under one id, for nobody could know");
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_in_the_middle_of_publishing_lose_nothing() {
    let place = Place::new().await;
    place.declare_default().await;
    let proxy = FaultProxy::to(place.vhost.url()).await;
    let client = Client::connect(settings(proxy.url())).await.unwrap();
    let stop = CancellationToken::new();
    let mut publishing = Vec::new();
    for _ in 0..4 {
        let (client, stop) = (client.clone(), stop.clone());
        publishing.push(tokio::spawn(async move {
            let mut confirmed = BTreeSet::new();
            while !stop.is_cancelled() {
                let ids = client.publish_many((0..100).map(probe)).await;
                confirmed.extend(ids.into_iter().map(|id| id.unwrap().to_string()));
            }
            confirmed
        }));
    }
    // There are always some on their way when the connection goes.
    for connections in 1..=5 {
        let before = place.vhost.ready("default").await;
        let flows = async || proxy.accepted() >= connections && place.vhost.ready("default").await >= before + 300;
        eventually(PATIENCE, flows).await;
        if connections < 5 {
            proxy.cut();
        }
    }
    stop.cancel();
    let mut confirmed = BTreeSet::new();
    for publishing in publishing {
        confirmed.extend(within("the confirms", publishing).await.unwrap());
    }
    assert_eq!(stored(&place.vhost, "default").await.0, confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_is_told_in_time() {
    let place = Place::new().await;
    place.declare_default().await;
    let proxy = FaultProxy::to(place.vhost.url()).await;
    let mut impatient = settings(proxy.url());
    impatient.publish_timeout = Duration::from_millis(400);
    let client = Client::connect(impatient).await.unwrap();
    proxy.stall(Direction::Both);
    let began = Instant::now();
    // More than there is room for on the way: those are told as well, and not one after another.
    let results = within("an answer", client.publish_many((0..5_000).map(probe))).await;
    let took = began.elapsed();
    for result in &results {
        let Err(error @ PublishError::Unconfirmed { waited_ms: 400, .. }) = result else { panic!("{result:?}") };
        assert!(error.to_string().contains("under the same id"), "{error}");
    }
    assert!(took >= Duration::from_millis(400), "{took:?}");
    proxy.resume();
    // The connection was never lost: it goes on where it was.
    let again = async || client.publish_message(probe("again")).await;
    let again = eventually(PATIENCE, again).await.to_string();
    assert!(stored(&place.vhost, "default").await.0.contains(&again));
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_run_while_the_connection_is_cut_come_again() {
    let place = Place::new().await;
    let proxy = FaultProxy::to(place.vhost.url()).await;
    let (worker, mut runs) = worker(settings(proxy.url()));
    let worker = start(worker.queue("default", quick(4).prefetch(4))).await;
    let client = place.client().await;
    client.publish_many((0..2).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
    let stale = runs.take(2).await;
    let one = |consumers: &Vec<_>| consumers.len() == 1;
    let before = eventually(PATIENCE, async || Some(place.consumers("default").await).filter(one)).await;
    proxy.cut();
    let again = runs.take(2).await;
    let ids = |runs: &[leveret_tests::Run]| runs.iter().map(|run| run.id()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&again), ids(&stale));
    assert!(again.iter().all(|run| run.count() == (1, true)), "a lost connection costs no attempt");
    let another = |now: &Vec<_>| one(now) && *now != before;
    let consumers = eventually(PATIENCE, async || Some(place.consumers("default").await).filter(another)).await;

    // Acknowledged on the new channel, the tags of the old one would be unknown or, worse, those of other tasks.
    drop(stale);
    client.publish_message(probe("after")).await.unwrap();
    let after = runs.next().await;
    assert_eq!(after.arguments, "after");
    client.publish_message(probe("last")).await.unwrap();
    let last = runs.next().await;
    assert_eq!(last.arguments, "last");
    last.done();
    assert_eq!(place.consumers("default").await, consumers, "the channel has been there all the time");
    // All but the last are still unsettled at the broker.
    within("the worker ends", worker.stop_now()).await;
    assert!(runs.begun().is_none());
    assert_eq!(place.vhost.ready("default").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_on_a_lost_connection_does_not_make_two_tasks_of_one() {
    let place = Place::new().await;
    let proxy = FaultProxy::to(place.vhost.url()).await;
    let (worker, mut runs) = worker(settings(proxy.url()));
    let worker = start(worker.queue("default", quick(4).prefetch(4))).await;
    let client = place.client().await;
    client.publish_message(probe(1).max_attempts(1)).await.unwrap();
    let stale = runs.next().await;
    proxy.cut();
    let again = runs.next().await;
    assert_eq!((again.id(), again.count()), (stale.id(), (1, true)));
    stale.fail("its word no longer counts: the task is running again");
    again.done();
    // Another task that dies, so that whatever the first left behind is there when we look.
    client.publish_message(probe(2).max_attempts(1)).await.unwrap();
    runs.next().await.fail("dead");
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.json(), 2);
    worker.stop().await;
    assert_eq!(place.vhost.ready("default.dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_comes_back_when_the_broker_can_be_reached_again() {
    let place = Place::new().await;
    let proxy = FaultProxy::to(place.vhost.url()).await;
    let (worker, mut runs) = worker(settings(proxy.url()));
    let worker = start(worker.queue("default", quick(2))).await;
    let health = worker.health();
    health.ready().unwrap();
    proxy.refuse();
    let unreachable = async || health.ready().err().filter(|why| why.contains("no broker answers"));
    eventually(PATIENCE, unreachable).await;
    let client = place.client().await;
    client.publish_message(probe("meanwhile")).await.unwrap();
    proxy.resume();
    assert_eq!(runs.next().await.arguments, "meanwhile");
    eventually(PATIENCE, async || health.ready()).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_under_the_worker_comes_back() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(2).await;
    let client = place.client().await;
    client.publish_message(probe("lost with its queue")).await.unwrap();
    let stale = runs.next().await;
    let channel = place.vhost.channel().await;
    // The broker cancels the subscription (basic.cancel) and leaves the channel open.
    channel.queue_delete(short("default"), QueueDeleteOptions::default()).await.unwrap();
    eventually(PATIENCE, async || client.publish_message(probe("new")).await).await;
    stale.done();
    let run = runs.next().await;
    assert_eq!((run.arguments.clone(), run.count()), ("new".into(), (1, false)));
    run.fail("its tiers are there, too");
    assert_eq!(runs.next().await.count(), (2, false));
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_closed_by_an_operator_come_back() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(4).await;
    let client = place.client().await;
    client.publish_message(probe(1)).await.unwrap();
    let stale = runs.next().await;
    // The worker has two, one to consume and one to publish.
    eventually(PATIENCE, async || place.vhost.connections().await.len() == 3).await;
    let (closed, published) = tokio::join!(place.vhost.close_connections(), client.publish_message(probe(2)));
    assert_eq!(closed, 3);
    published.unwrap();
    client.publish_message(probe(3)).await.unwrap();
    // A publish whose confirm was lost with its connection may come twice, under one id.
    let mut missing = BTreeSet::from([1, 2, 3]);
    while !missing.is_empty() {
        let run = runs.next().await;
        let number = run.arguments.as_u64().unwrap();
        assert!(number != 1 || (run.id(), run.count()) == (stale.id(), (1, true)), "{run:?}");
        missing.remove(&number);
    }
    drop(stale);
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}
