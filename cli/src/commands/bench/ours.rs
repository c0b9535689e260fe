//! The same work done by Leveret: the client publishes, the worker runs a task that does nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hdrhistogram::Histogram;
use leveret::{
    BrokerSettings, Client, Context, Error, Job, Message, Outcome, QueueOptions, QueueSettings, Task, Worker,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::{Measured, ResourceUse, layers::Stack, report::BenchError, twin::PREFETCH};

/// A task of 200 bytes of JSON that does nothing.
#[derive(Serialize, Deserialize)]
pub(super) struct Idle {
    /// Microseconds from the start of the process to the publish.
    pub(super) published_us: u64,
    padding: String,
}

impl Task for Idle {
    const NAME: &'static str = "bench.idle";
}

impl Idle {
    /// With the padding that makes the body 200 bytes.
    pub(super) fn new(published_us: u64) -> Self {
        let mut idle = Self { published_us, padding: String::new() };
        let bare = serde_json::to_vec(&idle).map_or(0, |body| body.len());
        idle.padding = "x".repeat(200_usize.saturating_sub(bare));
        idle
    }
}

/// The body of one task.
pub(super) fn body() -> Result<bytes::Bytes, BenchError> {
    serde_json::to_vec(&Idle::new(0)).map(Into::into).map_err(|_| BenchError::Refused)
}

/// Publishes `count` tasks and waits for every confirm.
pub(super) async fn publish(client: &Client, queue: &str, count: usize) -> Result<Measured, BenchError> {
    let body = body()?;
    let measuring = ResourceUse::start();
    // In portions, so that memory stays bounded however many there are.
    let mut left = count;
    while left > 0 {
        let portion = left.min(20_000);
        let messages = (0..portion).map(|_| Message::raw(Idle::NAME, body.clone(), "application/json").queue(queue));
        for result in client.publish_many(messages).await {
            result?;
        }
        left -= portion;
    }
    Ok(measuring.stop(count))
}

/// Runs `count` tasks, from the start of consuming to the last handler.
pub(super) async fn drain(
    settings: &BrokerSettings,
    queue: &str,
    count: usize,
    stack: Stack,
) -> Result<Measured, BenchError> {
    let done = Arc::new((AtomicUsize::new(0), Notify::new()));
    let counting = done.clone();
    let worker = worker(settings, queue, stack, move |_: Context, _: Job<Idle>| {
        let counting = counting.clone();
        async move {
            if counting.0.fetch_add(1, Ordering::Relaxed) + 1 == count {
                counting.1.notify_one();
            }
            Ok::<_, Error>(Outcome::Done)
        }
    })?;
    let measuring = ResourceUse::start();
    let running = worker.start().await?;
    done.1.notified().await;
    let measured = measuring.stop(count);
    running.stop().await;
    Ok(measured)
}

/// Publishes at a fixed rate, whatever becomes of the tasks, and measures from publish to the handler's start.
pub(super) async fn latency(
    settings: &BrokerSettings,
    client: &Client,
    queue: &str,
    per_second: u64,
    duration: Duration,
) -> Result<Histogram<u64>, BenchError> {
    let start = Instant::now();
    let now_us = move || u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (seen, mut latencies) = mpsc::unbounded_channel();
    let running = worker(settings, queue, Stack::Defaults, move |_: Context, job: Job<Idle>| {
        let _ = seen.send(now_us().saturating_sub(job.published_us));
        async { Ok::<_, Error>(Outcome::Done) }
    })?
    .start()
    .await?;
    running.attached().await?;
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / per_second.max(1)));
    let count = per_second * duration.as_secs();
    let mut confirms = FuturesUnordered::new();
    for _ in 0..count {
        ticks.tick().await;
        confirms.push(client.publish_message(Message::of(&Idle::new(now_us()))?.queue(queue)));
        // Publishes are driven between ticks, by the ones before.
        while let Some(Some(result)) = futures_util::FutureExt::now_or_never(confirms.next()) {
            result?;
        }
    }
    while let Some(result) = confirms.next().await {
        result?;
    }
    let mut histogram = Histogram::new_with_max(60_000_000, 3)?;
    for _ in 0..count {
        let Some(latency) = latencies.recv().await else { break };
        histogram.saturating_record(latency);
    }
    running.stop().await;
    Ok(histogram)
}

/// Publishes and runs at once for a while; counts the tasks that were run.
pub(super) async fn steady(
    settings: &BrokerSettings,
    client: &Client,
    queue: &str,
    count: usize,
) -> Result<Measured, BenchError> {
    let (measured, published) =
        tokio::join!(drain(settings, queue, count, Stack::Defaults), publish(client, queue, count));
    published?;
    measured
}

fn worker<F, R>(settings: &BrokerSettings, queue: &str, stack: Stack, handler: F) -> Result<Worker, BenchError>
where
    F: Fn(Context, Job<Idle>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Outcome, Error>> + Send + 'static,
{
    let options = QueueOptions::concurrency(100).prefetch(PREFETCH).settings(queue_settings());
    let worker = Worker::builder(settings.clone()).queue(queue, options).task(handler);
    Ok(stack.around(worker).build()?)
}

/// The queue of the bench has one tier, to leave little behind should the bench be killed.
pub(super) fn queue_settings() -> QueueSettings {
    let tiers = leveret::Tiers::new(vec![Duration::from_secs(1)]).unwrap_or_default();
    QueueSettings { max_length: 10_000_000, tiers, ..QueueSettings::default() }
}
