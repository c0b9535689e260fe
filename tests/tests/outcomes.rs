//! Every outcome of a handler does what it says, in the order that loses nothing.

use std::time::Duration;

use leveret::{BrokerSettings, Client, Context, Error, Job, Outcome, Task, TaskPolicy, Worker};
use leveret_testkit::{Broker, eventually};
use leveret_tests::{Place, probe};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

impl Task for Add {
    const NAME: &'static str = "add";
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_task_is_run_once_and_acknowledged() {
    let vhost = Broker::shared().await.vhost().await;
    let settings = BrokerSettings::new(vhost.url()).unwrap();
    let (seen, mut sums) = mpsc::unbounded_channel();
    let worker = Worker::builder(settings.clone())
        .task(move |_: Context, job: Job<Add>| {
            let seen = seen.clone();
            async move {
                seen.send(job.a + job.b).unwrap();
                Ok::<_, Error>(Outcome::Done)
            }
        })
        .build()
        .unwrap()
        .start()
        .await
        .unwrap();
    let client = Client::connect(settings).await.unwrap();
    client.publish(&Add { a: 2, b: 3 }).await.unwrap();
    assert_eq!(sums.recv().await, Some(5));
    eventually(PATIENCE, || async { vhost.ready("default").await == 0 }).await;
    worker.stop().await;
    assert_eq!(vhost.ready("default").await, 0);
    assert_eq!(vhost.ready("default.dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_task_is_tried_again_and_then_dead_with_its_reason() {
    let vhost = Broker::shared().await.vhost().await;
    let settings = BrokerSettings::new(vhost.url()).unwrap();
    let (seen, mut attempts) = mpsc::unbounded_channel();
    let worker = Worker::builder(settings.clone())
        .name("tester")
        .policy(TaskPolicy::default().retries(1).backoff("10ms".parse().unwrap()))
        .task(move |cx: Context, _: Job<Add>| {
            let seen = seen.clone();
            async move {
                seen.send((cx.attempt(), cx.is_redelivered())).unwrap();
                Err::<Outcome, _>(Error::retry("no such luck"))
            }
        })
        .build()
        .unwrap()
        .start()
        .await
        .unwrap();
    let client = Client::connect(settings).await.unwrap();
    let id = client.publish(&Add { a: 2, b: 3 }).header("x-mine", "kept").await.unwrap();
    assert_eq!(attempts.recv().await, Some((1, false)));
    assert_eq!(attempts.recv().await, Some((2, false)));
    let dead = eventually(PATIENCE, || vhost.take("default.dead")).await;
    assert_eq!(dead.id().as_deref(), Some(id.as_str()));
    assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("exhausted"));
    assert_eq!(dead.header_text("leveret-error").as_deref(), Some("no such luck"));
    assert_eq!(dead.header_text("leveret-worker").as_deref(), Some("tester"));
    assert_eq!(dead.header_text("x-mine").as_deref(), Some("kept"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_task_is_dead_at_once_with_the_handlers_words() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    let endings = [Ok(Outcome::Reject("no such picture".to_owned())), Err(Error::reject("no such picture"))];
    for ending in endings {
        let id = client.publish_message(probe(1)).await.unwrap();
        runs.next().await.end(ending);
        let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
        assert_eq!(dead.id().as_deref(), Some(id.as_str()));
        assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("rejected"));
        assert_eq!(dead.header_text("leveret-error-kind").as_deref(), Some("rejected"));
        assert_eq!(dead.header_text("leveret-error").as_deref(), Some("no such picture"));
        assert_eq!(dead.header_text("leveret-attempt").as_deref(), Some("1"));
    }
    worker.stop().await;
    assert!(runs.begun().is_none(), "it is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_task_leaves_no_trace() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    place.vhost.declare("answers").await;
    let client = place.client().await;
    client.publish_message(probe(1).reply_to("answers", None)).await.unwrap();
    runs.next().await.end(Ok(Outcome::Discard("the order was cancelled".to_owned())));
    worker.stop().await;
    for queue in place.vhost.queues().await {
        assert_eq!(place.vhost.ready(&queue).await, 0, "{queue}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_when_to_try_again() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    client.publish_message(probe(1).max_attempts(2)).await.unwrap();
    let run = runs.next().await;
    let (delay, failed) = (Duration::from_millis(230), run.context.clock().now());
    run.end(Err(Error::retry_after(delay, "busy")));
    let run = runs.next().await;
    let waited = run.started.since(failed);
    assert!(waited >= delay, "early: after {waited:?}");
    assert_eq!(run.count(), (2, false));
    run.end(Err(Error::retry_after(delay, "still busy")));
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("exhausted"), "attempts are bounded even so");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_error_of_the_handlers_own_is_tried_again_and_told() {
    let place = Place::new().await;
    let worker = place.worker().0.raw("read", TaskPolicy::default().retries(0), async |_, body| {
        let text = std::str::from_utf8(&body)?;
        text.parse::<u8>()?;
        Ok::<(), Error>(())
    });
    let worker = leveret_tests::start(worker.queue("default", leveret_tests::quick(1))).await;
    let client = place.client().await;
    for (body, error) in [("\u{ff}".as_bytes(), "invalid digit found in string"), (&[0xff], "invalid utf-8 sequence")] {
        let message = leveret::Message::raw("read", body.to_vec(), "text/plain");
        client.publish_message(message).await.unwrap();
        let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
        let said = dead.header_text("leveret-error");
        assert!(said.as_deref().is_some_and(|said| said.contains(error)), "{said:?}");
        assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("exhausted"));
        assert_eq!(dead.body, body);
    }
    worker.stop().await;
}
