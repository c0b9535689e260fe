//! `leveret bench`: how fast this machine and this broker run tasks that do nothing, next to the same work done
//! with lapin alone, in turns and in the same run: compare the ratios, for the figures depend on the machine.

mod ours;
mod report;
mod twin;

use std::{sync::Arc, time::Duration};

use lapin::types::ShortString;
use leveret::{
    BrokerSettings, Client, QueueName, Topology,
    common::{
        link::{ChannelPool, Link, Role},
        topology::declare,
    },
};
use nix::sys::resource::{UsageWho, getrusage};
use tokio::time::Instant;

pub(crate) use report::{BenchError, Report};
use twin::Twin;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BenchArguments {
    /// Tasks per round and side
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=5_000_000))]
    pub(crate) tasks: u32,
    /// Rounds; the report gives the median
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) rounds: u32,
    /// Tasks a second while latency is measured
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) rate: u32,
    /// Seconds for which latency is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
}

/// What one side took for a number of messages.
#[derive(Clone, Copy, Debug)]
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

/// Runs the bench in a queue of its own, which it deletes in the end.
///
/// # Errors
/// [`BenchError`] when the broker cannot be reached or refuses.
pub(crate) async fn run(
    arguments: &BenchArguments,
    settings: &BrokerSettings,
    url: &str,
    progress: impl Fn(&str),
) -> Result<Report, BenchError> {
    let queue = format!("bench-{}", std::process::id());
    let mut settings = settings.clone();
    "leveret-bench".clone_into(&mut settings.namespace);
    let client = Client::connect(settings.clone()).await?;
    let link = Link::open(Arc::new(settings.clone()), Role::Admin);
    let bench = Bench { arguments, settings, url, queue, client, pool: ChannelPool::new(link) };
    let report = bench.measure(progress).await;
    // Whatever happened, the queue goes.
    let removed = bench.remove().await;
    bench.client.close().await;
    let report = report?;
    removed?;
    Ok(report)
}

struct Bench<'a> {
    arguments: &'a BenchArguments,
    settings: BrokerSettings,
    url: &'a str,
    queue: String,
    client: Client,
    pool: ChannelPool,
}

impl Bench<'_> {
    fn topology(&self) -> Result<Topology, BenchError> {
        Ok(Topology::new(&self.settings.namespace)?.queue(QueueName::new(&self.queue)?, ours::queue_settings()))
    }

    async fn measure(&self, progress: impl Fn(&str)) -> Result<Report, BenchError> {
        let topology = self.topology()?;
        declare(&self.pool, &topology).await?;
        let count = self.arguments.tasks as usize;
        let exchange = ShortString::try_new(topology.names().publish()).unwrap_or_default();
        let key = ShortString::try_new(self.queue.as_str()).unwrap_or_default();
        let mut report = Report::new(self.arguments);
        progress("warming up");
        ours::publish(&self.client, &self.queue, count / 10).await?;
        ours::drain(&self.settings, &self.queue, count / 10).await?;
        for round in 1..=self.arguments.rounds {
            // The order changes from round to round, so that neither side always meets the warmer broker.
            for ours_turn in [round % 2 == 0, round % 2 != 0] {
                self.purge().await?;
                let side = if ours_turn { "leveret" } else { "lapin alone" };
                progress(&format!("round {round} of {}: publishing, {side}", self.arguments.rounds));
                if ours_turn {
                    report.publish.ours(ours::publish(&self.client, &self.queue, count).await?);
                } else {
                    let twin = Twin::connect(self.url).await?;
                    report.publish.twin(twin.publish(&exchange, &key, &ours::body()?, count).await?);
                    twin.close().await;
                }
                // Both sides drain what the client published: the same messages.
                self.purge().await?;
                ours::publish(&self.client, &self.queue, count).await?;
                progress(&format!("round {round} of {}: running, {side}", self.arguments.rounds));
                if ours_turn {
                    report.drain.ours(ours::drain(&self.settings, &self.queue, count).await?);
                } else {
                    let twin = Twin::connect(self.url).await?;
                    report.drain.twin(twin.drain(&key, count).await?);
                    twin.close().await;
                }
            }
            progress(&format!("round {round} of {}: publishing and running at once", self.arguments.rounds));
            self.purge().await?;
            report.steady(ours::steady(&self.settings, &self.client, &self.queue, count).await?);
        }
        progress("measuring latency");
        let duration = Duration::from_secs(self.arguments.seconds.into());
        let rate = self.arguments.rate.into();
        let latency = ours::latency(&self.settings, &self.client, &self.queue, rate, duration).await?;
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
