//! An outbox: a task is published if, and only if, the application's own transaction commits.
//!
//! `rabbitmq/up && cargo run --features sqlite --example outbox [AMQP URL]`

use leveret::{
    BrokerSettings, Client, Clock, Context, Error, Job, Message, Outcome, Task, Worker,
    store::{outbox::SqliteOutbox, sqlite, sqlx},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "order.ship", queue = "shipping")]
struct Ship {
    order: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (shipped, mut orders) = mpsc::unbounded_channel();
    let worker = Worker::builder(broker.clone())
        // One at a time, to see the order in which they came.
        .queue("shipping", 1)
        .task(move |_: Context, job: Job<Ship>| {
            let shipped = shipped.clone();
            async move {
                shipped.send(job.order)?;
                Ok::<_, Error>(Outcome::Done)
            }
        })
        .build()?
        .start()
        .await?;

    let file = std::env::temp_dir().join(format!("leveret-outbox-{}.db", std::process::id()));
    let pool = sqlite::open(&file).await?;
    sqlx::query("CREATE TABLE orders (number INTEGER PRIMARY KEY)").execute(&pool).await?;
    let outbox = SqliteOutbox::new(pool.clone(), Clock::system());
    // In every process of the application: one works at a time, and when it dies another takes over.
    let client = Client::connect(broker).await?;
    let relay = outbox.relay(client.clone()).start();

    for order in 1..=5 {
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("INSERT INTO orders VALUES (?)").bind(order).execute(&mut *transaction).await?;
        outbox.add(&mut transaction, &Message::of(&Ship { order })?).await?;
        if order == 3 {
            // The customer has changed their mind: neither the order nor its task is there.
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
    }
    for _ in 0..4 {
        println!("ship order {}", orders.recv().await.ok_or("the worker has ended")?);
    }
    // A row is removed once the broker has confirmed its message.
    relay.stop().await;
    println!("{} left in the outbox", outbox.waiting().await?);

    client.close().await;
    worker.stop().await;
    pool.close().await;
    for suffix in ["", "-wal", "-shm"] {
        // SQLite may have removed it already.
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    Ok(())
}
