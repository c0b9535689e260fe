//! A task with a result, and a caller who waits for it.
//!
//! `rabbitmq/up && cargo run --example results [AMQP URL]`

use std::time::Duration;

use leveret::{
    BrokerSettings, Client, Context, Error, Headers, Job, Reply, Task, Worker,
    common::link::{Attachment, Heard, Listener, ListenerSettings},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "text.count", queue = "texts", retries = 0)]
struct Count {
    text: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    words: usize,
    letters: usize,
}

/// Its signature says what whoever asks will get, as JSON.
async fn count(_: Context, job: Job<Count>) -> Result<Reply<Counted>, Error> {
    if job.text.is_empty() {
        return Err(Error::reject("there is nothing to count"));
    }
    let words = job.text.split_whitespace();
    Ok(Reply(Counted { words: words.clone().count(), letters: words.map(str::len).sum() }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let worker = Worker::builder(broker.clone()).task(count).build()?.start().await?;
    let client = Client::connect(broker).await?;

    // Any queue will do for results. This one is gone with its connection, which is the client's.
    let queue = format!("example.answers.{}", std::process::id());
    let settings = ListenerSettings {
        queue: queue.clone(),
        bindings: Vec::new(),
        prefetch: 10,
        room: 1_000,
        patience: Duration::from_secs(60),
    };
    let (answer, mut answers) = mpsc::unbounded_channel();
    let listener = Listener::start(client.link().clone(), settings, move |heard: Heard| {
        // Nobody listens once the program ends.
        let _ = answer.send(heard);
        std::future::ready(())
    })?;
    listener.attached().wait_for(|attached| *attached == Attachment::Attached).await?;

    for text in ["how many words are these", ""] {
        let task = Count { text: text.to_owned() };
        let id = client.publish(&task).with(|message| message.reply_to(&queue, None)).await?;
        // There is no answer from a worker that is not there: so there is an end to waiting.
        let answer = tokio::time::timeout(Duration::from_secs(20), answers.recv()).await?.ok_or("no listener")?;
        // With several questions under way, this tells which one is answered.
        if answer.properties.correlation_id().as_ref().is_none_or(|asked| asked.as_str() != id.as_str()) {
            return Err("an answer to something else".into());
        }
        let headers = answer.properties.headers().clone().map(Headers::from).unwrap_or_default();
        match headers.get_str("leveret-status") {
            Some("done") => println!("{text:?}: {:?}", serde_json::from_slice::<Counted>(&answer.body)?),
            status => println!("{text:?} is {status:?}: {}", String::from_utf8_lossy(&answer.body)),
        }
    }

    drop(listener);
    client.close().await;
    worker.stop().await;
    Ok(())
}
