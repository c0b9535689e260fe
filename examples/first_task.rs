//! Publishes a task and runs it: the shortest whole program.
//!
//! `rabbitmq/up && cargo run --example first_task [AMQP URL]`, then press Ctrl-C

use leveret::{BrokerSettings, Client, Context, Error, Job, Outcome, Task, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(name = "greeting.print", queue = "greetings")]
struct Greet {
    name: String,
}

async fn greet(cx: Context, job: Job<Greet>) -> Result<Outcome, Error> {
    println!("Hello, {}! This is attempt {} of task {}.", job.name, cx.attempt(), cx.id());
    Ok(Outcome::Done)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;

    // The worker declares the queue `greetings`, which is where the task says that it belongs.
    let worker = Worker::builder(broker.clone()).task(greet).build()?.start().await?;

    // `await` ends when the broker has the task on disk.
    let client = Client::connect(broker).await?;
    let id = client.publish(&Greet { name: "world".to_owned() }).await?;
    println!("published {id}; Ctrl-C ends");

    tokio::signal::ctrl_c().await?;
    client.close().await;
    // Lets running tasks finish, and gives back those that were not begun.
    worker.stop().await;
    Ok(())
}
