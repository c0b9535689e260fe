//! The producer against a broker that is a stand-in and a clock that is held: which ticks are published, when, and
//! under which ids.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use leveret_common::{
    clock::{Clock, UnixMillis},
    link::PublishError,
    message::{InvalidMessage, Message},
};
use leveret_producer::{
    Producer, Publish,
    schedule::{Expression, Schedule, Timetable, Zone},
    stats::Stats,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::yield_now,
};

const START: UnixMillis = UnixMillis(1_767_225_600_000); // 2026-01-01T00:00:00Z
const SECOND: Duration = Duration::from_secs(1);

/// A stand-in for the broker: it fails as often as it is told to, and confirms while it is open.
#[derive(Clone)]
struct Broker {
    clock: Clock,
    failures: Arc<AtomicUsize>,
    failure: fn() -> PublishError,
    open: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    published: mpsc::UnboundedSender<(String, UnixMillis)>,
}

impl Broker {
    fn new(clock: &Clock) -> (Self, mpsc::UnboundedReceiver<(String, UnixMillis)>) {
        let (published, receiver) = mpsc::unbounded_channel();
        let broker = Self {
            clock: clock.clone(),
            failures: Arc::default(),
            failure: || PublishError::Refused,
            open: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            waiting: Arc::default(),
            published,
        };
        (broker, receiver)
    }

    fn failing(self, times: usize, failure: fn() -> PublishError) -> Self {
        self.failures.store(times, SeqCst);
        Self { failure, ..self }
    }

    fn absent(self) -> Self {
        Self { open: Arc::new(Semaphore::new(0)), ..self }
    }
}

impl Publish for Broker {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.waiting.fetch_add(1, SeqCst);
        let _open = self.open.acquire().await.unwrap();
        self.waiting.fetch_sub(1, SeqCst);
        if self.failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err((self.failure)());
        }
        let _ = self.published.send((message.task_id().to_string(), self.clock.now()));
        Ok(())
    }
}

fn every(name: &str, seconds: u64) -> Schedule {
    schedule(name, Expression::every(Duration::from_secs(seconds)).unwrap())
}

fn schedule(name: &str, expression: Expression) -> Schedule {
    let message = Message::json("report", &serde_json::json!({ "pages": 3 })).unwrap();
    Schedule::new(name, Timetable::new(expression, Zone::utc()), message).unwrap()
}

/// Lets the producer do all that it can do at this moment. It runs on this very thread.
async fn rest() {
    for _ in 0..50 {
        yield_now().await;
    }
}

/// Moves the clock second by second.
async fn pass(clock: &Clock, seconds: u64) {
    for _ in 0..seconds {
        rest().await;
        clock.advance(SECOND);
    }
    rest().await;
}

fn drain(receiver: &mut mpsc::UnboundedReceiver<(String, UnixMillis)>) -> Vec<(String, UnixMillis)> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

/// The tick at so many seconds after the start.
fn tick(schedule: &Schedule, after: u64) -> String {
    schedule.tick_id(START + Duration::from_secs(after)).to_string()
}

fn ids(published: Vec<(String, UnixMillis)>) -> Vec<String> {
    published.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn every_tick_is_published_once_and_at_its_time() {
    let clock = Clock::held(START);
    let (broker, mut published) = Broker::new(&clock);
    let (ten, minute) = (every("ten", 10), schedule("minute", Expression::unix("* * * * *").unwrap()));
    let running = Producer::new([ten.clone(), minute.clone()], broker, clock.clone()).start();
    pass(&clock, 125).await;

    let at = |seconds| START + Duration::from_secs(seconds);
    let mut expected: Vec<_> = (1..=12).map(|n| (tick(&ten, n * 10), at(n * 10))).collect();
    expected.extend([(tick(&minute, 60), at(60)), (tick(&minute, 120), at(120))]);
    expected.sort();
    let mut actual = drain(&mut published);
    actual.sort();
    assert_eq!(actual, expected);
    let stats = running.stop().await;
    assert_eq!((stats.published, stats.failures, stats.waiting), (14, 0, 0));
}

#[tokio::test]
async fn two_producers_publish_the_same_ids() {
    let mut seen = Vec::new();
    for started in [0, 7] {
        let clock = Clock::held(START + Duration::from_secs(started));
        let (broker, mut published) = Broker::new(&clock);
        let _running = Producer::new([every("ten", 10)], broker, clock.clone()).start();
        pass(&clock, 40).await;
        seen.push(drain(&mut published));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].len(), 4);
}

#[tokio::test]
async fn a_broker_that_refuses_for_a_while_gets_every_tick_in_order() {
    let clock = Clock::held(START);
    let (broker, mut published) = Broker::new(&clock);
    let ten = every("ten", 10);
    let running = Producer::new([ten.clone()], broker.failing(5, || PublishError::Refused), clock.clone()).start();
    pass(&clock, 65).await;
    assert_eq!(ids(drain(&mut published)), [10, 20, 30, 40, 50, 60].map(|after| tick(&ten, after)));
    let stats = running.stop().await;
    assert_eq!((stats.published, stats.failures, stats.given_up, stats.missed), (6, 5, 0, 0));
}

#[tokio::test]
async fn a_broker_that_is_absent_gets_every_tick_when_it_is_back() {
    let clock = Clock::held(START);
    let (broker, mut published) = Broker::new(&clock);
    let broker = broker.absent();
    let ten = every("ten", 10);
    let running = Producer::new([ten.clone()], broker.clone(), clock.clone()).start();
    pass(&clock, 605).await;
    assert_eq!(running.stats(), {
        let mut stats = Stats::default();
        stats.waiting = 60;
        stats
    });
    broker.open.add_permits(1);
    pass(&clock, 5).await;
    let expected: Vec<_> = (1..=61).map(|n| tick(&ten, n * 10)).collect();
    assert_eq!(ids(drain(&mut published)), expected);
    assert_eq!(running.stop().await.waiting, 0);
}

#[tokio::test]
async fn of_a_sleep_the_last_tick_is_published_once() {
    let clock = Clock::held(START);
    let (broker, mut published) = Broker::new(&clock);
    let ten = every("ten", 10);
    let running = Producer::new([ten.clone()], broker, clock.clone()).start();
    pass(&clock, 10).await;
    // An hour passes unseen: 10 s to 3,613 s.
    clock.advance(Duration::from_secs(3_603));
    pass(&clock, 8).await;
    assert_eq!(ids(drain(&mut published)), [10, 3_610, 3_620].map(|after| tick(&ten, after)));
    let stats = running.stop().await;
    assert_eq!((stats.published, stats.missed), (3, 359));
}

#[tokio::test]
async fn a_tick_is_given_up_when_its_window_is_over() {
    let clock = Clock::held(START);
    let (broker, mut published) = Broker::new(&clock);
    let ten = every("ten", 10).catch_up(Duration::from_secs(25));
    let broker = broker.failing(usize::MAX, || PublishError::NoExchange { exchange: "leveret.publish".into() });
    let running = Producer::new([ten.clone()], broker.clone(), clock.clone()).start();
    pass(&clock, 100).await;
    let stats = running.stats();
    assert!(stats.given_up >= 5 && stats.published == 0 && stats.waiting <= 3, "{stats:?}");

    broker.failures.store(0, SeqCst);
    pass(&clock, 30).await;
    // What is left is in order and without holes.
    let published = ids(drain(&mut published));
    let first = (1..).find(|n| tick(&ten, n * 10) == published[0]).unwrap();
    assert!((8..=13).contains(&first), "{first}");
    assert_eq!(published, (first..=13).map(|n| tick(&ten, n * 10)).collect::<Vec<_>>());
    let stats = running.stop().await;
    assert_eq!(stats.published + stats.given_up, 13);
}

#[tokio::test]
async fn a_message_that_can_never_be_sent_is_given_up_at_once() {
    let clock = Clock::held(START);
    let (broker, mut published) = Broker::new(&clock);
    let broker = broker.failing(1, || InvalidMessage::TooLarge { bytes: 2, limit: 1 }.into());
    let ten = every("ten", 10);
    let running = Producer::new([ten.clone()], broker, clock.clone()).start();
    pass(&clock, 20).await;
    assert_eq!(ids(drain(&mut published)), [tick(&ten, 20)]);
    let stats = running.stop().await;
    assert_eq!((stats.published, stats.given_up, stats.failures), (1, 1, 1));
}

#[tokio::test]
async fn the_number_of_publishes_on_their_way_is_bounded() {
    let clock = Clock::held(START);
    let (broker, mut published) = Broker::new(&clock);
    let broker = broker.absent();
    let schedules = (0..300).map(|n| every(&format!("s{n}"), 5));
    let running = Producer::new(schedules, broker.clone(), clock.clone()).start();
    pass(&clock, 12).await;
    assert_eq!(broker.waiting.load(SeqCst), 256);
    assert_eq!(running.stats().waiting, 600);
    broker.open.add_permits(1);
    pass(&clock, 1).await;
    for _ in 0..100 {
        rest().await;
    }
    assert_eq!(drain(&mut published).len(), 600);
    assert_eq!(running.stats().waiting, 0);
}

#[tokio::test]
async fn a_stop_waits_for_the_confirms_on_their_way() {
    let clock = Clock::held(START);
    let (broker, mut published) = Broker::new(&clock);
    let broker = broker.absent();
    let running = Producer::new([every("ten", 10)], broker.clone(), clock.clone()).start();
    pass(&clock, 10).await;
    assert_eq!(broker.waiting.load(SeqCst), 1);
    let stopped = tokio::spawn(running.stop());
    rest().await;
    assert!(!stopped.is_finished());
    broker.open.add_permits(1);
    assert_eq!(stopped.await.unwrap().published, 1);
    assert_eq!(drain(&mut published).len(), 1);
}

#[tokio::test]
async fn a_stop_does_not_wait_beyond_the_grace_period() {
    let clock = Clock::held(START);
    let (broker, _published) = Broker::new(&clock);
    let grace = Duration::from_millis(50);
    let running = Producer::new([every("ten", 10)], broker.absent(), clock.clone()).grace(grace).start();
    pass(&clock, 10).await;
    let stats = running.stop().await;
    assert_eq!((stats.published, stats.waiting), (0, 1));
}
