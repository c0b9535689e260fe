//! Scaffolding that the end-to-end tests share.
//!
//! A [`Place`] is a virtual host of one's own. A [`Run`] is an attempt at a task that goes on until the test says how
//! it ends, so that a test never has to guess how long something takes.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test helper reports by failing the test")]

pub mod steered;
pub mod victim;

use std::{collections::BTreeSet, time::Duration};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use leveret::{
    BrokerSettings, Client, Context, Error, Job, Message, Outcome, QueueOptions, QueueSettings, RunningWorker, Task,
    TaskPolicy, Tiers, UnixMillis, Worker, WorkerBuilder,
};
use leveret_testkit::{Broker, Vhost};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A task whose arguments are any JSON.
#[derive(Clone, Debug, Serialize, Deserialize, Task)]
#[task(name = "probe")]
#[serde(transparent)]
pub struct Probe(pub Value);

/// A virtual host that one test has to itself, and how to reach it.
#[derive(Debug)]
pub struct Place {
    /// The virtual host.
    pub vhost: Vhost,
    /// Settings that lead to it. Reconnecting is quick, so that a test of faults is.
    pub settings: BrokerSettings,
}

impl Place {
    /// A place on the broker that all tests share.
    pub async fn new() -> Self {
        Self::on(&Broker::shared().await).await
    }

    /// A place on this broker.
    pub async fn on(broker: &Broker) -> Self {
        let vhost = broker.vhost().await;
        let settings = settings(vhost.url());
        Self { vhost, settings }
    }

    /// A connected client.
    pub async fn client(&self) -> Client {
        Client::connect(self.settings.clone()).await.unwrap()
    }

    /// A worker for the queue `default` that runs [`Probe`] tasks as the test says; see [`worker`].
    pub fn worker(&self) -> (WorkerBuilder, Runs) {
        worker(self.settings.clone())
    }

    /// The same, at work with so many tasks at once.
    pub async fn working(&self, concurrency: usize) -> (RunningWorker, Runs) {
        let (worker, runs) = self.worker();
        (start(worker.queue("default", quick(concurrency))).await, runs)
    }

    /// The consumers of a queue as the console shows them: tag and prefetch. One that was cancelled is not among them,
    /// even if it still has tasks that it has not settled.
    pub async fn consumers(&self, queue: &str) -> Vec<(String, u64)> {
        let all = self.vhost.api("consumers/{vhost}").await;
        let of_queue = all.as_array().into_iter().flatten().filter(|consumer| consumer["queue"]["name"] == queue);
        let mut consumers: Vec<_> = of_queue
            .map(|consumer| {
                (consumer["consumer_tag"].as_str().unwrap().to_owned(), consumer["prefetch_count"].as_u64().unwrap())
            })
            .collect();
        consumers.sort();
        consumers
    }

    /// Declares the queue `default` as [`quick`] has it, without a worker.
    pub async fn declare_default(&self) {
        self.working(1).await.0.stop().await;
    }
}

/// Settings that lead to this AMQP URL, with quick reconnects.
pub fn settings(url: &str) -> BrokerSettings {
    let mut settings = BrokerSettings::new(url).unwrap();
    settings.reconnect_max = Duration::from_millis(500);
    settings
}

/// A worker that hands each attempt at a [`Probe`] over as a [`Run`]. A failed task is tried again at once, up to
/// eight times. The queues are still to be named, see [`quick`].
pub fn worker(settings: BrokerSettings) -> (WorkerBuilder, Runs) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let handler = move |context: Context, job: Job<Probe>| {
        let sender = sender.clone();
        async move {
            let (end, ended) = oneshot::channel();
            let started = context.clock().now();
            // A test that looks at no more runs drops the receiver; then they are done like any run that is dropped.
            drop(sender.send(Run { context, arguments: job.arguments.0, started, end }));
            ended.await.unwrap_or(Ok(Outcome::Done))
        }
    };
    let policy = TaskPolicy::default().backoff("1ms".parse().unwrap());
    (Worker::builder(settings).policy(policy).task(handler), Runs(receiver))
}

/// A queue whose tiers are short: 50 ms, 200 ms, 1 s and 1 h.
pub fn quick(concurrency: usize) -> QueueOptions {
    let tiers = Tiers::new([50, 200, 1_000, 3_600_000].map(Duration::from_millis).into()).unwrap();
    QueueOptions::concurrency(concurrency).settings(QueueSettings { tiers, ..QueueSettings::default() })
}

/// Builds and starts a worker, and waits until the broker delivers to it.
pub async fn start(worker: WorkerBuilder) -> RunningWorker {
    let running = within("start the worker", worker.build().unwrap().start()).await.unwrap();
    within("subscribe", running.attached()).await.unwrap();
    running
}

/// A [`Probe`] message with these arguments.
pub fn probe(arguments: impl Serialize) -> Message {
    Message::json(Probe::NAME, &arguments).unwrap()
}

/// AMQP properties of a [`Probe`] as a client of another make would send it, with these headers.
pub fn foreign<const N: usize>(id: &str, headers: [(&str, AMQPValue); N]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short(name), value);
    }
    BasicProperties::default().with_type(short(Probe::NAME)).with_message_id(short(id)).with_headers(table)
}

/// A text as an AMQP short string.
pub fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap()
}

/// A text as the value of an AMQP header.
pub fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Awaits something, and fails the test when it takes longer than [`PATIENCE`].
pub async fn within<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, awaited).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// The attempts that the handlers of one worker have begun, in the order of their beginning.
#[derive(Debug)]
pub struct Runs(mpsc::UnboundedReceiver<Run>);

impl Runs {
    /// The next attempt.
    pub async fn next(&mut self) -> Run {
        within("a task is run", self.0.recv()).await.unwrap()
    }

    /// The next attempt, or `None` when the worker has ended.
    pub async fn next_or_end(&mut self) -> Option<Run> {
        self.0.recv().await
    }

    /// The next attempts, this many.
    pub async fn take(&mut self, count: usize) -> Vec<Run> {
        let mut runs = Vec::with_capacity(count);
        for _ in 0..count {
            runs.push(self.next().await);
        }
        runs
    }

    /// The next attempt if it has begun already.
    pub fn begun(&mut self) -> Option<Run> {
        self.0.try_recv().ok()
    }

    /// Lets tasks be done as they come until every one of `wanted` has been, and maybe others.
    pub async fn until_done(&mut self, wanted: &BTreeSet<String>) {
        let mut missing = wanted.clone();
        while !missing.is_empty() {
            missing.remove(&self.next().await.id());
        }
    }
}

/// One attempt at a task, which goes on until it is told how it ends. Dropped, it is done.
#[derive(Debug)]
pub struct Run {
    /// What the handler was told.
    pub context: Context,
    /// The arguments.
    pub arguments: Value,
    /// When it began.
    pub started: UnixMillis,
    end: oneshot::Sender<Result<Outcome, Error>>,
}

impl Run {
    /// The task's id.
    pub fn id(&self) -> String {
        self.context.id().to_string()
    }

    /// Number of the attempt.
    pub fn attempt(&self) -> u32 {
        self.context.attempt()
    }

    /// Number of the attempt, and whether the broker has given the message out before.
    pub fn count(&self) -> (u32, bool) {
        (self.context.attempt(), self.context.is_redelivered())
    }

    /// Ends it like this. It is no mistake if the attempt was given up in the meantime.
    pub fn end(self, result: Result<Outcome, Error>) {
        drop(self.end.send(result));
    }

    /// The task is done.
    pub fn done(self) {
        self.end(Ok(Outcome::Done));
    }

    /// The attempt failed.
    pub fn fail(self, why: &str) {
        self.end(Err(Error::retry(why)));
    }

    /// Whether the worker has given the attempt up: it ran out of time, or the worker stopped.
    pub fn is_given_up(&self) -> bool {
        self.end.is_closed()
    }

    /// Waits until the worker gives the attempt up.
    pub async fn given_up(&mut self) {
        within("the attempt is given up", self.end.closed()).await;
    }
}
