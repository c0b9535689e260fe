//! Real workers share queues by routes and in shards.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use leveret::{
    Context, Error, Job, Outcome, QueueName, QueueOptions, QueueSettings, Route, RunningWorker, TaskPolicy, Topology,
    Worker,
    common::{
        link::{ChannelPool, Link, Publisher, Role},
        shards::Reshard,
    },
    worker::control::ControlSettings,
};
use leveret_tests::{Place, Probe, probe, quick, start, within};
use tokio::sync::mpsc;

/// Name of the worker, key, number of the task and share of a broadcast.
type Ran = (String, String, u64, Option<(u32, u32)>, u32);

async fn worker(
    place: &Place,
    name: &'static str,
    settings: QueueSettings,
    ran: mpsc::UnboundedSender<Ran>,
) -> RunningWorker {
    let options = QueueOptions::concurrency(4).settings(QueueSettings { tiers: quick(1).settings.tiers, ..settings });
    let worker = Worker::builder(place.settings.clone())
        .name(name)
        .control(ControlSettings::default().beat(Duration::from_millis(200)))
        .policy(TaskPolicy::default().backoff("1ms".parse().unwrap()))
        .queue("default", options)
        .task(move |context: Context, job: Job<Probe>| {
            let ran = ran.clone();
            async move {
                let number = job.arguments.0.as_u64().unwrap_or_default();
                let key = context.key().unwrap_or_default().to_owned();
                drop(ran.send((name.to_owned(), key, number, context.share(), context.attempt())));
                if number == 13 && context.attempt() < 3 {
                    return Err(Error::retry("unlucky"));
                }
                Ok(Outcome::Done)
            }
        });
    start(worker).await
}

async fn runs(ran: &mut mpsc::UnboundedReceiver<Ran>, count: usize) -> Vec<Ran> {
    let mut runs = Vec::new();
    while runs.len() < count {
        runs.push(within("a task is run", ran.recv()).await.unwrap());
    }
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_every_worker_once_and_a_sticky_task_its_own() {
    let place = Place::new().await;
    let (tell, mut ran) = mpsc::unbounded_channel();
    let routed = || QueueSettings { route: Some(Route::Competing), ..QueueSettings::default() };
    let mut workers = Vec::new();
    for name in ["anna", "bert", "cleo"] {
        workers.push(worker(&place, name, routed(), tell.clone()).await);
    }
    let client = place.client().await;
    // A worker knows of the others once it has heard of them.
    let heard = async |count: usize| {
        loop {
            client.publish_message(probe(1).route(&Route::Broadcast)).await.unwrap();
            let first = within("a share is run", ran.recv()).await.unwrap();
            let total = first.3.map_or(1, |(_, total)| total as usize);
            let mut all = vec![first];
            for _ in 1..total {
                all.push(within("a share is run", ran.recv()).await.unwrap());
            }
            if total == count {
                return all;
            }
        }
    };
    let mut heard = heard;
    let all = within("all three are known", heard(3)).await;
    let names: BTreeSet<_> = all.iter().map(|run| run.0.as_str()).collect();
    let shares: BTreeSet<_> = all.iter().filter_map(|run| run.3).collect();
    assert_eq!(names, BTreeSet::from(["anna", "bert", "cleo"]));
    assert_eq!(shares, BTreeSet::from([(0, 3), (1, 3), (2, 3)]));
    let sticky = Route::Sticky("bert".to_owned());
    client
        .publish_many((0..8).map(|number| probe(number).route(&sticky)))
        .await
        .into_iter()
        .for_each(|id| drop(id.unwrap()));
    assert!(runs(&mut ran, 8).await.iter().all(|run| run.0 == "bert"));
    // Once it is gone, others do its work.
    let bert = workers.remove(1);
    bert.stop().await;
    client
        .publish_many((0..8).map(|number| probe(number).route(&sticky)))
        .await
        .into_iter()
        .for_each(|id| drop(id.unwrap()));
    assert!(runs(&mut ran, 8).await.iter().all(|run| run.0 != "bert"));
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_one_key_keep_their_order_through_failures_and_workers_that_come_and_go() {
    let place = Place::new().await;
    let (tell, mut ran) = mpsc::unbounded_channel();
    let ordered = || QueueSettings { shards: Some(4), ..QueueSettings::default() };
    let first = worker(&place, "anna", ordered(), tell.clone()).await;
    let client = place.client().await;
    let keys = 12;
    let publish = async |numbers: std::ops::Range<u64>| {
        let tasks = numbers.flat_map(|number| (0..keys).map(move |key| probe(number).key(&format!("key-{key}"))));
        client.publish_many(tasks).await.into_iter().for_each(|id| drop(id.unwrap()));
    };
    publish(0..20).await;
    let second = worker(&place, "bert", ordered(), tell.clone()).await;
    publish(20..40).await;
    // 13 is tried three times, and what comes after it waits.
    let count = 40 * keys as usize + 2 * keys as usize;
    let mut all = runs(&mut ran, count - 200).await;
    first.stop().await;
    all.extend(runs(&mut ran, 200).await);
    let mut by_key: BTreeMap<&str, Vec<(u64, u32)>> = BTreeMap::new();
    for (_, key, number, _, attempt) in &all {
        by_key.entry(key).or_default().push((*number, *attempt));
    }
    let mut expected: Vec<_> = (0..40).map(|number| (number, 1)).collect();
    expected.splice(13..14, [(13, 1), (13, 2), (13, 3)]);
    for (key, runs) in by_key {
        assert_eq!(runs, expected, "{key}");
    }
    let workers: BTreeSet<_> = all.iter().map(|run| run.0.as_str()).collect();
    assert_eq!(workers.len(), 2, "both had a part");
    second.stop().await;
    assert!(ran.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_floods_a_fair_queue_leaves_the_others_their_turns() {
    let place = Place::new().await;
    let (tell, mut ran) = mpsc::unbounded_channel();
    let fair = || QueueSettings { shards: Some(8), order: false, ..QueueSettings::default() };
    // The queue is there before anyone works.
    worker(&place, "anna", fair(), tell.clone()).await.stop().await;
    let client = place.client().await;
    let flood = (0..400).map(|number| probe(number + 100).key("flood"));
    client.publish_many(flood).await.into_iter().for_each(|id| drop(id.unwrap()));
    let others = (0..40).map(|number| probe(number + 1000).key(&format!("tenant-{number}")));
    client.publish_many(others).await.into_iter().for_each(|id| drop(id.unwrap()));
    let working = worker(&place, "bert", fair(), tell.clone()).await;
    let all = within("all are run", runs(&mut ran, 440)).await;
    let last = |wanted: &dyn Fn(&Ran) -> bool| all.iter().rposition(wanted).unwrap();
    // Those that share the flood's shard wait for it; one in eight on average.
    let early = all[..220].iter().filter(|run| run.1 != "flood").count();
    assert!(early >= 25, "{early} of 40 had their turn in the first half");
    assert!(last(&|run: &Ran| run.1 == "flood") > 400, "the flood was not put first");
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_holds_while_the_number_of_shards_changes_under_real_workers() {
    let place = Place::new().await;
    let (tell, mut ran) = mpsc::unbounded_channel();
    let ordered = || QueueSettings { shards: Some(2), ..QueueSettings::default() };
    let anna = worker(&place, "anna", ordered(), tell.clone()).await;
    let bert = worker(&place, "bert", ordered(), tell.clone()).await;
    let client = place.client().await;
    let keys = 16_u64;
    let publishing = {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..60 {
                // 13 would be tried again; here nothing fails.
                let number = number + 100;
                let tasks = (0..keys).map(|key| probe(number).key(&format!("key-{key}")));
                client.publish_many(tasks).await.into_iter().for_each(|id| drop(id.unwrap()));
            }
        })
    };
    let queue = QueueName::new("default").unwrap();
    let settings = QueueSettings { tiers: quick(1).settings.tiers, ..ordered() };
    let topology = Topology::new("leveret").unwrap().queue(queue.clone(), settings);
    let link = Link::open(Arc::new(place.settings.clone()), Role::Admin);
    let (pool, publisher) = (ChannelPool::new(link.clone()), Publisher::new(link.clone()));
    let reshard = Reshard::new(pool, publisher, topology, queue).unwrap().settle(Duration::from_millis(300));
    within("four shards", reshard.to(4, |_| ())).await.unwrap();
    within("three shards", reshard.to(3, |_| ())).await.unwrap();
    within("all are published", publishing).await.unwrap();
    let mut by_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (_, key, number, ..) in runs(&mut ran, 60 * keys as usize).await {
        by_key.entry(key).or_default().push(number);
    }
    assert_eq!(by_key.len(), keys as usize);
    for (key, numbers) in by_key {
        assert_eq!(numbers, (100..160).collect::<Vec<_>>(), "{key}");
    }
    anna.stop().await;
    bert.stop().await;
    assert!(ran.try_recv().is_err(), "none is run twice");
}
