//! Work in a database that takes effect once: the handler commits it together with the mark that says so.
//!
//! `rabbitmq/up && cargo run --features sqlite --example once_sqlite [AMQP URL]`

use leveret::{
    BrokerSettings, Client, Clock, Context, Error, Job, Message, Outcome, Task, TaskPolicy, Worker,
    layer::Once,
    store::{once::SqliteOnce, sqlite, sqlx},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "account.charge", queue = "charges")]
struct Charge {
    cents: i64,
}

async fn charge(cx: Context, job: Job<Charge>) -> Result<Outcome, Error> {
    let once = cx.state::<SqliteOnce>()?;
    let mark = cx.once_mark().ok_or_else(|| Error::reject("the worker has no layer `Once`"))?;
    let mut transaction = once.pool().begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("UPDATE accounts SET cents = cents - ?").bind(job.cents).execute(&mut *transaction).await?;
    if cx.attempt() == 1 {
        // Wherever it ends before the commit, neither the work nor the mark is there.
        return Err(Error::retry("the power fails"));
    }
    // Fails if another attempt has taken this one's place; then nothing is committed.
    once.done_in(&mut transaction, &mark).await?;
    transaction.commit().await?;
    cx.state::<mpsc::UnboundedSender<u32>>()?.send(cx.attempt())?;
    Ok(Outcome::Done)
}

#[derive(Serialize, Deserialize, Task)]
#[task(name = "account.close", queue = "charges")]
struct Close;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let file = std::env::temp_dir().join(format!("leveret-once-{}.db", std::process::id()));
    // Makes the tables `leveret_*` where they are missing.
    let pool = sqlite::open(&file).await?;
    sqlx::query("CREATE TABLE accounts AS SELECT 1000 AS cents").execute(&pool).await?;
    let once = SqliteOnce::new(pool.clone(), Clock::system());
    let (charged, mut attempts) = mpsc::unbounded_channel::<u32>();
    let (close, mut closed) = mpsc::unbounded_channel();
    let worker = Worker::builder(broker.clone())
        .queue("charges", 1)
        .policy(TaskPolicy::default().backoff("100ms".parse()?))
        .state(once.clone())
        .state(charged)
        .layer(Once::new(once))
        .task(charge)
        .task(move |_: Context, _: Job<Close>| {
            let close = close.clone();
            async move {
                close.send(())?;
                Ok::<_, Error>(Outcome::Done)
            }
        })
        .build()?
        .start()
        .await?;

    let client = Client::connect(broker).await?;
    let charge = Message::of(&Charge { cents: 499 })?;
    client.publish_message(charge.clone()).await?;
    println!("charged in attempt {}", attempts.recv().await.ok_or("the worker has ended")?);
    // The same again, twice: each is acknowledged without being run.
    client.publish_message(charge.clone()).await?;
    client.publish_message(charge).await?;
    client.publish(&Close).await?;
    closed.recv().await.ok_or("the worker has ended")?;
    let cents: i64 = sqlx::query_scalar("SELECT cents FROM accounts").fetch_one(&pool).await?;
    println!("{cents} of 1000 cents are left");

    client.close().await;
    worker.stop().await;
    pool.close().await;
    for suffix in ["", "-wal", "-shm"] {
        // SQLite may have removed it already.
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    Ok(())
}
