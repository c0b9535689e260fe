//! Who is there is known: workers are found when they start, gone when they stop, and lost when they die.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::{process::Stdio, sync::Arc, time::Duration};

use leveret::{
    Clock, UnixMillis,
    common::{
        link::{Attachment, Link, Role},
        registry::{Change, Instance, Peer, Presence, Registry, Workers},
    },
    worker::control::ControlSettings,
};
use leveret_testkit::FaultProxy;
use leveret_tests::{PATIENCE, Place, settings, steered::Steered, within};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{Instant, timeout},
};

fn quick() -> ControlSettings {
    let mut settings = ControlSettings::default();
    settings.beat = Duration::from_millis(200);
    settings
}

async fn registry(place: &Place) -> Registry {
    let registry = Registry::connect(place.settings.clone()).await.unwrap();
    listens(&registry).await;
    registry
}

async fn listens(registry: &Registry) {
    let mut listening = registry.listening();
    within("it listens", listening.wait_for(|attached| *attached == Attachment::Attached)).await.unwrap();
}

async fn until(registry: &Registry, what: &str, holds: impl Fn(&Workers) -> bool) -> Arc<Workers> {
    let mut workers = registry.follow();
    within(what, workers.wait_for(|workers| holds(workers))).await.unwrap().clone()
}

fn presence(workers: &Workers, instance: Instance) -> Option<Presence> {
    workers.get(&instance).map(|peer| peer.presence)
}

async fn until_presence(registry: &Registry, instance: Instance, wanted: Presence) {
    let what = format!("it is {}", wanted.as_str());
    until(registry, &what, |workers| presence(workers, instance) == Some(wanted)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_found_with_all_they_say_and_gone_when_they_stop() {
    let place = Place::new().await;
    let early = Steered::start(place.settings.clone(), "mail", &["mail"], ControlSettings::default()).await;
    let early = early.listens().await;
    let registry = registry(&place).await;
    let opened = Instant::now();
    let known = |peer: &Arc<Peer>| peer.about.is_some();
    // It was there before, and is asked; the other says it when it starts.
    until(&registry, "the first is found", |workers| workers.get(&early.instance).is_some_and(known)).await;
    let late = Steered::start(place.settings.clone(), "mail", &["mail", "bulk"], ControlSettings::default()).await;
    let workers = until(&registry, "both are", |workers| workers.live().filter(|peer| known(peer)).count() == 2).await;
    assert!(opened.elapsed() < Duration::from_secs(2), "found within two seconds: {:?}", opened.elapsed());
    for peer in workers.live() {
        let about = peer.about.as_ref().unwrap();
        assert_eq!((peer.beat.worker.as_str(), about.pid), ("mail", std::process::id()), "two instances of one name");
        assert_eq!(about.tasks[0].schema.as_ref().unwrap()["type"], "object");
        assert!(about.host.is_some() && !about.version.is_empty());
    }
    let bulk = leveret::QueueName::new("bulk").unwrap();
    let of_bulk: Vec<_> = workers.of_queue(&bulk).map(|peer| peer.beat.instance).collect();
    assert_eq!(of_bulk, [late.instance]);
    let peer = workers.get(&late.instance).unwrap();
    assert_eq!((peer.beat.capacity(), peer.beat.busy(), peer.beat.queue(&bulk).unwrap().free()), (8, 2, 3));

    let (mut changes, gone) = (registry.changes(), late.instance);
    late.stop().await;
    until_presence(&registry, gone, Presence::Offline).await;
    let goodbye = async {
        loop {
            if let Change::Offline(peer) = changes.recv().await.unwrap() {
                return peer.beat.instance;
            }
        }
    };
    assert_eq!(within("the goodbye is a change", goodbye).await, gone);
    let live: Vec<_> = registry.workers().live().map(|peer| peer.beat.instance).collect();
    assert_eq!(live, [early.instance]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_lost_within_fifteen_seconds() {
    let place = Place::new().await;
    let registry = registry(&place).await;
    let mut process = Command::new(env!("CARGO_BIN_EXE_steered"))
        .args([place.vhost.url(), "mail", "2000"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = within("the process says its instance", lines.next_line()).await.unwrap().unwrap();
    let instance: Instance = line.parse().unwrap();
    timeout(Duration::from_secs(2), until_presence(&registry, instance, Presence::Live)).await.unwrap();
    // SIGKILL: no goodbye.
    process.kill().await.unwrap();
    timeout(Duration::from_secs(15), until_presence(&registry, instance, Presence::Lost)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_cut_off_is_lost_and_found_again() {
    let place = Place::new().await;
    let proxy = FaultProxy::to(place.vhost.url()).await;
    let registry = registry(&place).await;
    let worker = Steered::start(settings(proxy.url()), "mail", &["mail"], quick()).await.listens().await;
    until_presence(&registry, worker.instance, Presence::Live).await;
    proxy.refuse();
    until_presence(&registry, worker.instance, Presence::Lost).await;
    proxy.resume();
    until_presence(&registry, worker.instance, Presence::Live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_cut_off_declares_nobody_lost() {
    let place = Place::new().await;
    let proxy = FaultProxy::to(place.vhost.url()).await;
    let clock = Clock::held(UnixMillis(0));
    let link = Link::open(Arc::new(settings(proxy.url())), Role::Admin);
    let worker = Steered::start(place.settings.clone(), "mail", &["mail"], quick()).await.listens().await;
    let registry = Registry::on(link, clock.clone()).unwrap();
    listens(&registry).await;
    until_presence(&registry, worker.instance, Presence::Live).await;
    proxy.refuse();
    let mut listening = registry.listening();
    let deaf = listening.wait_for(|attached| matches!(attached, Attachment::Detached(_)));
    within("it notices", deaf).await.unwrap();
    let mut changes = registry.changes();
    clock.advance(Duration::from_secs(100));
    proxy.resume();
    listens(&registry).await;
    // The next that is heard is a beat: the worker was never lost in between.
    let change = within("a beat", changes.recv()).await.unwrap();
    assert!(matches!(&change, Change::Changed(peer) if peer.beat.instance == worker.instance), "{change:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_steer_follows_by_beats() {
    let place = Place::new().await;
    let worker = Steered::start(place.settings.clone(), "mail", &["mail"], quick()).await.listens().await;
    let permissions = leveret_testkit::Permissions {
        configure: "^leveret[.]registry[.]",
        write: "^leveret[.]registry[.]",
        read: "^leveret[.](events$|registry[.])",
    };
    let user = place.vhost.user(permissions).await;
    let registry = Registry::connect(settings(user.url())).await.unwrap();
    until_presence(&registry, worker.instance, Presence::Live).await;
    let workers = registry.workers();
    let peer = workers.get(&worker.instance).unwrap();
    assert_eq!((peer.about.is_none(), peer.beat.queues.len()), (true, 1), "enough to share out tasks by");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_consumer_is_gone_is_deaf_and_says_so() {
    let place = Place::new().await;
    let registry = registry(&place).await;
    let mut control = quick();
    control.deaf_after = Duration::from_millis(400);
    let worker = Steered::start(place.settings.clone(), "mail", &["mail"], control).await.listens().await;
    let stalled = |workers: &Workers| workers.get(&worker.instance).map(|peer| peer.beat.queues[0].stalled_ms);
    until(&registry, "it is ready", |workers| stalled(workers) == Some(0)).await;
    worker.liveness.check().unwrap();
    // All runners are busy, and take nothing: that shows, and is no reason to start the process anew.
    worker.double.set_queues(|queues| queues[0].busy = 4);
    until(&registry, "it stalls", |workers| stalled(workers) > Some(600)).await;
    worker.liveness.check().unwrap();
    worker.double.set_queues(|queues| queues[0].taken += 1);
    until(&registry, "it took one", |workers| stalled(workers) == Some(0)).await;

    worker.double.set_queues(|queues| queues[0].attached = false);
    let deaf = async || worker.liveness.check().err();
    let why = leveret_testkit::eventually(PATIENCE, deaf).await;
    assert!(why.starts_with("not subscribed to queue \"mail\""), "{why}");
    worker.double.set_queues(|queues| queues[0].attached = true);
    leveret_testkit::eventually(PATIENCE, async || worker.liveness.check()).await;
}
