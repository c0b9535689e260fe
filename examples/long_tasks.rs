//! A task that may run for longer than the broker waits for an acknowledgement, which is half an hour unless set otherwise.
//!
//! `rabbitmq/up && cargo run --example long_tasks [AMQP URL]`

use std::time::Duration;

use leveret::{BrokerSettings, BuildError, Client, Context, Error, Job, Outcome, Task, TaskPolicy, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "film.render", queue = "films", timeout = "1day")]
struct Render {
    frames: u64,
}

async fn render(cx: Context, job: Job<Render>) -> Result<Outcome, Error> {
    let seen = cx.state::<mpsc::UnboundedSender<String>>()?;
    for frame in 1..=job.frames {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Seen by `leveret workers running`, and a sign of life: see `heartbeat` below.
        cx.progress(frame, job.frames, "frames");
    }
    seen.send(format!("{} frames rendered, redelivered: {}", job.frames, cx.is_redelivered()))?;
    Ok(Outcome::Done)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (seen, mut all) = mpsc::unbounded_channel::<String>();
    let builder = || Worker::builder(broker.clone()).state(seen.clone()).task(render);

    // The broker would give the task to another worker while it runs: so such a worker does not start.
    match builder().build() {
        Err(error @ BuildError::TooLong { .. }) => println!("refused: {error}"),
        other => return Err(format!("this should not be: {other:?}").into()),
    }

    // `long` exchanges the delivery for a lease, which is renewed while this worker lives; when it dies, the task is
    // given to another. `#[task(long = true)]` says the same. Five minutes without progress count as out of time.
    let long = |policy: TaskPolicy| policy.long(true).heartbeat(Duration::from_secs(300));
    let worker = builder().policy_for("film.render", long).build()?.start().await?;
    let client = Client::connect(broker.clone()).await?;
    client.publish(&Render { frames: 20 }).await?;
    println!("{}", all.recv().await.ok_or("the worker has ended")?);

    client.close().await;
    worker.stop().await;
    Ok(())
}
