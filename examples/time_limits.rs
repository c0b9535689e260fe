//! Time limits, and calling off a task that runs: a soft limit tells the handler, a hard one drops it.
//!
//! `rabbitmq/up && cargo run --example time_limits [AMQP URL]`

use std::time::Duration;

use leveret::{
    BrokerSettings, Client, Context, Error, Job, Outcome, Task, TaskPolicy, Worker,
    common::control::{Command, Control, Target},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "report.build", queue = "reports", retries = 0)]
struct Build {
    pages: u64,
}

async fn build(cx: Context, job: Job<Build>) -> Result<Outcome, Error> {
    let tell = cx.state::<mpsc::UnboundedSender<String>>()?;
    tell.send(format!("{} pages: begun", job.pages))?;
    let _dropped = Dropped(tell.clone(), job.pages);
    for page in 1..=job.pages {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => cx.progress(page, job.pages, "pages"),
            // A handler that does not look is dropped: at the timeout, or five seconds after it was called off.
            () = cx.cancelled(), if job.pages != 1_000 => {
                tell.send(format!("{} pages: told to end after {page}: {:?}", job.pages, cx.why_cancelled()))?;
                return Err(cx.cancelled_error());
            }
        }
    }
    Ok(Outcome::Done)
}

/// What a handler holds is dropped with it, whichever way it ends.
struct Dropped(mpsc::UnboundedSender<String>, u64);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(format!("{} pages: ended", self.1));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (tell, mut told) = mpsc::unbounded_channel::<String>();
    let limits = TaskPolicy::default().soft_timeout(Duration::from_secs(2)).timeout(Duration::from_secs(3));
    let worker = Worker::builder(broker.clone()).policy(limits).state(tell).task(build).build()?.start().await?;

    let client = Client::connect(broker.clone()).await?;
    client.publish(&Build { pages: 100 }).await?; // heeds the soft limit
    client.publish(&Build { pages: 1_000 }).await?; // does not: the hard limit ends it
    let unwanted = client.publish(&Build { pages: 200 }).await?;

    // From outside: by any program, or by `leveret workers cancel`.
    let control = Control::connect(broker).await?;
    for _ in 0..3 {
        println!("{}", told.recv().await.ok_or("the worker has ended")?);
    }
    let command = Command::cancel([unwanted], Some("the customer left".to_owned()));
    control.send(&Target::All, &command, Duration::from_secs(1)).await?;
    for _ in 0..5 {
        println!("{}", told.recv().await.ok_or("the worker has ended")?);
    }

    client.close().await;
    worker.stop().await;
    Ok(())
}
