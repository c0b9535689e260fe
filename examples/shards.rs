//! Tasks of one key run one after another, in the order in which they were published; those of other keys beside them.
//!
//! `rabbitmq/up && cargo run --example shards [AMQP URL]`
//!
//! The broker needs its plug-in `rabbitmq_consistent_hash_exchange`, which `rabbitmq/up` enables.

use std::{collections::BTreeMap, time::Duration};

use leveret::{
    BrokerSettings, Client, Context, Error, Job, Message, Outcome, QueueOptions, QueueSettings, RunningWorker, Task,
    TaskPolicy, Worker, worker::control::ControlSettings,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "account.book", queue = "accounts", key = "account-{account}")]
struct Book {
    account: u32,
    number: u32,
}

type Ran = (u32, u32, String);

async fn worker(
    broker: &BrokerSettings,
    name: &str,
    ran: mpsc::UnboundedSender<Ran>,
) -> Result<RunningWorker, Box<dyn std::error::Error>> {
    let book = move |cx: Context, job: Job<Book>| {
        let ran = ran.clone();
        async move {
            if job.number == 3 && cx.attempt() == 1 {
                // A backoff of less than 30 s holds its shard: nothing of this account overtakes it.
                return Err(Error::retry("the ledger is locked"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            ran.send((job.account, job.number, cx.worker().to_owned()))?;
            Ok(Outcome::Done)
        }
    };
    let sharded = QueueSettings { shards: Some(4), ..QueueSettings::default() };
    Ok(Worker::builder(broker.clone())
        .name(name)
        .control(ControlSettings::default().beat(Duration::from_millis(200)))
        .policy(TaskPolicy::default().backoff("100ms".parse()?))
        .queue("accounts", QueueOptions::concurrency(4).settings(sharded))
        .task(book)
        .build()?
        .start()
        .await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (tell, mut ran) = mpsc::unbounded_channel();
    let first = worker(&broker, "ann", tell.clone()).await?;
    let second = worker(&broker, "bob", tell).await?;

    let client = Client::connect(broker).await?;
    let bookings = (0..10).flat_map(|number| (0..6).map(move |account| Book { account, number }));
    let messages = bookings.map(|booking| Message::of(&booking)).collect::<Result<Vec<_>, _>>()?;
    client.publish_many(messages).await.into_iter().collect::<Result<Vec<_>, _>>()?;

    let mut by_account: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for done in 0..60 {
        if done == 20 {
            // Its shards are taken over by the other one.
            first.stopper().stop();
        }
        let (account, number, _) = ran.recv().await.ok_or("the workers have ended")?;
        by_account.entry(account).or_default().push(number);
    }
    for (account, numbers) in &by_account {
        println!("account {account}: {numbers:?}");
    }
    if by_account.values().any(|numbers| !numbers.is_sorted() || numbers.len() != 10) {
        return Err("a booking was overtaken".into());
    }
    println!("each account in its order");

    client.close().await;
    first.stop().await;
    second.stop().await;
    Ok(())
}
