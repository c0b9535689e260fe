//! Hearing what becomes of tasks: begun, how far, failed, done. Off unless a queue or a task asks for it.
//!
//! `rabbitmq/up && cargo run --example events [AMQP URL]`

use std::time::Duration;

use leveret::{
    BrokerSettings, Client, Context, Error, Job, Outcome, QueueOptions, QueueSettings, Task, TaskPolicy, Worker,
    common::{
        event::{EventBatch, Happening, Tracking},
        link::{Attachment, Heard, Listener, ListenerSettings},
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "import.run", queue = "imports")]
struct Import {
    rows: u64,
}

async fn import(cx: Context, job: Job<Import>) -> Result<Outcome, Error> {
    for row in 1..=job.rows {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Of several that are close together only the newest is told.
        cx.progress(row, job.rows, "rows");
    }
    if cx.attempt() == 1 {
        return Err(Error::retry("the last row is missing"));
    }
    Ok(Outcome::Done)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    // `Tracking::Sampled(0.01)` tells of one task in a hundred; `events = "sampled:0.01"` in leveret.toml.
    let told = QueueSettings { events: Tracking::Full, ..QueueSettings::default() };
    let worker = Worker::builder(broker.clone())
        .policy(TaskPolicy::default().backoff("100ms".parse()?))
        .queue("imports", QueueOptions::concurrency(2).settings(told))
        .task(import)
        .build()?
        .start()
        .await?;

    // With a queue of one's own, which is gone with its connection. Any AMQP client can listen in the same way.
    let client = Client::connect(broker).await?;
    let settings = ListenerSettings {
        queue: format!("example.events.{}", std::process::id()),
        bindings: vec![("leveret.events".to_owned(), "task.#".to_owned())],
        prefetch: 100,
        room: 10_000,
        patience: Duration::from_secs(60),
    };
    let (hear, mut heard) = mpsc::unbounded_channel();
    let listener = Listener::start(client.link().clone(), settings, move |message: Heard| {
        if let Ok(batch) = serde_json::from_slice::<EventBatch>(&message.body) {
            batch.events.into_iter().for_each(|event| drop(hear.send(event)));
        }
        std::future::ready(())
    })?;
    listener.attached().wait_for(|attached| *attached == Attachment::Attached).await?;

    client.publish(&Import { rows: 3 }).await?;
    // Kinds travel in messages of their own: their order is that of `attempt` and `at`, not of arrival.
    let mut events = Vec::new();
    while !events.iter().any(|event: &leveret::common::event::TaskEvent| matches!(event.what, Happening::Done { .. })) {
        events.push(heard.recv().await.ok_or("the listener has ended")?);
    }
    events.sort_by_key(|event| (event.attempt, event.at));
    for event in &events {
        match &event.what {
            Happening::Started { waited_ms } => {
                println!("{} started, attempt {}, waited {waited_ms:?} ms", event.task, event.attempt);
            }
            Happening::Progress(progress) => println!("{} of {:?}", progress.cursor, progress.total),
            Happening::Failed { error, .. } => println!("failed: {error}"),
            Happening::Done { .. } => println!("done in attempt {}", event.attempt),
            other => println!("{other:?}"),
        }
    }

    drop(listener);
    client.close().await;
    worker.stop().await;
    Ok(())
}
