//! `leveret bench`: how fast this machine and this broker run tasks that do nothing, next to the same work done
//! with lapin alone, in turns and in the same run: compare the ratios, for the figures depend on the machine.

#![allow(clippy::result_large_err, reason = "it fails once at most, and says all that the broker said")]

mod layers;
mod ours;
mod report;
mod schedules;
mod twin;

use std::time::Duration;

use indicatif::ProgressBar;
use lapin::types::ShortString;
use leveret::{
    BrokerSettings, BrokerUrl, Client, QueueName, Topology,
    common::{link::ChannelPool, topology::declare},
};
use nix::sys::resource::{UsageWho, getrusage};
use tokio::time::Instant;

use crate::{
    failure::{Exit, Failure},
    session::Session,
};
use layers::Stack;
use report::{BenchError, Report};
use twin::Twin;

/// Measure publishing and running of tasks that do nothing, next to the same with lapin alone
///
/// Works in a queue of its own, which it deletes in the end. Figures depend on the machine: compare the ratios.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: leveret bench --tasks 50000 --json")]
pub(crate) struct Bench {
    /// Tasks per round and side
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=5_000_000))]
    tasks: u32,
    /// Rounds; the report gives the median
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Tasks a second while latency is measured
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Seconds for which latency is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Measure instead what the layers around a task cost, next to running it bare
    #[arg(long, conflicts_with_all = ["rate", "seconds"])]
    layers: bool,
    /// Measure instead the scheduling centre: how late ticks come, and what idle schedules cost
    #[arg(long, conflicts_with_all = ["tasks", "rounds", "rate", "layers"])]
    schedules: bool,
    #[command(flatten)]
    centre: schedules::Arguments,
}

/// What one side took for a number of messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    pub(super) per_second: f64,
    /// Processor time of this process, in microseconds a message.
    pub(super) client_us: f64,
}

/// The processor time that this process has used, and the time on the wall.
pub(super) struct ResourceUse {
    begun: Instant,
    processor: Duration,
}

impl ResourceUse {
    fn processor() -> Duration {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
        let micros = |time: nix::sys::time::TimeVal| {
            u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec()).unwrap_or(0)
        };
        Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    }

    fn start() -> Self {
        Self { begun: Instant::now(), processor: Self::processor() }
    }

    fn stop(self, messages: usize) -> Measured {
        let messages = messages.max(1) as f64;
        let processor = Self::processor().saturating_sub(self.processor);
        Measured {
            per_second: messages / self.begun.elapsed().as_secs_f64(),
            client_us: processor.as_secs_f64() * 1e6 / messages,
        }
    }
}

impl Bench {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let mut broker = session.settings()?.broker;
        "leveret-bench".clone_into(&mut broker.namespace);
        let client = session.client(broker.clone()).await?;
        let pool = session.admin(broker.clone()).await?;
        let queue = format!("bench-{}", std::process::id());
        let bar = session.output.progress(None, "");
        let course = Course { bench: &self, broker, queue, client, pool, bar };
        if self.schedules {
            let report = schedules::Course::new(&self.centre, self.seconds, &course).run().await;
            course.finish(&session, report).await
        } else if self.layers {
            let report = course.layers().await;
            course.finish(&session, report).await
        } else {
            let report = course.run().await;
            course.finish(&session, report).await
        }
    }
}

/// One run of the bench.
struct Course<'a> {
    bench: &'a Bench,
    broker: BrokerSettings,
    queue: String,
    client: Client,
    pool: ChannelPool,
    bar: ProgressBar,
}

impl Course<'_> {
    /// Whatever happened, the queue goes.
    async fn finish<R: crate::output::Report>(
        &self,
        session: &Session,
        report: Result<R, BenchError>,
    ) -> Result<Exit, Failure> {
        let removed = self.remove().await;
        self.bar.finish_and_clear();
        self.client.close().await;
        session.output.report(&report?)?;
        removed?;
        Ok(Exit::Done)
    }

    /// The same tasks with and without layers, in turns.
    async fn layers(&self) -> Result<layers::Report, BenchError> {
        declare(&self.pool, &self.topology()?).await?;
        let count = self.bench.tasks as usize;
        self.bar.set_message("warming up");
        ours::publish(&self.client, &self.queue, count / 10).await?;
        ours::drain(&self.broker, &self.queue, count / 10, Stack::Whole).await?;
        let mut rounds = Vec::new();
        for round in 0..self.bench.rounds as usize {
            let mut measured = [Measured::default(); 3];
            for turn in 0..Stack::ALL.len() {
                // Another goes first in each round.
                let number = (round + turn) % Stack::ALL.len();
                let stack = Stack::ALL[number];
                self.bar.set_message(format!("round {} of {}: {}", round + 1, self.bench.rounds, stack.as_str()));
                self.purge().await?;
                ours::publish(&self.client, &self.queue, count).await?;
                measured[number] = ours::drain(&self.broker, &self.queue, count, stack).await?;
            }
            rounds.push(measured);
        }
        Ok(layers::Report::new(self.bench.tasks, &rounds))
    }

    fn topology(&self) -> Result<Topology, BenchError> {
        Ok(Topology::new(&self.broker.namespace)?.queue(QueueName::new(&self.queue)?, ours::queue_settings()))
    }

    async fn run(&self) -> Result<Report, BenchError> {
        let progress = |what: &str| self.bar.set_message(what.to_owned());
        let twin_url = self.broker.url.first().map_or("", BrokerUrl::reveal);
        let topology = self.topology()?;
        declare(&self.pool, &topology).await?;
        let count = self.bench.tasks as usize;
        let exchange = ShortString::try_new(topology.names().publish()).unwrap_or_default();
        let key = ShortString::try_new(self.queue.as_str()).unwrap_or_default();
        let mut report = Report::new(self.bench);
        progress("warming up");
        ours::publish(&self.client, &self.queue, count / 10).await?;
        ours::drain(&self.broker, &self.queue, count / 10, Stack::Defaults).await?;
        for round in 1..=self.bench.rounds {
            // The order changes from round to round, so that neither side always meets the warmer broker.
            for ours_turn in [round % 2 == 0, round % 2 != 0] {
                self.purge().await?;
                let side = if ours_turn { "leveret" } else { "lapin alone" };
                progress(&format!("round {round} of {}: publishing, {side}", self.bench.rounds));
                if ours_turn {
                    report.publish.ours(ours::publish(&self.client, &self.queue, count).await?);
                } else {
                    let twin = Twin::connect(twin_url).await?;
                    report.publish.twin(twin.publish(&exchange, &key, &ours::body()?, count).await?);
                    twin.close().await;
                }
                // Both sides drain what the client published: the same messages.
                self.purge().await?;
                ours::publish(&self.client, &self.queue, count).await?;
                progress(&format!("round {round} of {}: running, {side}", self.bench.rounds));
                if ours_turn {
                    report.drain.ours(ours::drain(&self.broker, &self.queue, count, Stack::Defaults).await?);
                } else {
                    let twin = Twin::connect(twin_url).await?;
                    report.drain.twin(twin.drain(&key, count).await?);
                    twin.close().await;
                }
            }
            progress(&format!("round {round} of {}: publishing and running at once", self.bench.rounds));
            self.purge().await?;
            report.steady(ours::steady(&self.broker, &self.client, &self.queue, count).await?);
        }
        progress("measuring latency");
        let duration = Duration::from_secs(self.bench.seconds.into());
        let rate = self.bench.rate.into();
        let latency = ours::latency(&self.broker, &self.client, &self.queue, rate, duration).await?;
        Ok(report.finish(&latency))
    }

    async fn purge(&self) -> Result<(), BenchError> {
        let queue = ShortString::try_new(self.queue.as_str()).unwrap_or_default();
        self.pool.get().await?.queue_purge(queue, lapin::options::QueuePurgeOptions::default()).await?;
        Ok(())
    }

    async fn remove(&self) -> Result<(), BenchError> {
        let topology = self.topology()?;
        for queue in topology.queues() {
            let name = ShortString::try_new(queue.name).unwrap_or_default();
            self.pool.get().await?.queue_delete(name, lapin::options::QueueDeleteOptions::default()).await?;
        }
        for exchange in topology.exchanges() {
            let name = ShortString::try_new(exchange.name).unwrap_or_default();
            self.pool.get().await?.exchange_delete(name, lapin::options::ExchangeDeleteOptions::default()).await?;
        }
        Ok(())
    }
}
