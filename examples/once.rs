//! Work that is published many times and takes effect once: by the task's id, or by a unique key over a time window.
//!
//! `rabbitmq/up && cargo run --example once [AMQP URL]`

use std::time::Duration;

use leveret::{
    BrokerSettings, Client, Clock, Context, Error, Job, Message, Outcome, Task, Worker, layer::Once, once::MemoryOnce,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// For an hour, one reminder for each invoice, whoever asks for it and however often.
#[derive(Serialize, Deserialize, Task)]
#[task(name = "invoice.remind", queue = "reminders", unique(key = "{invoice}", window = "1h"))]
struct Remind {
    invoice: u64,
    text: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(name = "card.charge", queue = "reminders")]
struct Charge {
    cents: u64,
}

#[derive(Serialize, Deserialize, Task)]
#[task(name = "queue.end", queue = "reminders")]
struct End;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (say, mut said) = mpsc::unbounded_channel();
    let (charged, end) = (say.clone(), say.clone());
    let worker = Worker::builder(broker.clone())
        .queue("reminders", 1)
        // Knows what this process has done. For what other workers have done see `once_sqlite`, and docs/once.md.
        .layer(Once::new(MemoryOnce::new(Clock::system())))
        .task(move |_: Context, job: Job<Remind>| {
            let say = say.clone();
            async move {
                say.send(format!("invoice {}: {}", job.invoice, job.text))?;
                Ok::<_, Error>(Outcome::Done)
            }
        })
        .task(move |_: Context, job: Job<Charge>| {
            let charged = charged.clone();
            async move {
                charged.send(format!("charged {} cents", job.cents))?;
                Ok::<_, Error>(Outcome::Done)
            }
        })
        .task(move |_: Context, _: Job<End>| {
            let end = end.clone();
            async move {
                end.send("the end".to_owned())?;
                Ok::<_, Error>(Outcome::Done)
            }
        })
        .build()?
        .start()
        .await?;

    let client = Client::connect(broker).await?;
    for number in 1..=100 {
        client.publish(&Remind { invoice: 17, text: format!("publish {number}") }).await?;
    }
    client.publish(&Remind { invoice: 18, text: "another invoice".to_owned() }).await?;
    // A publisher that saw no confirm publishes again, under the same id.
    let charge = Message::of(&Charge { cents: 499 })?;
    client.publish_message(charge.clone()).await?;
    client.publish_message(charge).await?;
    // The key of a single task goes before that of its type.
    client.publish(&Remind { invoice: 17, text: "again".to_owned() }).unique("17-b", Duration::from_secs(60)).await?;
    client.publish(&End).await?;
    let mut ran = 0;
    while let Some(line) = said.recv().await.filter(|line| line != "the end") {
        ran += 1;
        println!("{line}");
    }
    println!("{ran} of 104 tasks had to be run");

    client.close().await;
    worker.stop().await;
    Ok(())
}
