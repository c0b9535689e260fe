//! Priorities that hold on every broker: queues that share their runners by weight; and a queue that is paused.
//!
//! `rabbitmq/up && cargo run --example pools [AMQP URL]`

use std::time::Duration;

use leveret::{
    BrokerSettings, Client, Context, Error, Job, Outcome, PoolOptions, QueueName, QueueOptions, QueueSettings, Task,
    Topology, Worker,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "mail.send", queue = "mail-normal", timeout = "30s")]
struct Send {
    to: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let client = Client::connect(broker.clone()).await?;
    let queues = ["mail-urgent", "mail-normal"];
    let mut topology = Topology::new("leveret")?;
    for queue in queues {
        topology = topology.queue(QueueName::new(queue)?, QueueSettings::default());
    }
    client.apply(&topology).await?;

    // Both queues are full before anybody works.
    for to in 0..40 {
        client.publish(&Send { to }).await?;
        client.publish(&Send { to }).queue("mail-urgent").await?;
    }
    // Turns are taken of what has been fetched, by default four of each queue at least: more where tasks are as short as
    // these, so that the next of them is here in time.
    let fetched = || QueueOptions::concurrency(1).prefetch(40);
    let pool = PoolOptions::concurrency(1);
    let pool = pool.queue_with("mail-urgent", 3, fetched()).queue_with("mail-normal", 1, fetched());
    let (sent, mut all) = mpsc::unbounded_channel();
    let worker = Worker::builder(broker)
        // One runner. While both have tasks waiting, the urgent ones get three turns of four.
        .pool(pool)
        .task(move |cx: Context, _: Job<Send>| {
            let sent = sent.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                sent.send(cx.queue().to_owned())?;
                Ok::<_, Error>(Outcome::Done)
            }
        })
        .build()?
        .start()
        .await?;
    let mut urgent = 0;
    for _ in 0..40 {
        urgent += u32::from(all.recv().await.ok_or("the worker has ended")? == "mail-urgent");
    }
    println!("of the first 40, {urgent} were urgent");

    // What was fetched goes back, what runs goes on. `leveret workers pause` does it from outside, and `--everywhere`
    // for all workers, also those that start later.
    let steering = worker.steering();
    steering.pause("mail-normal", "the mail server is down")?;
    println!("paused: {}", steering.paused("mail-normal")?.unwrap_or_default());
    while urgent < 40 {
        urgent += u32::from(all.recv().await.ok_or("the worker has ended")? == "mail-urgent");
    }
    println!("the urgent ones are sent");

    steering.resume("mail-normal")?;
    steering.set_concurrency("mail-normal", 8)?;
    client.publish(&Send { to: 41 }).await?;
    while all.recv().await.ok_or("the worker has ended")? != "mail-normal" {}
    println!("and normal ones again");

    client.close().await;
    worker.stop().await;
    Ok(())
}
