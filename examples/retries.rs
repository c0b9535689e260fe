//! A task that fails twice and then succeeds: attempts, delays between them, and failures that are not tried again.
//!
//! `rabbitmq/up && cargo run --example retries [AMQP URL]`

use std::time::Duration;

use leveret::{BrokerSettings, Client, Context, Error, Job, Outcome, Task, TaskPolicy, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "payment.capture", queue = "payments", timeout = "30s", retries = 5)]
struct Capture {
    order: u64,
    amount: i64,
}

async fn capture(cx: Context, job: Job<Capture>) -> Result<Outcome, Error> {
    if job.amount <= 0 {
        // No attempt will ever succeed: straight to the dead-letter queue, with this reason.
        return Err(Error::reject(format!("order {} is over {} cents", job.order, job.amount)));
    }
    if cx.attempt() < 3 {
        // Tried again after a delay, as the policy says. Any error type works with `?`, too.
        return Err(Error::retry("the bank does not answer"));
    }
    println!("order {} captured at attempt {}", job.order, cx.attempt());
    Ok(Outcome::Done)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (captured, mut all) = mpsc::channel(1);
    let worker = Worker::builder(broker.clone())
        .policy(TaskPolicy::default().backoff("100ms..1m".parse()?))
        .task(move |cx, job: Job<Capture>| {
            let captured = captured.clone();
            async move {
                let outcome = capture(cx, job).await?;
                // The receiver is gone only when the program ends.
                let _ = captured.send(()).await;
                Ok(outcome)
            }
        })
        .build()?
        .start()
        .await?;

    let client = Client::connect(broker).await?;
    client.publish(&Capture { order: 1, amount: 1_250 }).await?;
    client.publish(&Capture { order: 2, amount: -3 }).await?;
    if tokio::time::timeout(Duration::from_secs(30), all.recv()).await.is_err() {
        return Err("order 1 was not captured in time".into());
    }
    println!("order 2 is in the queue payments.dead: `leveret dead list --queue payments` shows why");

    client.close().await;
    worker.stop().await;
    Ok(())
}
