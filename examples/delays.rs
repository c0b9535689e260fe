//! Tasks that run later, expire, and ask to be run again: no plug-in, and none waits behind another.
//!
//! `rabbitmq/up && cargo run --example delays [AMQP URL]`

use std::time::Duration;

use leveret::{BrokerSettings, Client, Context, Error, Job, Outcome, Task, Worker};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::Instant};

#[derive(Serialize, Deserialize, Task)]
#[task(name = "reminder.send", queue = "reminders")]
struct Remind {
    text: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (sent, mut reminders) = mpsc::channel(8);
    let worker = Worker::builder(broker.clone())
        .task(move |cx: Context, job: Job<Remind>| {
            let sent = sent.clone();
            async move {
                // A snooze is no failure: the attempt is not counted.
                if job.text == "later" && cx.headers().get_i64("leveret-not-before").is_none() {
                    return Ok::<_, Error>(Outcome::Snooze(Duration::from_secs(1)));
                }
                let _ = sent.send(job.text.clone()).await;
                Ok(Outcome::Done)
            }
        })
        .build()?
        .start()
        .await?;

    let client = Client::connect(broker).await?;
    let begun = Instant::now();
    let remind = |text: &str| Remind { text: text.to_owned() };
    client.publish(&remind("in an hour")).delay(Duration::from_secs(3_600)).await?;
    client.publish(&remind("in two seconds")).delay(Duration::from_secs(2)).await?;
    client.publish(&remind("later")).await?;
    // Not run at all when nobody gets to it within five minutes: dead-lettered as `expired`.
    client.publish(&remind("at once")).expires_in(Duration::from_secs(300)).await?;
    for _ in 0..3 {
        let Some(text) = reminders.recv().await else { break };
        println!("{:>5.1} s: {text}", begun.elapsed().as_secs_f64());
    }

    client.close().await;
    worker.stop().await;
    Ok(())
}
