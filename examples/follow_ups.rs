//! A task that makes others: they are published once it has succeeded, and never if it fails.
//!
//! `rabbitmq/up && cargo run --example follow_ups [AMQP URL]`

use std::time::Duration;

use leveret::{BrokerSettings, Client, Context, Error, Job, Message, Outcome, Task, TaskPolicy, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "order.place", queue = "orders")]
struct Place {
    order: u64,
}

#[derive(Serialize, Deserialize, Task)]
#[task(name = "invoice.write", queue = "orders")]
struct WriteInvoice {
    order: u64,
    attempt: u32,
}

async fn place(cx: Context, job: Job<Place>) -> Result<Outcome, Error> {
    // Its id follows from that of this task: should this attempt be repeated, it makes no second invoice.
    cx.follow_up_task(&WriteInvoice { order: job.order, attempt: cx.attempt() })?;
    cx.follow_up(Message::json("order.archive", &job.order)?.queue("orders").delay(Duration::from_secs(1)));
    if cx.attempt() == 1 {
        return Err(Error::retry("no stock at the moment"));
    }
    // The broker confirms both before it hears that this task is done.
    Ok(Outcome::Done)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (say, mut said) = mpsc::unbounded_channel();
    let archived = say.clone();
    let worker = Worker::builder(broker.clone())
        .policy(TaskPolicy::default().backoff("100ms".parse()?))
        .task(place)
        .task(move |_: Context, job: Job<WriteInvoice>| {
            let say = say.clone();
            async move {
                say.send(format!("the invoice of order {} comes from attempt {}", job.order, job.attempt))?;
                Ok::<_, Error>(Outcome::Done)
            }
        })
        .raw("order.archive", TaskPolicy::default(), move |_: Context, order| {
            let archived = archived.clone();
            async move {
                archived.send(format!("order {} is archived", String::from_utf8_lossy(&order)))?;
                Ok::<_, Error>(Outcome::Done)
            }
        })
        .queue("orders", 4)
        .build()?
        .start()
        .await?;

    let client = Client::connect(broker).await?;
    client.publish(&Place { order: 7 }).await?;
    for _ in 0..2 {
        println!("{}", said.recv().await.ok_or("the worker has ended")?);
    }
    client.close().await;
    worker.stop().await;
    match said.recv().await {
        None => println!("and nothing came of the attempt that failed"),
        Some(more) => return Err(format!("nobody asked for this: {more}").into()),
    }
    Ok(())
}
