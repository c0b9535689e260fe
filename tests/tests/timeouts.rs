//! A task that takes too long or panics has failed like any other, and the worker goes on.

use std::time::Duration;

use leveret::{Context, Error, Job, Outcome, TaskPolicy};
use leveret_testkit::eventually;
use leveret_tests::{PATIENCE, Place, Probe, probe, quick, start};

const SHORT: Duration = Duration::from_millis(50);
/// Long enough for a test to act within, however busy the machine.
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_task_out_of_time_is_tried_again_and_then_dead_as_timeout() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let policy = TaskPolicy::default().retries(1).backoff("1ms".parse().unwrap()).timeout(SHORT);
    let worker = start(worker.policy(policy).queue("default", quick(1))).await;
    let client = place.client().await;
    let id = client.publish_message(probe("slow")).await.unwrap();
    let mut first = runs.next().await;
    assert_eq!((first.attempt(), first.context.timeout()), (1, SHORT));
    first.given_up().await;
    let mut second = runs.next().await;
    assert_eq!(second.count(), (2, false));
    second.given_up().await;

    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.id().as_deref(), Some(id.as_str()));
    assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("timeout"));
    assert_eq!(dead.header_text("leveret-error-kind").as_deref(), Some("timeout"));
    assert_eq!(dead.header_text("leveret-error").as_deref(), Some("not finished within 50 ms"));
    assert_eq!(dead.header_text("leveret-attempt").as_deref(), Some("2"));

    // The one slot of this worker is free again.
    client.publish_message(probe("next")).await.unwrap();
    assert_eq!(runs.next().await.arguments, "next");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_time_after_a_timeout_is_dead_as_exhausted() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    client.publish_message(probe("slow, then bad").timeout(SECOND).max_attempts(2)).await.unwrap();
    let mut first = runs.next().await;
    assert_eq!((first.context.timeout(), first.context.max_attempts()), (SECOND, 2), "the message's own wishes");
    first.given_up().await;
    runs.next().await.fail("bad");
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("exhausted"));
    assert_eq!(dead.header_text("leveret-error").as_deref(), Some("bad"));
    let times = ["leveret-first-failed-at", "leveret-failed-at"].map(|name| dead.header_text(name).unwrap());
    assert!(times[0] < times[1], "the first failure is remembered: {times:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_failure_whether_before_or_after_the_first_await() {
    let place = Place::new().await;
    let handler = |_: Context, job: Job<Probe>| {
        let word = job.0.as_str().unwrap_or_default().to_owned();
        assert!(word != "before", "{word} the first await");
        async move {
            tokio::task::yield_now().await;
            assert!(word != "after", "{word} the first await");
            if word == "number" {
                std::panic::panic_any(7);
            }
            Ok::<_, Error>(Outcome::Done)
        }
    };
    let worker = leveret::Worker::builder(place.settings.clone())
        .policy(TaskPolicy::default().retries(1).backoff("1ms".parse().unwrap()))
        .queue("default", quick(1))
        .task(handler);
    let worker = start(worker).await;
    let client = place.client().await;
    let said = [
        ("before", "the handler panicked: before the first await"),
        ("after", "the handler panicked: after the first await"),
        ("number", "the handler panicked: it gave no text"),
    ];
    for (word, error) in said {
        let id = client.publish_message(probe(word)).await.unwrap();
        let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
        assert_eq!(dead.id().as_deref(), Some(id.as_str()));
        assert_eq!(dead.header_text("leveret-error-kind").as_deref(), Some("panic"));
        assert_eq!(dead.header_text("leveret-error").as_deref(), Some(error));
        assert_eq!(dead.header_text("leveret-attempt").as_deref(), Some("2"));
    }
    // One slot, six panics: it still works.
    client.publish_message(probe("well").reply_to("default.dead", None)).await.unwrap();
    let reply = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(reply.header_text("leveret-status").as_deref(), Some("done"));
    worker.stop().await;
}
