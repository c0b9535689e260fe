//! Limits over all workers: how many tasks run at once, how many begin in a time, and both for each key by itself.
//!
//! `rabbitmq/up && cargo run --example limits [AMQP URL]`

use std::{collections::HashMap, sync::Arc, time::Duration};

use leveret::{
    BrokerSettings, Client, Context, Error, Job, LimitSettings, Message, Outcome, RunningWorker, Task, Worker,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::Instant};

#[derive(Serialize, Deserialize, Task)]
#[task(name = "invoice.render", queue = "invoices", key = "{customer}")]
struct Render {
    customer: String,
}

/// How many run at this moment, and how many ever did: of all, and of each customer.
#[derive(Default)]
struct Seen {
    now: HashMap<String, usize>,
    most: HashMap<String, usize>,
}

impl Seen {
    fn change(&mut self, customer: &str, by: isize) {
        for who in ["all", customer] {
            let now = self.now.entry(who.to_owned()).or_default();
            *now = now.saturating_add_signed(by);
            let most = self.most.entry(who.to_owned()).or_default();
            *most = (*most).max(*now);
        }
    }
}

/// Workers share a limit if they have one of the same name. In a real site they are on different machines.
async fn worker(
    broker: &BrokerSettings,
    seen: Arc<Mutex<Seen>>,
    done: mpsc::UnboundedSender<()>,
) -> Result<RunningWorker, Box<dyn std::error::Error>> {
    let render = move |_: Context, job: Job<Render>| {
        let (seen, done) = (seen.clone(), done.clone());
        async move {
            let count = |by| seen.lock().change(&job.customer, by);
            count(1);
            tokio::time::sleep(Duration::from_millis(200)).await;
            count(-1);
            let _ = done.send(());
            Ok::<_, Error>(Outcome::Done)
        }
    };
    let by_customer = LimitSettings { by_key: true, ..LimitSettings::concurrency(2) };
    Ok(Worker::builder(broker.clone())
        .queue("invoices", 8)
        .limit("renderers", LimitSettings::concurrency(3))
        .limit("customer", by_customer)
        .limit("pace", LimitSettings::rate("12/s".parse()?))
        .task(render)
        .build()?
        .start()
        .await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (seen, (done, mut all)) = (Arc::default(), mpsc::unbounded_channel());
    let workers = [
        worker(&broker, Arc::clone(&seen), done.clone()).await?,
        worker(&broker, Arc::clone(&seen), done.clone()).await?,
    ];

    let client = Client::connect(broker).await?;
    let begun = Instant::now();
    let tasks = (0..24).map(|number| Render { customer: if number < 18 { "hare" } else { "tortoise" }.to_owned() });
    let messages = tasks.map(|task| Message::of(&task)).collect::<Result<Vec<_>, _>>()?;
    client.publish_many(messages).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    for _ in 0..24 {
        all.recv().await.ok_or("the workers have ended")?;
    }
    println!("24 tasks in {:.1} s, at 12 a second", begun.elapsed().as_secs_f64());
    let most = seen.lock().most.clone();
    println!("at once: of all {}, of the hare's {}", most["all"], most["hare"]);
    // Changed while they run, for all workers; `leveret workers limit pace --rate 100/s` does the same.
    if let Some(limits) = workers[0].limits() {
        limits.set(&"pace".parse()?, Some(LimitSettings::rate("100/s".parse()?).terms())).await?;
        println!("the pace is another now");
    }

    client.close().await;
    for worker in workers {
        worker.stop().await;
    }
    Ok(())
}
