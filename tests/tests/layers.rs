//! Layers see every attempt, change how it ends, and leave out what they are not asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leveret::{
    Context, Ended, Error, Job, Layer, Outcome, TaskPolicy, Worker,
    layer::{Classify, FailureClass, RateLimit, tower::Tower},
};
use leveret_testkit::{eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, Probe, probe, quick, start, within};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Writes down what it sees.
struct Diary {
    name: &'static str,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    fn write(&self, line: &str) {
        self.lines.lock().push(format!("{} {line}", self.name));
    }
}

impl Layer for Diary {
    fn before(&self, context: &Context) -> Result<(), Error> {
        self.write(&format!("before attempt {}", context.attempt()));
        if context.headers().contains("x-refuse") {
            return Err(Error::reject("refused at the door"));
        }
        Ok(())
    }

    fn on_failure(&self, _: &Context, error: &Error) {
        self.write(&format!("failed: {error}"));
    }

    fn after(&self, _: &Context, ended: &Ended) {
        self.write(&format!("after, {}", if ended.is_ok() { "well" } else { "badly" }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_task_passes_through_its_layers_from_outside_in_and_back() {
    let place = Place::new().await;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let diary = |name| Diary { name, lines: lines.clone() };
    let worker = Worker::builder(place.settings.clone())
        .policy(TaskPolicy::default().retries(1).backoff("1ms".parse().unwrap()))
        .queue("default", quick(1))
        .layer(diary("outer"))
        .layer_for("probe", diary("inner"))
        .task(async |context: Context, job: Job<Probe>| {
            assert!(context.attempt() > 1 || job.arguments.0 != "panic", "oh");
            Ok::<_, Error>(Outcome::Done)
        });
    let worker = start(worker).await;
    let client = place.client().await;
    client.publish_message(probe("panic")).await.unwrap();
    let seen = [
        "outer before attempt 1",
        "inner before attempt 1",
        "inner failed: the handler panicked: oh",
        "inner after, badly",
        "outer failed: the handler panicked: oh",
        "outer after, badly",
        "outer before attempt 2",
        "inner before attempt 2",
        "inner after, well",
        "outer after, well",
    ];
    eventually_eq(PATIENCE, seen.len(), async || lines.lock().len()).await;
    assert_eq!(*lines.lock(), seen);
    lines.lock().clear();
    client.publish_message(probe("").header("x-refuse", true)).await.unwrap();
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("rejected"));
    assert_eq!(dead.header_text("leveret-error").as_deref(), Some("refused at the door"));
    assert_eq!(lines.lock()[0..2], ["outer before attempt 1", "outer failed: refused at the door"]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_apart_by_what_they_were_made_of() {
    let place = Place::new().await;
    let worker = Worker::builder(place.settings.clone())
        .policy(TaskPolicy::default().retries(8).backoff("1h".parse().unwrap()))
        .queue("default", quick(1))
        .layer(Classify::new(|error| match error.downcast_ref::<std::io::Error>()?.kind() {
            std::io::ErrorKind::InvalidData => Some(FailureClass::Reject),
            std::io::ErrorKind::TimedOut => Some(FailureClass::RetryAfter(Duration::from_millis(1))),
            _ => None,
        }))
        .task(async |context: Context, job: Job<Probe>| {
            let kind = match job.arguments.0.as_str() {
                Some("stays") => std::io::ErrorKind::InvalidData,
                Some("soon") if context.attempt() < 3 => std::io::ErrorKind::TimedOut,
                Some("soon") => return Ok(Outcome::Done),
                _ => std::io::ErrorKind::Other,
            };
            Err::<Outcome, Error>(std::io::Error::new(kind, "as it was told").into())
        });
    let worker = start(worker).await;
    let client = place.client().await;
    place.vhost.declare("answers").await;
    for word in ["stays", "whatever"] {
        client.publish_message(probe(word)).await.unwrap();
    }
    client.publish_message(probe("soon").reply_to("answers", None)).await.unwrap();
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("rejected"));
    eventually_eq(PATIENCE, 1, async || place.vhost.ready("default.retry.1h").await).await;
    let done = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(done.header_text("leveret-attempt").as_deref(), Some("3"));
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_at_one_worker_and_what_would_wait_long_comes_back_later() {
    let place = Place::new().await;
    let (ran, mut runs) = mpsc::unbounded_channel();
    let worker = Worker::builder(place.settings.clone())
        .queue("default", quick(16))
        .layer(RateLimit::new("1/h burst 3".parse().unwrap()))
        .task(move |_: Context, job: Job<Probe>| {
            ran.send(job.arguments.0).unwrap();
            async { Ok::<_, Error>(Outcome::Done) }
        });
    let worker = start(worker).await;
    let client = place.client().await;
    client.publish_many((0..5).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
    for _ in 0..3 {
        within("the burst runs", runs.recv()).await.unwrap();
    }
    eventually_eq(PATIENCE, 2, async || place.vhost.ready("default.retry.1h").await).await;
    assert!(runs.try_recv().is_err());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_tower_layer_goes_around_tasks() {
    let place = Place::new().await;
    let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counting, running) = (most.clone(), now.clone());
    let worker = Worker::builder(place.settings.clone())
        .policy(TaskPolicy::default().retries(0))
        .queue("default", quick(8))
        .layer(Tower::new(tower::timeout::TimeoutLayer::new(Duration::from_millis(50))))
        .layer(Tower::new(tower::limit::GlobalConcurrencyLimitLayer::new(2)))
        .task(move |_: Context, job: Job<Probe>| {
            let (counting, running) = (counting.clone(), running.clone());
            async move {
                counting.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                match job.arguments.0.as_str() {
                    Some("slow") => std::future::pending().await,
                    Some("bad") => Err(Error::reject("by the handler itself")),
                    _ => Ok(Outcome::Done),
                }
            }
        });
    let worker = start(worker).await;
    let client = place.client().await;
    client.publish_many((0..20).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
    for (word, reason, error) in
        [("slow", "exhausted", "request timed out"), ("bad", "rejected", "by the handler itself")]
    {
        client.publish_message(probe(word)).await.unwrap();
        let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
        assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some(reason));
        assert_eq!(dead.header_text("leveret-error").as_deref(), Some(error));
    }
    worker.stop().await;
    assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
    assert_eq!(place.vhost.ready("default").await, 0);
}
