//! Every outcome of a handler does what it says, in the order that loses nothing.

use std::time::Duration;

use leveret::{BrokerSettings, Client, Context, Error, Job, Outcome, Task, TaskPolicy, Worker};
use leveret_testkit::{Broker, eventually};
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
