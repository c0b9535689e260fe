//! A cron producer in a program of one's own: a task every second, and one every minute of an evening in Berlin.
//!
//! `rabbitmq/up && cargo run --example schedule [AMQP URL]`

use std::time::Duration;

use leveret::{
    BrokerSettings, Client, Clock, Context, Error, Job, Message, Outcome, Producer, Task, Worker,
    producer::schedule::{Expression, Schedule, Timetable, Zone},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "clock.tick", queue = "ticks")]
struct Tick {
    clock: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let broker = BrokerSettings::new(&url)?;
    let (ticked, mut ticks) = mpsc::channel(8);
    let worker = Worker::builder(broker.clone())
        .task(move |cx: Context, job: Job<Tick>| {
            let line = format!("{} ticked: {:?}, task {}", job.clock, cx.schedule(), cx.id());
            let ticked = ticked.clone();
            async move {
                let _ = ticked.send(line).await;
                Ok::<_, Error>(Outcome::Done)
            }
        })
        .build()?
        .start()
        .await?;

    let tick = |clock: &str| Message::of(&Tick { clock: clock.to_owned() });
    let seconds = Timetable::new(Expression::every(Duration::from_secs(1))?, Zone::utc());
    let evening = Timetable::new(Expression::unix("* 18-21 * * mon-fri")?, Zone::named("Europe/Berlin")?);
    let next = evening.preview(1, Clock::system().now());
    println!("the evening clock ticks next at {}", next.first().map_or("never", |fire| fire.local.as_str()));
    let schedules =
        [Schedule::new("seconds", seconds, tick("seconds")?)?, Schedule::new("evening", evening, tick("evening")?)?];
    let client = Client::connect(broker).await?;
    let producer = Producer::new(schedules, client.clone(), Clock::system()).start();
    for _ in 0..3 {
        println!("{}", ticks.recv().await.unwrap_or_default());
    }

    // The id of a task follows from its schedule and tick, so two producers publish the same ids.
    println!("{:?}", producer.stop().await);
    client.close().await;
    worker.stop().await;
    Ok(())
}
