//! The JSON Schema of a task's arguments travels with its worker's announcement, for forms and checks elsewhere.
//!
//! `rabbitmq/up && cargo run --features schema --example schema [AMQP URL]`

use leveret::{
    BrokerSettings, Context, Error, Job, Outcome, Task, Worker,
    common::registry::{Change, Registry},
    schemars::{self, JsonSchema},
};
use serde::{Deserialize, Serialize};

/// A type that has a schema is announced with it; `#[task(schema = true)]` makes it an error to have none.
#[derive(Serialize, Deserialize, JsonSchema, Task)]
#[task(name = "report.send", queue = "reports", schema = true)]
struct SendReport {
    /// Who gets it.
    to: String,
    /// How many pages at most.
    #[schemars(range(min = 1, max = 500))]
    pages: u32,
}

async fn send(_: Context, job: Job<SendReport>) -> Result<Outcome, Error> {
    println!("{} pages to {}", job.pages, job.to);
    Ok(Outcome::Done)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let registry = Registry::connect(broker.clone()).await?;
    let mut changes = registry.changes();
    let worker = Worker::builder(broker).name("reporter").task(send).build()?.start().await?;

    // `leveret workers show reporter` prints the same.
    let about = loop {
        if let Change::Online(peer) | Change::Changed(peer) = changes.recv().await?
            && let Some(about) = &peer.about
        {
            break about.clone();
        }
    };
    for task in &about.tasks {
        println!("{} in queue {:?}", task.name, task.queue);
        println!("{:#}", task.schema.as_ref().ok_or("the task has no schema")?);
    }

    worker.stop().await;
    Ok(())
}
