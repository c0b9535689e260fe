//! Several centres share the events, and nothing is lost when one or all of them, or the database, are away.

use leveret_common::{
    clock::Clock,
    event::Events,
    link::{ChannelPool, Link, Publisher, Role},
    registry::Instance,
    topology::{Topology, declare},
};
use leveret_producer::centre::store::{
    Store,
    tasks::{TaskFilter, TaskState},
};
use leveret_testkit::{Postgres, Vhost, eventually, eventually_eq};

use crate::stage::*;

/// Tells of so many tasks that begin and are done, as a worker does.
async fn tell(vhost: &Vhost, tasks: std::ops::Range<usize>) {
    let link = Link::open(settings(vhost.url()).into(), Role::Publish);
    let topology = Topology::new("leveret").unwrap().centre();
    declare(&ChannelPool::new(link.clone()), &topology).await.unwrap();
    let events = Events::start(Publisher::new(link.clone()), topology.names(), "mail-1", Instance::new());
    for task in tasks {
        events.report(started(&format!("task {task}"), 0).event);
        events.report(done(&format!("task {task}"), 5).event);
    }
    events.close().await;
    assert_eq!(events.dropped(), 0);
    link.close().await;
}

async fn done_tasks(store: &Store) -> u64 {
    let counts = store.count_by_state(&TaskFilter::default()).await.unwrap();
    counts.get(&TaskState::Done).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_centres_share_the_events_and_tell_each_other() {
    let postgres = Postgres::shared().await.database().await;
    let url = postgres.url().parse().unwrap();
    let vhost = vhost().await;
    let stores = [store(&url, Clock::system()).await, store(&url, Clock::system()).await];
    let watchers = [watch(&stores[0], &vhost).await, watch(&stores[1], &vhost).await];
    eventually_eq(PATIENCE, 2, async || vhost.consumers("leveret.centre").await).await;
    // Each has a queue for what the other says.
    let is_ear = |name: &&String| name.starts_with("leveret.centre.") && *name != "leveret.centre.deaths";
    let ears = async || vhost.queues().await.iter().filter(is_ear).count();
    eventually_eq(PATIENCE, 2, ears).await;
    let mut follower = watchers[0].subscribe();
    for round in 0..20 {
        tell(&vhost, round * 100..(round + 1) * 100).await;
    }
    eventually_eq(PATIENCE, 2_000, async || done_tasks(&stores[0]).await).await;
    // Each event is read once. Those that began may come after those that are done.
    let read = || watchers.each_ref().map(|watcher| watcher.stats().events);
    eventually_eq(PATIENCE, 4_000, async || read().iter().sum::<u64>()).await;
    assert!(read().iter().all(|events| *events > 0), "{:?}", read());
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 2_000 {
        let change = tokio::time::timeout(PATIENCE, follower.recv()).await.unwrap().unwrap();
        if change.state == TaskState::Done {
            heard.insert(change.id.clone());
        }
    }
    let [first, second] = watchers;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_nothing() {
    both(async |url| {
        let vhost = vhost().await;
        let store = store(&url, Clock::system()).await;
        tell(&vhost, 0..200).await;
        let first = watch(&store, &vhost).await;
        eventually(PATIENCE, async || done_tasks(&store).await > 0).await;
        tell(&vhost, 200..300).await;
        // Whatever it is about to do.
        drop(first);
        tell(&vhost, 300..400).await;
        let second = watch(&store, &vhost).await;
        eventually_eq(PATIENCE, 400, async || done_tasks(&store).await).await;
        second.stop().await;
        assert_eq!(vhost.ready("leveret.centre").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_the_database() {
    both(async |url| {
        let vhost = vhost().await;
        let store = store(&url, Clock::system()).await;
        let watcher = watch(&store, &vhost).await;
        let rename = async |statement: &'static str| {
            let mut transaction = store.database().begin().await.unwrap();
            transaction.execute(statement, []).await.unwrap();
            transaction.commit().await.unwrap();
        };
        rename("ALTER TABLE leveret_centre_tasks RENAME TO away").await;
        tell(&vhost, 0..100).await;
        eventually(PATIENCE, async || watcher.stats().failures >= 4).await;
        assert_eq!((watcher.stats().messages, watcher.stats().refused), (0, 0));
        rename("ALTER TABLE away RENAME TO leveret_centre_tasks").await;
        eventually_eq(PATIENCE, 100, async || done_tasks(&store).await).await;
        watcher.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_dropped_and_counted() {
    let (_folder, url) = sqlite();
    let vhost = vhost().await;
    let store = store(&url, Clock::system()).await;
    let watcher = watch(&store, &vhost).await;
    eventually_eq(PATIENCE, 1, async || vhost.consumers("leveret.centre").await).await;
    let channel = vhost.channel().await;
    for body in [&b"not json"[..], b"{}", b"\xff"] {
        let options = lapin::options::BasicPublishOptions::default();
        let (exchange, key) = ("leveret.events".into(), "task.done".into());
        channel.basic_publish(exchange, key, options, body, Default::default()).await.unwrap().await.unwrap();
    }
    tell(&vhost, 0..1).await;
    eventually_eq(PATIENCE, 1, async || done_tasks(&store).await).await;
    assert_eq!(watcher.stats().unreadable, 3);
    watcher.stop().await;
}

/// One message that the database will never take does not hold up the others.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_is_dropped_and_counted() {
    both(async |url| {
        let vhost = vhost().await;
        let store = store(&url, Clock::system()).await;
        let refusing = if store.database().is_shared() {
            "ALTER TABLE leveret_centre_tasks ADD CHECK (id <> 'task 7')"
        } else {
            "CREATE TRIGGER refusing BEFORE INSERT ON leveret_centre_tasks WHEN new.id = 'task 7'
             BEGIN SELECT raise(ABORT, 'not this one'); END"
        };
        let mut transaction = store.database().begin().await.unwrap();
        transaction.execute(refusing, []).await.unwrap();
        transaction.commit().await.unwrap();
        // All of them wait when the watcher begins, so that they come together.
        for task in 0..20 {
            tell(&vhost, task..task + 1).await;
        }
        let watcher = watch(&store, &vhost).await;
        eventually_eq(PATIENCE, 19, async || done_tasks(&store).await).await;
        // What began and what is done are two messages.
        eventually_eq(PATIENCE, 2, async || watcher.stats().refused).await;
        assert!(store.task(&id("task 7")).await.unwrap().is_none());
        tell(&vhost, 20..21).await;
        eventually_eq(PATIENCE, 20, async || done_tasks(&store).await).await;
        watcher.stop().await;
        assert_eq!(vhost.ready("leveret.centre").await, 0);
    })
    .await;
}
