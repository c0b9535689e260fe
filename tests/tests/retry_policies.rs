//! When a failed task is tried again, and when it is given up: as the message, the task or the worker says.

#![expect(clippy::unwrap_used, reason = "a test reports by failing")]

use std::time::Duration;

use leveret::{Backoff, Context, Error, Job, Message, Outcome, Retry, RetryPolicy, Task, TaskPolicy, Worker};
use leveret_testkit::{Message as Stored, eventually};
use leveret_tests::{PATIENCE, Place, probe, quick, start};
use serde::{Deserialize, Serialize};

/// What the task itself says holds over what the worker says.
#[derive(Serialize, Deserialize, Task)]
#[task(name = "stubborn", backoff = "linear 40s..5m none", give_up_after = "1h", priority = 3, key = "name")]
struct Stubborn {
    name: String,
}

fn number(message: &Stored, header: &str) -> i64 {
    message.header_text(header).unwrap().parse().unwrap()
}

/// The delay that a failed task was given, from its message in a tier.
async fn delay(place: &Place, tier: &str) -> i64 {
    let delayed = eventually(PATIENCE, async || place.vhost.take(tier).await).await;
    number(&delayed, "leveret-not-before") - number(&delayed, "leveret-failed-at")
}

/// The two moments are read from the clock one after the other.
fn is_about(delay: i64, wanted: i64) {
    assert!((wanted - 100..=wanted).contains(&delay), "{delay} ms instead of {wanted}");
}

async fn failing(place: &Place, retry: RetryPolicy) -> leveret::RunningWorker {
    let fail = |error: &'static str| async move { Err::<Outcome, _>(Error::retry(error)) };
    let worker = Worker::builder(place.settings.clone())
        .policy(TaskPolicy::default().retry(retry))
        .task(move |_: Context, _: Job<Stubborn>| fail("no such luck"))
        .raw("probe", TaskPolicy::default().retry(RetryPolicy::default().retries(9)), move |_, _| fail("no such luck"));
    start(worker.queue("default", quick(1))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_goes_before_the_task_and_the_task_before_the_worker() {
    let place = Place::new().await;
    let worker = failing(&place, RetryPolicy::default().backoff(Backoff::constant(Duration::from_secs(1)))).await;
    let client = place.client().await;
    let task = Stubborn { name: "mule".to_owned() };
    client.publish(&task).await.unwrap();
    let delayed = eventually(PATIENCE, async || place.vhost.take("default.retry.1s").await).await;
    assert_eq!(number(&delayed, "leveret-not-before") - number(&delayed, "leveret-failed-at"), 40_000);
    assert_eq!(delayed.properties.priority(), &Some(3));
    assert_eq!(delayed.header_text("leveret-key").as_deref(), Some("mule"));

    client.publish(&task).backoff("70s,90s".parse().unwrap()).await.unwrap();
    is_about(delay(&place, "default.retry.1s").await, 70_000);
    // A foreign client sets the same by a header.
    let message = Message::of(&task).unwrap().header("leveret-backoff", "80s equal");
    client.publish_message(message).await.unwrap();
    let drawn = delay(&place, "default.retry.1s").await;
    assert!((40_000..=80_000).contains(&drawn), "{drawn}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_given_up_before_an_attempt_that_would_begin_too_late() {
    let place = Place::new().await;
    let worker = failing(&place, RetryPolicy::default()).await;
    let client = place.client().await;
    let backoff = Backoff::constant(Duration::from_secs(20));
    client.publish_message(probe(1).backoff(backoff).give_up_after(Duration::from_secs(19))).await.unwrap();
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("exhausted"));
    assert_eq!(dead.header_text("leveret-attempt").as_deref(), Some("1"));

    client.publish_message(probe(2).backoff(backoff).give_up_after(Duration::from_secs(21))).await.unwrap();
    is_about(delay(&place, "default.retry.1s").await, 20_000);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_decides_where_data_does_not_suffice() {
    let place = Place::new().await;
    let retry = RetryPolicy::default().decide(|failed| match failed.error {
        "no such mailbox" => Retry::Dead,
        "greylisted" => Retry::After(Duration::from_secs(33)),
        _ => Retry::AsUsual,
    });
    let (worker, mut runs) = place.worker();
    let worker = start(worker.policy(TaskPolicy::default().retry(retry)).queue("default", quick(1))).await;
    let client = place.client().await;
    client.publish_message(probe(1)).await.unwrap();
    runs.next().await.fail("greylisted");
    is_about(delay(&place, "default.retry.1s").await, 33_000);

    client.publish_message(probe(2)).await.unwrap();
    runs.next().await.fail("no such mailbox");
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.header_text("leveret-error").as_deref(), Some("no such mailbox"));
    assert_eq!(dead.header_text("leveret-attempt").as_deref(), Some("1"));
    worker.stop().await;
}
