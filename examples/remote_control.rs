//! Finding workers and steering them from another process: what `leveret workers` does, as a library.
//!
//! `rabbitmq/up && cargo run --example remote_control [AMQP URL]`

use std::time::Duration;

use leveret::{
    BrokerSettings, Client, Context, Error, Job, Outcome, QueueName, Task, Worker,
    common::{
        control::{Answer, Command, Control, Outcome as Told, Target},
        registry::{Change, Registry},
    },
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(name = "image.scale", queue = "images")]
struct Scale {
    width: u32,
}

async fn scale(cx: Context, job: Job<Scale>) -> Result<Outcome, Error> {
    cx.progress(0, u64::from(job.width), "columns");
    cx.cancelled().await;
    Err(cx.cancelled_error())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    // Hears the beats of all workers, and finds those that were there before it.
    let registry = Registry::connect(broker.clone()).await?;
    let mut changes = registry.changes();
    let worker = Worker::builder(broker.clone()).name("scaler").queue("images", 1).task(scale).build()?.start().await?;
    let peer = loop {
        if let Change::Online(peer) = changes.recv().await? {
            break peer;
        }
    };
    println!("{} is {:?}, and consumes from {}", peer.beat.worker, peer.presence, peer.beat.queues[0].queue);

    let client = Client::connect(broker.clone()).await?;
    client.publish(&Scale { width: 640 }).await?;
    let control = Control::connect(broker).await?;
    // All of a name, one instance, all of a queue, or simply all.
    let target = Target::Worker("scaler".to_owned());
    let ask = async |command: Command| -> Result<Answer, Box<dyn std::error::Error>> {
        let replies = control.send(&target, &command, Duration::from_millis(500)).await?;
        match replies.into_iter().next().ok_or("no worker has answered")?.outcome {
            Told::Answer(answer) => Ok(answer),
            Told::Refused(refusal) => Err(refusal.into()),
        }
    };
    let task = loop {
        if let Answer::Running { tasks, .. } = ask(Command::Running { queue: None }).await?
            && let Some(task) = tasks.into_iter().next()
        {
            break task;
        }
    };
    println!("it runs {}, {:?}", task.task, task.progress.ok_or("the task has said nothing")?);

    let queue = QueueName::new("images")?;
    ask(Command::Concurrency { queue: queue.clone(), tasks: 8 }).await?;
    ask(Command::Pause { queue: queue.clone(), reason: Some("maintenance".to_owned()), by: None }).await?;
    ask(Command::Resume { queue }).await?;
    let reason = Some("the wrong picture".to_owned());
    if let Answer::Cancelled { tasks } = ask(Command::CancelAll { task: task.task, reason }).await? {
        println!("{tasks} called off");
    }
    if let Answer::Stats(stats) = ask(Command::Stats {}).await? {
        println!("{} tasks at once now", stats.queues[0].concurrency);
    }
    // Finishes what runs, and ends.
    ask(Command::Stop {}).await?;
    worker.wait().await;
    println!("it has stopped");
    client.close().await;
    Ok(())
}
