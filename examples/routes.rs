//! Which worker gets a task: to all of them in shares, or to one that is named while it is there.
//!
//! `rabbitmq/up && cargo run --example routes [AMQP URL]`

use std::time::Duration;

use leveret::{
    BrokerSettings, Client, Context, Error, Job, Outcome, QueueOptions, QueueSettings, Route, RunningWorker, Task,
    Worker, worker::control::ControlSettings,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "cache.warm", queue = "caches")]
struct Warm {
    keys: u32,
}

/// Who ran it, and which share of a broadcast it was.
type Ran = (String, Option<(u32, u32)>, u32);

/// In a real site each is on a machine of its own.
async fn worker(
    broker: &BrokerSettings,
    name: &str,
    ran: mpsc::UnboundedSender<Ran>,
) -> Result<RunningWorker, Box<dyn std::error::Error>> {
    // Without a `route` nothing is ever forwarded, and `leveret-route` on a task is not heeded.
    let routed = QueueSettings { route: Some(Route::LeastLoaded), ..QueueSettings::default() };
    let warm = move |cx: Context, job: Job<Warm>| {
        let ran = ran.clone();
        async move {
            // Of 1,000 keys each of three workers warms a third.
            let (index, total) = cx.share().unwrap_or((0, 1));
            let mine = (0..job.keys).filter(|key| key % total == index).count();
            ran.send((cx.worker().to_owned(), cx.share(), u32::try_from(mine)?))?;
            Ok::<_, Error>(Outcome::Done)
        }
    };
    Ok(Worker::builder(broker.clone())
        .name(name)
        .control(ControlSettings::default().beat(Duration::from_millis(200)))
        .queue("caches", QueueOptions::concurrency(4).settings(routed))
        .task(warm)
        .build()?
        .start()
        .await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (tell, mut ran) = mpsc::unbounded_channel();
    let mut workers = Vec::new();
    for name in ["ann", "bob", "cat"] {
        workers.push(worker(&broker, name, tell.clone()).await?);
    }

    let client = Client::connect(broker).await?;
    // A worker knows of the others once it has heard their first beat.
    let mut shares: Vec<Ran> = Vec::new();
    while shares.len() < 3 {
        shares.clear();
        client.publish(&Warm { keys: 1_000 }).route(&Route::Broadcast).await?;
        let first = ran.recv().await.ok_or("the workers have ended")?;
        let total = first.1.map_or(1, |(_, total)| total);
        shares.push(first);
        for _ in 1..total {
            shares.push(ran.recv().await.ok_or("the workers have ended")?);
        }
    }
    shares.sort();
    for (name, share, keys) in &shares {
        println!("{name} warms {keys} keys: share {share:?}");
    }

    let bob = Route::Sticky("bob".to_owned());
    client.publish(&Warm { keys: 1 }).route(&bob).await?;
    println!("what is bob's is run by {}", ran.recv().await.ok_or("the workers have ended")?.0);
    workers.remove(1).stop().await;
    client.publish(&Warm { keys: 1 }).route(&bob).await?;
    println!("and by another while bob is away: {}", ran.recv().await.ok_or("the workers have ended")?.0 != "bob");

    client.close().await;
    for worker in workers {
        worker.stop().await;
    }
    Ok(())
}
