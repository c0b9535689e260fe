//! Stops a worker as a service should: on SIGTERM or Ctrl-C what runs may finish, a second signal ends it at once.
//!
//! `rabbitmq/up && cargo run --example graceful_shutdown [AMQP URL]`, then press Ctrl-C

use std::time::Duration;

use leveret::{BrokerSettings, Client, Context, Error, Job, Task, Worker};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Serialize, Deserialize, Task)]
#[task(name = "video.encode", queue = "videos")]
struct Encode {
    minutes: u64,
}

async fn encode(_: Context, job: Job<Encode>) -> Result<(), Error> {
    println!("encoding {} minutes", job.minutes);
    tokio::time::sleep(Duration::from_secs(job.minutes)).await;
    println!("encoded");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    // From here on a signal no longer just ends the process.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let worker = Worker::builder(broker.clone())
        .queue("videos", 2)
        .grace(Duration::from_secs(20))
        .task(encode)
        .build()?
        .start()
        .await?;

    let client = Client::connect(broker).await?;
    for minutes in [3, 4, 5, 6] {
        client.publish(&Encode { minutes }).await?;
    }

    let stopper = worker.stopper();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        println!("finishing what runs; once more to stop at once");
        stopper.stop();
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        stopper.stop_now();
    });
    // What was not finished is back in its queue, for the next worker.
    worker.wait().await;
    client.close().await;
    Ok(())
}
