//! Workers are there within two seconds, lost within fifteen, and remembered.

use std::time::Duration;

use leveret_common::clock::{Clock, UnixMillis};
use leveret_producer::centre::watch::{KnownWorker, RunningWatcher, WorkerStatus};
use leveret_testkit::{FaultProxy, eventually};
use tokio::time::Instant;

use crate::stage::*;

async fn status(watcher: &RunningWatcher, name: &str) -> Option<WorkerStatus> {
    let all = watcher.workers().all().await.unwrap();
    all.iter().find(|worker: &&KnownWorker| worker.beat.worker == name).map(|worker| worker.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_seen_to_come_and_to_die() {
    both(async |url| {
        let vhost = vhost().await;
        let store = store(&url, Clock::system()).await;
        let watcher = watch(&store, &vhost).await;
        let mut hears = watcher.workers().registry().listening();
        hears.wait_for(|attached| *attached == leveret_common::link::Attachment::Attached).await.unwrap();

        let proxy = FaultProxy::to(vhost.url()).await;
        let dying = start(worker(settings(proxy.url()).name("dying"))).await;
        let living = start(worker(settings(vhost.url()).name("living"))).await;
        let began = Instant::now();
        eventually(PATIENCE, async || {
            status(&watcher, "dying").await == Some(WorkerStatus::Live)
                && status(&watcher, "living").await == Some(WorkerStatus::Live)
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let kinds = watcher.workers().kinds().await.unwrap();
        assert_eq!((kinds.len(), kinds[0].name.as_str(), kinds[0].workers), (1, "probe", 2));
        assert_eq!(kinds[0].schema, Some(serde_json::json!({ "type": "object" })));
        assert!(kinds[0].queues.contains("default"));

        // Nothing of it gets through any more, as when its process or its machine is gone.
        proxy.refuse();
        proxy.cut();
        let began = Instant::now();
        eventually(PATIENCE, async || status(&watcher, "dying").await == Some(WorkerStatus::Lost)).await;
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        assert_eq!(status(&watcher, "living").await, Some(WorkerStatus::Live));
        living.stop().await;
        eventually(PATIENCE, async || status(&watcher, "living").await == Some(WorkerStatus::Offline)).await;
        assert_eq!(watcher.workers().kinds().await.unwrap()[0].workers, 0);
        // Both are written down.
        let rows = async || {
            let rows = store.worker_rows(UnixMillis(0)).await.unwrap();
            let mut presences: Vec<_> = rows.iter().map(|row| row.presence.as_str()).collect();
            presences.sort_unstable();
            presences == ["lost", "offline"]
        };
        eventually(PATIENCE, rows).await;
        watcher.stop().await;
        proxy.resume();
        dying.stop_now().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_died_while_no_centre_ran_is_known_to_be_lost() {
    both(async |url| {
        let vhost = vhost().await;
        let clock = Clock::system();
        let store = store(&url, clock.clone()).await;
        let proxy = FaultProxy::to(vhost.url()).await;
        let dying = start(worker(settings(proxy.url()).name("dying"))).await;
        let first = watch(&store, &vhost).await;
        // It is written down once it was heard.
        eventually(PATIENCE, async || !store.worker_rows(UnixMillis(0)).await.unwrap().is_empty()).await;
        first.stop().await;
        proxy.refuse();
        proxy.cut();
        let second = watch(&store, &vhost).await;
        assert_eq!(status(&second, "dying").await, Some(WorkerStatus::Live), "nobody knows better yet");
        let began = Instant::now();
        eventually(PATIENCE, async || status(&second, "dying").await == Some(WorkerStatus::Lost)).await;
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        second.stop().await;
        proxy.resume();
        dying.stop_now().await;
    })
    .await;
}
