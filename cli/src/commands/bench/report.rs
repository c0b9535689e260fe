//! What the bench found, for people and as JSON.

use std::io;

use hdrhistogram::Histogram;
use leveret::{
    BuildError, ClientError, PublishError, StartError,
    common::{
        link::PoolError,
        message::InvalidMessage,
        topology::{InvalidName, TopologyError},
    },
};
use serde::Serialize;

use super::{Bench, Measured};

/// What the bench found. Rates are tasks a second, the median of the rounds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    tasks: u32,
    rounds: u32,
    /// Running: ours over the twin's, the median of the ratios within a round.
    drain_ratio: f64,
    drain_per_s: f64,
    twin_drain_per_s: f64,
    /// Publishing: ours over the twin's.
    publish_ratio: f64,
    publish_per_s: f64,
    twin_publish_per_s: f64,
    /// Publishing and running at once.
    steady_per_s: f64,
    /// Processor time of the worker's process for one task that does nothing, in microseconds.
    client_us_per_task: f64,
    twin_client_us_per_task: f64,
    /// Processor time of the client's process for one publish, in microseconds.
    client_us_per_publish: f64,
    twin_client_us_per_publish: f64,
    /// From publish to the start of the handler, at a fixed rate, in microseconds.
    rate_per_s: u32,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
    /// Largest resident memory of this process, twin included, in MB.
    rss_mb: f64,
    #[serde(skip)]
    pub(super) publish: Sides,
    #[serde(skip)]
    pub(super) drain: Sides,
    #[serde(skip)]
    steady: Vec<Measured>,
}

/// The rounds of both sides.
#[derive(Debug, Default)]
pub(super) struct Sides {
    ours: Vec<Measured>,
    twin: Vec<Measured>,
}

impl Sides {
    pub(super) fn ours(&mut self, measured: Measured) {
        self.ours.push(measured);
    }

    pub(super) fn twin(&mut self, measured: Measured) {
        self.twin.push(measured);
    }

    fn ratio(&self) -> f64 {
        median(self.ours.iter().zip(&self.twin).map(|(ours, twin)| ours.per_second / twin.per_second))
    }
}

impl Report {
    pub(super) fn new(arguments: &Bench) -> Self {
        Self { tasks: arguments.tasks, rounds: arguments.rounds, rate_per_s: arguments.rate, ..Self::default() }
    }

    pub(super) fn steady(&mut self, measured: Measured) {
        self.steady.push(measured);
    }

    pub(super) fn finish(mut self, latency: &Histogram<u64>) -> Self {
        let rate = |measured: &[Measured]| median(measured.iter().map(|one| one.per_second)).round();
        let cost = |measured: &[Measured]| tenths(median(measured.iter().map(|one| one.client_us)));
        self.drain_ratio = hundredths(self.drain.ratio());
        self.drain_per_s = rate(&self.drain.ours);
        self.twin_drain_per_s = rate(&self.drain.twin);
        self.publish_ratio = hundredths(self.publish.ratio());
        self.publish_per_s = rate(&self.publish.ours);
        self.twin_publish_per_s = rate(&self.publish.twin);
        self.steady_per_s = rate(&self.steady);
        self.client_us_per_task = cost(&self.drain.ours);
        self.twin_client_us_per_task = cost(&self.drain.twin);
        self.client_us_per_publish = cost(&self.publish.ours);
        self.twin_client_us_per_publish = cost(&self.publish.twin);
        self.p50_us = latency.value_at_quantile(0.5);
        self.p99_us = latency.value_at_quantile(0.99);
        self.max_us = latency.max();
        self.rss_mb = tenths(peak_memory_mb());
        self
    }
}

impl crate::output::Report for Report {
    fn text(&self, f: &mut dyn io::Write) -> io::Result<()> {
        writeln!(
            f,
            "{} tasks that do nothing, 200 bytes of JSON, durable quorum queue, median of {} rounds",
            self.tasks, self.rounds
        )?;
        writeln!(f, "             leveret/s   lapin alone/s   ratio   processor us (leveret, lapin)")?;
        let mut row = |what, ours, twin, ratio, us, twin_us| {
            writeln!(f, "  {what:<9} {ours:>10.0}   {twin:>13.0}   {ratio:>5.2}   {us:.1}, {twin_us:.1}")
        };
        let [us, twin_us] = [self.client_us_per_publish, self.twin_client_us_per_publish];
        row("publish", self.publish_per_s, self.twin_publish_per_s, self.publish_ratio, us, twin_us)?;
        let [us, twin_us] = [self.client_us_per_task, self.twin_client_us_per_task];
        row("run", self.drain_per_s, self.twin_drain_per_s, self.drain_ratio, us, twin_us)?;
        writeln!(f, "  both      {:>10.0}   at once, in one process", self.steady_per_s)?;
        writeln!(
            f,
            "  latency   p50 {} us, p99 {} us, max {} us from publish to handler, at {}/s",
            self.p50_us, self.p99_us, self.max_us, self.rate_per_s
        )?;
        writeln!(f, "  memory    {:.1} MB at most, both sides together", self.rss_mb)
    }
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// What the kernel calls the high-water mark of resident memory.
fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Resident memory at the moment, in bytes.
pub(super) fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() * 1024.0
}

/// The bench could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// No connection, or no exchanges.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A task was not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The worker could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The worker could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The queue could not be declared.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A name breaks the rules.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The database of the schedules did not do what was asked.
    #[error(transparent)]
    Database(#[from] leveret::producer::centre::database::DatabaseError),
    /// A schedule could not be saved.
    #[error(transparent)]
    Schedule(#[from] leveret::producer::centre::store::ScheduleError),
    /// The engine could not be started.
    #[error(transparent)]
    Engine(#[from] leveret::producer::centre::engine::EngineError),
    /// The database's address is none.
    #[error(transparent)]
    Address(#[from] leveret::producer::centre::database::InvalidDatabaseUrl),
    /// Ticks did not come.
    #[error("{missing} of {expected} ticks did not come within {seconds} s")]
    Ticks {
        /// How many are missing.
        missing: usize,
        /// How many there should have been.
        expected: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// A task cannot be sent.
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    /// No channel.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The twin failed.
    #[error(transparent)]
    Twin(#[from] lapin::Error),
    /// A latency could not be recorded.
    #[error(transparent)]
    Histogram(#[from] hdrhistogram::CreationError),
    /// The broker refused what it should have taken.
    #[error("the broker refused a message of the bench: run it on a broker with room for it")]
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_rounds() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}
