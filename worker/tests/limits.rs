//! Limits that workers share hold over all of them, whoever dies, and follow changes while they run.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helpers too")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use leveret_common::{
    config::BrokerSettings,
    limit::{LimitName, LimitSettings, Terms},
    link::{Link, Role},
};
use leveret_testkit::{Broker, Direction, FaultProxy, Vhost, eventually, eventually_eq};
use leveret_worker::limits::{Admission, LimitOptions, Limits, Permit};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

fn name() -> LimitName {
    LimitName::new("most").unwrap()
}

fn one(limit: LimitSettings) -> BTreeMap<LimitName, LimitSettings> {
    [(name(), limit)].into()
}

/// A worker, as far as limits are concerned.
struct Worker {
    limits: Limits,
    link: Link,
}

impl Worker {
    async fn start(url: &str, limit: LimitSettings) -> Self {
        let mut settings = BrokerSettings::new(url).unwrap();
        settings.heartbeat = Duration::from_secs(1);
        settings.reconnect_max = Duration::from_millis(200);
        let link = Link::open(Arc::new(settings), Role::Consume);
        let mut options = LimitOptions::default();
        options.patience = Duration::from_secs(60);
        let limits = Limits::start(link.clone(), one(limit), options).await.unwrap();
        Self { limits, link }
    }

    async fn permit(&self, key: Option<&str>) -> Permit {
        match timeout(PATIENCE, self.limits.admit("default", "probe", key)).await {
            Ok(Admission::Now(permit)) => permit,
            other => panic!("no permit: {other:?}"),
        }
    }

    /// Asks in the background; the permit comes back through the handle.
    fn asking(&self, key: Option<&'static str>) -> tokio::task::JoinHandle<Permit> {
        let limits = self.limits.clone();
        tokio::spawn(async move {
            match limits.admit("default", "probe", key).await {
                Admission::Now(permit) => permit,
                other => panic!("no permit: {other:?}"),
            }
        })
    }

    fn waiting(&self) -> usize {
        self.limits.list()[0].waiting
    }

    async fn stop(self) {
        self.limits.close().await;
        self.link.close().await;
    }
}

async fn vhost() -> Vhost {
    Broker::shared().await.vhost().await
}

/// How many run, and the longest time for which fewer than `full` did.
struct Watch {
    running: usize,
    most: usize,
    full: usize,
    below_since: Option<Instant>,
    longest_below: Duration,
    begun: usize,
}

impl Watch {
    fn new(full: usize) -> Arc<Mutex<Self>> {
        let watch = Self { running: 0, most: 0, full, below_since: None, longest_below: Duration::ZERO, begun: 0 };
        Arc::new(Mutex::new(watch))
    }

    fn begin(&mut self) {
        self.running += 1;
        self.begun += 1;
        self.most = self.most.max(self.running);
        if self.running >= self.full
            && let Some(since) = self.below_since.take()
        {
            self.longest_below = self.longest_below.max(since.elapsed());
        }
    }

    fn end(&mut self) {
        self.running -= 1;
        if self.running < self.full && self.below_since.is_none() {
            self.below_since = Some(Instant::now());
        }
    }

    /// The longest time with fewer, the present one included; forgets it.
    fn take_longest_below(&mut self) -> Duration {
        let present = self.below_since.map_or(Duration::ZERO, |since| since.elapsed());
        std::mem::take(&mut self.longest_below).max(present)
    }
}

/// Runners of a worker that run tasks of `hold` one after another, as long as `go` says. A task ends at once when its
/// permit counts no more.
fn run(worker: &Worker, runners: usize, hold: Duration, watch: &Arc<Mutex<Watch>>, go: &Arc<AtomicBool>) {
    for _ in 0..runners {
        let (limits, watch, go) = (worker.limits.clone(), watch.clone(), go.clone());
        tokio::spawn(async move {
            while go.load(Ordering::SeqCst) {
                let Admission::Now(permit) = limits.admit("default", "probe", None).await else { continue };
                watch.lock().begin();
                tokio::select! {
                    () = permit.lost() => {}
                    () = tokio::time::sleep(hold) => {}
                }
                watch.lock().end();
                drop(permit);
            }
        });
    }
}

/// The broker and the keeper are asked before each task, which takes a few milliseconds: so fewer than the limit run in
/// between. What is asserted is how long that lasts at most. A second is what is promised for a keeper that dies; the
/// rest is for a machine that is busy with other tests.
const GAP: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn five_at_once_over_four_workers_also_when_two_are_cut_off_the_keeper_among_them() {
    let vhost = vhost().await;
    let five = LimitSettings::concurrency(5);
    let (watch, go) = (Watch::new(5), Arc::new(AtomicBool::new(true)));
    let (mut workers, mut proxies) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let proxy = FaultProxy::to(vhost.url()).await;
        let worker = Worker::start(proxy.url(), five.clone()).await;
        // The first to subscribe keeps the limits.
        drop(worker.permit(None).await);
        workers.push(worker);
        proxies.push(proxy);
    }
    for worker in &workers {
        run(worker, 6, Duration::from_millis(60), &watch, &go);
    }
    let begun = async |more: usize| {
        let until = watch.lock().begun + more;
        eventually(PATIENCE, async || watch.lock().begun >= until).await;
    };
    begun(5).await;
    watch.lock().take_longest_below();
    begun(150).await;
    let steady = watch.lock().take_longest_below();

    for proxy in &proxies[..2] {
        proxy.refuse();
    }
    begun(150).await;
    let failing_over = watch.lock().take_longest_below();

    // They come back, and take part again.
    for proxy in &proxies[..2] {
        proxy.resume();
    }
    begun(150).await;
    let back = watch.lock().take_longest_below();
    go.store(false, Ordering::SeqCst);
    let most = watch.lock().most;
    println!("most {most}, longest below: {steady:?} steady, {failing_over:?} failing over, {back:?} coming back");
    assert_eq!(most, 5);
    assert!(steady.max(failing_over).max(back) < GAP, "{steady:?} {failing_over:?} {back:?}");
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_falls_silent_is_replaced_when_the_broker_gives_it_up_and_nothing_is_exceeded() {
    let vhost = vhost().await;
    let two = LimitSettings::concurrency(2);
    let (watch, go) = (Watch::new(2), Arc::new(AtomicBool::new(true)));
    let proxy = FaultProxy::to(vhost.url()).await;
    let keeper = Worker::start(proxy.url(), two.clone()).await;
    drop(keeper.permit(None).await);
    let other = Worker::start(vhost.url(), two).await;
    run(&keeper, 3, Duration::from_millis(50), &watch, &go);
    run(&other, 3, Duration::from_millis(50), &watch, &go);
    let begun = async |more: usize| {
        let until = watch.lock().begun + more;
        eventually(PATIENCE, async || watch.lock().begun >= until).await;
    };
    begun(20).await;
    proxy.stall(Direction::Both);
    begun(40).await;
    proxy.resume();
    begun(40).await;
    go.store(false, Ordering::SeqCst);
    assert_eq!(watch.lock().most, 2);
    keeper.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_a_second_over_four_workers_is_that_within_five_percent() {
    let vhost = vhost().await;
    let rate = LimitSettings::rate("100/s".parse().unwrap());
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(Worker::start(vhost.url(), rate.clone()).await);
    }
    drop(workers[0].permit(None).await);
    let begun = Arc::new(AtomicUsize::new(0));
    let (from, whole) = (Instant::now(), Duration::from_secs(10));
    for worker in &workers {
        for _ in 0..8 {
            let (limits, begun) = (worker.limits.clone(), begun.clone());
            tokio::spawn(async move {
                loop {
                    if let Admission::Now(_permit) = limits.admit("default", "probe", None).await
                        && from.elapsed() < whole
                    {
                        begun.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    }
    tokio::time::sleep_until(from + whole).await;
    let begun = begun.load(Ordering::SeqCst);
    println!("{begun} in ten seconds");
    assert!((950..=1_050).contains(&begun), "{begun}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_is_counted_by_itself_over_all_workers() {
    let vhost = vhost().await;
    let each = LimitSettings { by_key: true, ..LimitSettings::concurrency(1) };
    let (one, another) = (Worker::start(vhost.url(), each.clone()).await, Worker::start(vhost.url(), each).await);
    let held = one.permit(Some("x")).await;
    let mut second = another.asking(Some("x"));
    eventually_eq(PATIENCE, 1, async || another.waiting()).await;
    drop(another.permit(Some("y")).await);
    drop(another.permit(None).await);
    let long = "k".repeat(100_000);
    drop(another.permit(Some(&long)).await);
    assert!(timeout(Duration::from_millis(50), &mut second).await.is_err(), "the key is in use");
    drop(held);
    drop(timeout(PATIENCE, second).await.unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_has_a_rate_of_its_own() {
    let vhost = vhost().await;
    let each = LimitSettings { by_key: true, ..LimitSettings::rate("1/h".parse().unwrap()) };
    let (one, another) = (Worker::start(vhost.url(), each.clone()).await, Worker::start(vhost.url(), each).await);
    drop(one.permit(Some("x")).await);
    match timeout(PATIENCE, another.limits.admit("default", "probe", Some("x"))).await.unwrap() {
        Admission::Later(wait) => {
            assert!(wait > Duration::from_secs(3_500), "x has had its one of this hour: {wait:?}");
        }
        other => panic!("{other:?}"),
    }
    drop(another.permit(Some("y")).await);
    drop(one.permit(None).await);
    one.stop().await;
    another.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_changed_while_workers_run_and_the_change_survives_the_keeper() {
    let vhost = vhost().await;
    let one = LimitSettings::concurrency(1);
    let keeper = Worker::start(vhost.url(), one.clone()).await;
    drop(keeper.permit(None).await);
    let other = Worker::start(vhost.url(), one.clone()).await;
    let first = other.permit(None).await;
    let (second, third) = (other.asking(None), other.asking(None));
    eventually_eq(PATIENCE, 2, async || other.waiting()).await;
    let three = Terms { concurrency: Some(3), rate: None };
    keeper.limits.set(&name(), Some(three)).await.unwrap();
    let held = [first, second.await.unwrap(), third.await.unwrap()];

    keeper.stop().await;
    let newcomer = Worker::start(vhost.url(), one).await;
    let fourth = newcomer.asking(None);
    eventually_eq(PATIENCE, 1, async || newcomer.waiting()).await;
    eventually_eq(PATIENCE, Some(three), async || newcomer.limits.list()[0].changed).await;
    let [first, others @ ..] = held;
    drop(first);
    let fourth = fourth.await.unwrap();

    // Back to the configuration: one at a time.
    newcomer.limits.set(&name(), None).await.unwrap();
    let mut fifth = newcomer.asking(None);
    drop(others);
    eventually_eq(PATIENCE, 0, async || other.limits.list()[0].held).await;
    // A permit of another worker went through the keeper after the two came back, so they have been counted.
    assert!(timeout(Duration::from_millis(300), &mut fifth).await.is_err(), "one is held already");
    drop(fourth);
    drop(timeout(PATIENCE, fifth).await.unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stricter_of_two_configurations_holds_while_both_are_there() {
    let vhost = vhost().await;
    let old = Worker::start(vhost.url(), LimitSettings::concurrency(1)).await;
    drop(old.permit(None).await);
    let new = Worker::start(vhost.url(), LimitSettings::concurrency(2)).await;
    let first = new.permit(None).await;
    let second = new.asking(None);
    eventually_eq(PATIENCE, 1, async || new.waiting()).await;
    old.stop().await;
    let second = timeout(PATIENCE, second).await.unwrap().unwrap();
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_would_wait_for_long_is_told_when_to_come_again() {
    let vhost = vhost().await;
    let link = Link::open(Arc::new(BrokerSettings::new(vhost.url()).unwrap()), Role::Consume);
    let limits =
        Limits::start(link, one(LimitSettings::rate("1/min".parse().unwrap())), LimitOptions::default()).await.unwrap();
    let first = limits.admit("default", "probe", None).await;
    assert!(matches!(first, Admission::Now(_)));
    for turn in [60, 120, 180] {
        let Admission::Later(wait) = limits.admit("default", "probe", None).await else { panic!("too many") };
        assert!((turn - 10..=turn + 1).contains(&wait.as_secs()), "{wait:?}");
    }
}

#[tokio::test]
async fn a_limit_per_worker_asks_nobody() {
    // Nothing listens there.
    let link = Link::open(Arc::new(BrokerSettings::new("amqp://127.0.0.1:1").unwrap()), Role::Consume);
    let two = LimitSettings { per_worker: true, ..LimitSettings::concurrency(2) };
    let limits = Limits::start(link, one(two), LimitOptions::default()).await.unwrap();
    let admit = async || match limits.admit("default", "probe", None).await {
        Admission::Now(permit) => permit,
        other => panic!("no permit: {other:?}"),
    };
    let (first, second) = (admit().await, admit().await);
    assert!(timeout(Duration::from_millis(50), admit()).await.is_err());
    drop(first);
    let third = admit().await;
    assert_eq!((limits.list()[0].held, limits.list()[0].waiting), (2, 0));
    limits.set(&name(), Some(Terms { concurrency: Some(3), rate: None })).await.unwrap();
    let fourth = admit().await;
    drop((second, third, fourth));
}
