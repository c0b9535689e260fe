//! Soft and hard limits, heartbeats, and calling off what runs.

use std::time::Duration;

use leveret::{Cancelled, Context, Error, Job, Outcome, TaskPolicy, Worker};
use leveret_testkit::{eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, Probe, probe, quick, start, within};
use tokio::{sync::mpsc, time::Instant};

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn at_the_soft_timeout_the_handler_is_told_and_may_tidy_up() {
    let place = Place::new().await;
    let policy = TaskPolicy::default().retries(0).timeout(PATIENCE).soft_timeout(SHORT);
    let worker = Worker::builder(place.settings.clone()).policy(policy).queue("default", quick(1)).task(
        async |context: Context, _: Job<Probe>| {
            context.cancelled().await;
            assert_eq!(context.why_cancelled(), Some(Cancelled::OutOfTime));
            assert!(context.time_left() > Duration::from_secs(5), "there is time to tidy up");
            Err::<Outcome, _>(context.cancelled_error())
        },
    );
    let worker = start(worker).await;
    place.client().await.publish_message(probe("")).await.unwrap();
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("timeout"));
    assert_eq!(dead.header_text("leveret-error").as_deref(), Some("it ended when its soft timeout was over"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_gives_no_heartbeat_is_taken_to_hang() {
    let place = Place::new().await;
    let (beats, mut beaten) = mpsc::unbounded_channel();
    let policy = TaskPolicy::default().retries(0).timeout(PATIENCE).heartbeat(Duration::from_millis(300));
    let worker = Worker::builder(place.settings.clone()).policy(policy).queue("default", quick(1)).task(
        move |context: Context, _: Job<Probe>| {
            let beats = beats.clone();
            async move {
                for beat in 1..=8 {
                    tokio::time::sleep(SHORT).await;
                    context.progress(beat, 8, "still there");
                    beats.send(beat).unwrap();
                }
                std::future::pending::<Result<Outcome, Error>>().await
            }
        },
    );
    let worker = start(worker).await;
    let began = Instant::now();
    place.client().await.publish_message(probe("")).await.unwrap();
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.header_text("leveret-error").as_deref(), Some("no heartbeat for 300 ms"));
    // It went on for longer than that while it was heard of.
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert_eq!(std::iter::from_fn(|| beaten.try_recv().ok()).count(), 8);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_called_off_is_told_at_once_and_dropped_if_it_does_not_listen() {
    let place = Place::new().await;
    let (told, mut tell) = mpsc::unbounded_channel();
    let worker = Worker::builder(place.settings.clone()).queue("default", quick(2)).task(
        move |context: Context, job: Job<Probe>| {
            let told = told.clone();
            async move {
                let token = context.cancellation();
                let (deaf, guard) = (job.arguments.0 == "deaf", scopeguard(told.clone()));
                token.cancelled().await;
                told.send((Instant::now(), "told")).unwrap();
                if deaf {
                    std::future::pending::<()>().await;
                }
                drop(guard);
                Err::<Outcome, Error>(context.cancelled_error())
            }
        },
    );
    let worker = start(worker).await;
    let client = place.client().await;
    place.vhost.declare("answers").await;
    for (word, limit) in [("listens", Duration::from_secs(1)), ("deaf", Duration::from_secs(9))] {
        let id = client.publish_message(probe(word).reply_to("answers", None)).await.unwrap();
        let steering = worker.steering();
        eventually_eq(PATIENCE, 1, async || steering.running().len()).await;
        let called_off = Instant::now();
        assert_eq!(steering.cancel(|task| task.id() == &id, "the customer left"), 1);
        let (heard, _) = within("the handler is told", tell.recv()).await.unwrap();
        assert!(heard - called_off < Duration::from_secs(1));
        let (ended, what) = within("the handler ends", tell.recv()).await.unwrap();
        assert_eq!(what, "dropped");
        assert!(ended - called_off < limit, "{word}");
        let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
        assert_eq!(answer.header_text("leveret-status").as_deref(), Some("cancelled"));
        assert_eq!(answer.json()["error"], "the customer left");
    }
    worker.stop().await;
    assert_eq!((place.vhost.ready("default").await, place.vhost.ready("default.dead").await), (0, 0));
}

/// Tells when it is dropped.
struct Guard(mpsc::UnboundedSender<(Instant, &'static str)>);

fn scopeguard(told: mpsc::UnboundedSender<(Instant, &'static str)>) -> Guard {
    Guard(told)
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send((Instant::now(), "dropped"));
    }
}
