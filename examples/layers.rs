//! Layers: what is done around every attempt. One of one's own, one that tells failures apart, and one of tower's.
//!
//! `rabbitmq/up && cargo run --example layers [AMQP URL]`

use std::{io, time::Duration};

use leveret::{
    BrokerSettings, Client, Context, Error, Job, Layer, Outcome, Task, TaskPolicy, Worker,
    layer::{Classify, FailureClass, tower::Tower},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "file.read", queue = "files")]
struct Read {
    path: String,
}

async fn read(_: Context, job: Job<Read>) -> Result<(), Error> {
    if job.path == "slow" {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    // An `io::Error`, made into an `Error` by `?`.
    tokio::fs::read(&job.path).await?;
    Ok(())
}

/// A layer of one's own: the hooks that it does not need are left out. `around` is for one that has to wait.
struct Diary(mpsc::UnboundedSender<String>);

impl Layer for Diary {
    fn before(&self, context: &Context) -> Result<(), Error> {
        if context.attempt() > 2 {
            return Err(Error::reject("two attempts are enough on this machine"));
        }
        Ok(())
    }

    fn after(&self, context: &Context, ended: &Result<Outcome, Error>) {
        let end = ended.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned());
        // Nobody listens once the program ends.
        let _ = self.0.send(format!("attempt {} at {}: {end}", context.attempt(), context.id()));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (write, mut lines) = mpsc::unbounded_channel();
    let worker = Worker::builder(broker.clone())
        .policy(TaskPolicy::default().backoff("50ms".parse()?))
        // The first is the outermost: it sees the end as the other two have left it.
        .layer(Diary(write))
        .layer(Classify::new(|error| match error.downcast_ref::<io::Error>()?.kind() {
            io::ErrorKind::NotFound => Some(FailureClass::Reject),
            io::ErrorKind::PermissionDenied => Some(FailureClass::RetryAfter(Duration::from_millis(200))),
            _ => None,
        }))
        .layer_for("file.read", Tower::new(tower::timeout::TimeoutLayer::new(Duration::from_millis(100))))
        .task(read)
        .build()?
        .start()
        .await?;

    let client = Client::connect(broker).await?;
    let read = |path: &str| Read { path: path.to_owned() };
    client.publish(&read("/dev/null")).id("there".parse()?).await?;
    client.publish(&read("/no/such/file")).id("missing".parse()?).await?;
    client.publish(&read("slow")).id("slow".parse()?).await?;
    // One is done, one is rejected at once, one is tried twice and then refused by the diary.
    for _ in 0..5 {
        match tokio::time::timeout(Duration::from_secs(20), lines.recv()).await? {
            Some(line) => println!("{line}"),
            None => break,
        }
    }
    client.close().await;
    worker.stop().await;
    Ok(())
}
