//! Publishes ten thousand tasks at once, and learns of each whether the broker has it.
//!
//! `rabbitmq/up && cargo run --release --example publish_many [AMQP URL]`

use leveret::{BrokerSettings, Client, Message, QueueName, QueueSettings, Topology};
use tokio::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let client = Client::connect(BrokerSettings::new(&url)?).await?;

    // A queue that no worker has declared yet: publishing to one that is not there is an error.
    let queue = Topology::new("leveret")?.queue(QueueName::new("readings")?, QueueSettings::default());
    client.apply(&queue).await?;

    let readings = (0..10_000).map(|number| Message::json("reading.store", &number)).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    let results = client.publish_many(readings.into_iter().map(|message| message.queue("readings"))).await;
    let stored = results.iter().filter(|result| result.is_ok()).count();
    println!("{stored} of {} stored in {:?}", results.len(), begun.elapsed());

    let elsewhere = client.publish_message(Message::json("reading.store", &1)?.queue("nowhere")).await;
    println!(
        "and one to a queue that is not there: {}",
        elsewhere.err().map_or_else(String::new, |error| error.to_string())
    );
    client.close().await;
    Ok(())
}
