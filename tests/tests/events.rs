//! What becomes of tasks is told to whoever listens, and never holds up a task.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::sync::Arc;

use lapin::{
    options::{QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use leveret::{
    Topology, UnixMillis,
    common::{
        event::{EventBatch, Events, Happening, Progress, TaskEvent},
        link::{ChannelPool, Link, Publisher, Role},
        registry::Instance,
        topology::declare,
    },
};
use leveret_testkit::{FaultProxy, eventually};
use leveret_tests::{PATIENCE, Place, settings, short, within};

fn event(id: usize, what: Happening) -> TaskEvent {
    TaskEvent {
        id: format!("task-{id}").parse().unwrap(),
        task: "mail.send".to_owned(),
        queue: "mail".to_owned(),
        attempt: 1,
        at: UnixMillis(1),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        replays: 0,
        schedule: None,
        scheduled_at: None,
        labels: Default::default(),
        what,
    }
}

fn progress(cursor: u64) -> Happening {
    Happening::Progress(Progress { cursor, total: Some(1_000), note: None })
}

async fn reporter(url: &str, instance: Instance) -> (Link, Events) {
    let link = Link::open(Arc::new(settings(url)), Role::Publish);
    let topology = Topology::new("leveret").unwrap();
    declare(&ChannelPool::new(link.clone()), &topology).await.unwrap();
    let events = Events::start(Publisher::new(link.clone()), topology.names(), "mail-1", instance);
    (link, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_whoever_has_bound_a_queue() {
    let place = Place::new().await;
    let instance = Instance::new();
    let (_link, events) = reporter(place.vhost.url(), instance).await;
    let channel = place.vhost.channel().await;
    for (queue, pattern) in [("all", "task.*"), ("ends", "task.done")] {
        channel.queue_declare(short(queue), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
        let bound = QueueBindOptions::default();
        let (exchange, pattern) = (short("leveret.events"), short(pattern));
        channel.queue_bind(short(queue), exchange, pattern, bound, FieldTable::default()).await.unwrap();
    }
    for id in 0..1_000 {
        events.report(event(id, Happening::Started { waited_ms: Some(5) }));
        events.report(event(id, Happening::done(7, None)));
    }
    // Of the progress that nobody has seen yet only the last counts.
    for cursor in 0..1_000 {
        events.report(event(1, progress(cursor)));
    }
    within("the rest is published", events.close()).await;
    assert_eq!(events.dropped(), 0);

    let batches = |messages: Vec<leveret_testkit::Message>| {
        messages.iter().map(|message| serde_json::from_value(message.json()).unwrap()).collect::<Vec<EventBatch>>()
    };
    let ends = batches(place.vhost.take_all("ends").await);
    let done: Vec<_> = ends.iter().flat_map(|batch| &batch.events).collect();
    assert!(ends.len() < 100, "many events in one message: {}", ends.len());
    assert!(ends.iter().all(|batch| batch.instance == instance && batch.worker == "mail-1"));
    let wanted: Vec<_> = (0..1_000).map(|id| event(id, Happening::done(7, None))).collect();
    assert_eq!(done, wanted.iter().collect::<Vec<_>>(), "all, in their order");
    let all = batches(place.vhost.take_all("all").await);
    let seen: Vec<_> = all
        .iter()
        .flat_map(|batch| &batch.events)
        .filter(|event| matches!(event.what, Happening::Progress(_)))
        .collect();
    assert!(seen.len() < 20 && seen.last().unwrap().what == progress(999), "{}", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_dropped_and_counted_at_once() {
    let place = Place::new().await;
    let proxy = FaultProxy::to(place.vhost.url()).await;
    let (link, events) = reporter(proxy.url(), Instance::new()).await;
    proxy.refuse();
    eventually(PATIENCE, async || matches!(link.state(), leveret::common::link::LinkState::Down(_))).await;
    for id in 0..50_000 {
        events.report(event(id, Happening::done(7, None)));
    }
    let dropped = events.dropped();
    // Some may be on their way already, and as many wait.
    assert!((25_000..50_000).contains(&dropped), "{dropped}");
}
