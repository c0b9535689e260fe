//! What a handler can be: a function that blocks, one for several tasks at a time, a type of one's own; and what they share.
//!
//! `rabbitmq/up && cargo run --example handlers [AMQP URL]`

use std::time::Duration;

use leveret::{
    Batch, BatchOptions, BrokerSettings, Client, Context, Error, Handler, Job, Message, Outcome, Task, Worker,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "number.factor", queue = "numbers")]
struct Factor(u64);

#[derive(Serialize, Deserialize, Task)]
#[task(name = "row.insert", queue = "rows")]
struct Insert(i64);

#[derive(Serialize, Deserialize, Task)]
#[task(name = "mail.send", queue = "mails")]
struct Send {
    to: String,
}

/// It computes for long without awaiting: registered with `task_blocking`, it has a thread to itself.
#[expect(clippy::needless_pass_by_value, reason = "a handler owns what it is given")]
fn factor(cx: Context, job: Job<Factor>) -> Result<(), Error> {
    let (mut rest, mut factors, mut next) = (job.0, Vec::new(), 2);
    while rest > 1 {
        if rest % next == 0 {
            factors.push(next);
            rest /= next;
        } else {
            next += 1;
        }
    }
    cx.state::<Done>()?.say(format!("{} = {factors:?}", job.0))
}

/// One statement for all of them; each is settled by itself.
async fn insert(batch: Batch<Insert>) -> Result<(), Error> {
    let Some(first) = batch.jobs.first() else { return Ok(()) };
    first.context.state::<Done>()?.say(format!("{} rows in one statement", batch.jobs.len()))?;
    for job in batch.jobs.iter().filter(|job| job.arguments.0 < 0) {
        job.end(Err::<(), _>(Error::reject("a row cannot be negative")));
    }
    // What was not ended above ends like this.
    Ok(())
}

/// A handler that has fields.
struct Mailer {
    sender: String,
}

impl Handler for Mailer {
    type Task = Send;

    async fn run(&self, cx: Context, job: Job<Send>) -> Result<Outcome, Error> {
        cx.state::<Done>()?.say(format!("{} writes to {}", self.sender, job.to))?;
        Ok(Outcome::Done)
    }
}

/// Shared by all handlers, which find it by its type: a pool of connections, say. Here it tells `main` what was done.
struct Done(mpsc::UnboundedSender<String>);

impl Done {
    fn say(&self, text: String) -> Result<(), Error> {
        Ok(self.0.send(text)?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (done, mut all) = mpsc::unbounded_channel();
    let worker = Worker::builder(broker.clone())
        .state(Done(done))
        .task_blocking(factor)
        .task_batch(BatchOptions::new(10, Duration::from_millis(200)), insert)
        .handler(Mailer { sender: "hare@example.org".to_owned() })
        .build()?
        .start()
        .await?;

    let client = Client::connect(broker).await?;
    client.publish(&Factor(5_040)).await?;
    client.publish(&Send { to: "ada@example.org".to_owned() }).await?;
    let rows = [1, 2, -3, 4].map(|row| Message::of(&Insert(row)));
    client.publish_many(rows.into_iter().collect::<Result<Vec<_>, _>>()?).await;
    for _ in 0..3 {
        println!("{}", all.recv().await.ok_or("the worker has ended")?);
    }

    client.close().await;
    worker.stop().await;
    Ok(())
}
