//! The parts that run as processes of their own: a worker, and the producer.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use leveret::{
    BrokerSettings, Client, Clock, Context, Error, Job, Message, Outcome, Producer, QueueOptions, TaskPolicy, Worker,
    common::telemetry,
    producer::schedule::{Expression, Schedule, Timetable, Zone},
};
use serde::{Deserialize, Serialize};

use super::{
    stage::{RESULTS, TEXT, queue_settings},
    work::{self, Average, Finished, Hash, QUEUES, THUMBNAIL, Words},
};
use crate::{
    failure::{Exit, Failure},
    settings::Settings,
    signals::Signals,
};

/// A part of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// Works on both queues.
    Worker,
    /// Publishes by two schedules.
    Producer,
}

impl Part {
    /// Its name on the command line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Producer => "producer",
        }
    }
}

/// What a worker tells the demo as it goes: one line of JSON on standard output each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum News {
    /// It is there, and the broker delivers to it.
    Ready,
    /// It begins an attempt.
    Begins { key: String, task: String },
    /// An attempt came to its end, good or bad.
    Ends { key: String },
}

fn tell(news: &News) {
    let mut out = io::stdout().lock();
    // When nobody listens any more, the end of standard input says so as well.
    let _ = serde_json::to_writer(&mut out, news).map_err(io::Error::from).and_then(|()| writeln!(out));
}

/// Says that an attempt begins, and at its end that it has ended.
struct Telling(String);

impl Telling {
    fn new(context: &Context, ticket: Option<&str>) -> Self {
        let key = ticket.map_or_else(|| context.id().to_string(), str::to_owned);
        tell(&News::Begins { key: key.clone(), task: context.task().to_owned() });
        Self(key)
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        tell(&News::Ends { key: std::mem::take(&mut self.0) });
    }
}

/// Runs a part until it is told to stop, or the demo is gone.
pub(super) async fn run(part: Part, mut settings: Settings, files: &Path) -> Result<Exit, Failure> {
    settings.telemetry.log = "info".to_owned();
    let name = settings.broker.name.clone();
    let telemetry = telemetry::init(&settings.telemetry, &name, "demo")?;
    let files: Vec<PathBuf> = serde_json::from_slice(&fs::read(files)?)?;
    match part {
        Part::Worker => worker(settings.broker).await?,
        Part::Producer => producer(settings.broker, &files).await?,
    }
    telemetry.shutdown().await;
    Ok(Exit::Done)
}

/// Waits for a signal, or for the end of standard input: the demo holds its other end.
async fn told_to_stop() -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let input = tokio::task::spawn_blocking(|| io::stdin().lock().read(&mut [0]));
    tokio::select! {
        _ = signals.next() => {}
        _ = input => {}
    }
    Ok(())
}

async fn worker(broker: BrokerSettings) -> Result<(), Failure> {
    let backoff = "300ms..1s".parse()?;
    let policy = TaskPolicy::default().retries(3).backoff(backoff).timeout(Duration::from_secs(30));
    let mut worker = Worker::builder(broker)
        .policy(policy.clone())
        .grace(Duration::from_secs(8))
        .task(async |context: Context, job: Job<Words>| {
            let Words { files, fail_first, ticket } = job.arguments;
            let _telling = Telling::new(&context, ticket.as_deref());
            if fail_first && context.attempt() == 1 {
                return Err(Error::retry("the disk is busy (this task fails once on purpose)"));
            }
            let (words, _) = tokio::task::spawn_blocking(move || work::count_words(&files)).await??;
            Outcome::result(&Finished { words, ticket, ..done_by(&context) })
        })
        .task(async |context: Context, job: Job<Hash>| {
            let _telling = Telling::new(&context, None);
            let Hash { files, rounds } = job.arguments;
            let (_, hashed_bytes) = tokio::task::spawn_blocking(move || work::hash(&files, rounds)).await??;
            Outcome::result(&Finished { hashed_bytes, ..done_by(&context) })
        })
        .task(async |context: Context, job: Job<Average>| {
            let _telling = Telling::new(&context, None);
            work::average_words(&job.files)?;
            Outcome::result(&done_by(&context))
        })
        .raw(THUMBNAIL, policy, async |context: Context, picture| {
            let _telling = Telling::new(&context, None);
            tokio::task::spawn_blocking(move || work::thumbnail(&picture)).await??;
            Outcome::result(&Finished { thumbnails: 1, ..done_by(&context) })
        });
    for (queue, concurrency) in QUEUES {
        worker = worker.queue(queue, QueueOptions::concurrency(concurrency).settings(queue_settings()));
    }
    let running = worker.build()?.start().await?;
    running.attached().await?;
    tell(&News::Ready);
    told_to_stop().await?;
    running.stop().await;
    Ok(())
}

fn done_by(context: &Context) -> Finished {
    Finished { worker: context.worker().to_owned(), redelivered: context.is_redelivered(), ..Finished::default() }
}

async fn producer(broker: BrokerSettings, files: &[PathBuf]) -> Result<(), Failure> {
    let some = files.iter().take(20).cloned().collect::<Vec<_>>();
    let words = Message::of(&Words { files: some.clone(), fail_first: false, ticket: None })?;
    let hash = Message::of(&Hash { files: some, rounds: 40 * work::rounds_per_ms()? })?;
    let every = |name: &str, seconds, message: Message| {
        let expression = Expression::every(Duration::from_secs(seconds))?;
        let message = message.queue(TEXT).reply_to(RESULTS, None);
        Ok::<_, Failure>(Schedule::new(name, Timetable::new(expression, Zone::utc()), message)?)
    };
    let schedules = [every("words-every-2s", 2, words)?, every("hash-every-3s", 3, hash)?];
    let client = Client::connect(broker).await?;
    let running = Producer::new(schedules, client.clone(), Clock::system()).start();
    told_to_stop().await?;
    running.stop().await;
    client.close().await;
    Ok(())
}
