//! Queues: how many messages wait, who consumes, and how fast it goes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leveret_common::{
    counts::{CountError, QueueCounts, count, count_lost},
    link::ChannelPool,
    registry::Registry,
    topology::{QueueName, Topology},
};
use serde::Serialize;
use tokio::{sync::Mutex, time::Instant};
use utoipa::ToSchema;

use super::management::{Management, Seen};

/// How long a look holds for others who ask.
const FRESH: Duration = Duration::from_secs(1);
/// How old the look may be that growth is measured from.
const STALE: Duration = Duration::from_secs(60);

/// A work queue and those that belong to it. What is not there, or cannot be known, is `null`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct QueueReport {
    /// Its name.
    pub queue: String,
    /// How many shards it is in; `null` for a single queue.
    pub shards: Option<usize>,
    /// Messages that a worker could have at once.
    pub ready: Option<u32>,
    /// Messages that workers have in hand. Only where the management interface is known.
    pub unacknowledged: Option<u64>,
    /// Consumers, of all workers.
    pub consumers: Option<u32>,
    /// Messages in its retry tiers.
    pub delayed: Option<u32>,
    /// Its dead letters.
    pub dead: Option<u32>,
    /// Why it is paused everywhere, while it is.
    pub paused: Option<String>,
    /// Workers that are alive and consume from it.
    pub workers: usize,
    /// How fast it goes.
    pub rates: Rates,
}

/// Messages per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = QueueRates)]
pub struct Rates {
    /// By which `ready` grows, or shrinks when it is negative, since it was asked before; `null` the first time.
    pub growth: Option<f64>,
    /// Published to it. Only where the management interface is known, as the next two.
    pub published: Option<f64>,
    /// Given out to workers.
    pub delivered: Option<f64>,
    /// Acknowledged by workers.
    pub acknowledged: Option<f64>,
}

/// All queues that are known, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct QueueReports {
    /// The queues, by name.
    pub items: Vec<QueueReport>,
    /// Messages that no queue took.
    pub lost: Option<u32>,
}

/// Looks at queues, when asked. Those it knows are the ones of the configuration, those that workers consume from, and
/// with the management interface all that the broker has. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queues(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: ChannelPool,
    topology: Topology,
    registry: Option<Registry>,
    management: Option<Management>,
    looks: Mutex<Looks>,
}

/// The last look, and one before it.
#[derive(Debug, Default)]
struct Looks {
    last: Option<(Instant, QueueReports)>,
    before: BTreeMap<String, (Instant, u32)>,
}

impl Queues {
    /// On the broker behind `pool`, with the queues of `topology`.
    pub fn new(
        pool: ChannelPool,
        topology: Topology,
        registry: Option<Registry>,
        management: Option<Management>,
    ) -> Self {
        Self(Arc::new(Inner { pool, topology, registry, management, looks: Mutex::default() }))
    }

    /// All that are known.
    ///
    /// # Errors
    /// [`CountError`] when the broker cannot be asked.
    pub async fn all(&self) -> Result<QueueReports, CountError> {
        // Whoever asks meanwhile waits for this look.
        let mut looks = self.0.looks.lock().await;
        if let Some((at, reports)) = &looks.last
            && at.elapsed() < FRESH
        {
            return Ok(reports.clone());
        }
        let seen = self.seen().await;
        let mut names: BTreeMap<QueueName, ()> =
            self.0.topology.work_queues().map(|(name, _)| (name.clone(), ())).collect();
        if let Some(registry) = &self.0.registry {
            let workers = registry.workers();
            names.extend(workers.live().flat_map(|peer| &peer.beat.queues).map(|state| (state.queue.clone(), ())));
        }
        // Ours have a queue for their dead letters beside them.
        let ours = |name: &&String| seen.contains_key(&format!("{name}.dead"));
        names.extend(seen.keys().filter(ours).filter_map(|name| Some((QueueName::new(name).ok()?, ()))));
        let mut items = Vec::new();
        for name in names.keys() {
            items.push(self.look(name, &seen, &mut looks).await?);
        }
        let reports = QueueReports { items, lost: count_lost(&self.0.pool, &self.0.topology).await? };
        looks.last = Some((Instant::now(), reports.clone()));
        Ok(reports)
    }

    /// One queue, known or not.
    ///
    /// # Errors
    /// [`CountError`] when the broker cannot be asked.
    pub async fn one(&self, name: &QueueName) -> Result<QueueReport, CountError> {
        let seen = self.seen().await;
        let mut looks = self.0.looks.lock().await;
        self.look(name, &seen, &mut looks).await
    }

    async fn seen(&self) -> BTreeMap<String, Seen> {
        match &self.0.management {
            Some(management) => management.queues().await,
            None => BTreeMap::new(),
        }
    }

    async fn look(
        &self,
        name: &QueueName,
        seen: &BTreeMap<String, Seen>,
        looks: &mut Looks,
    ) -> Result<QueueReport, CountError> {
        let settings = self.0.topology.settings(name).cloned().unwrap_or_default();
        let counts = count(&self.0.pool, name, &settings).await?;
        let growth = looks.growth(&counts);
        let parts: Vec<_> = match counts.shards {
            None => seen.get(name.as_str()).into_iter().collect(),
            Some(_) => (0..=u16::from(u8::MAX)).map_while(|index| seen.get(&name.shard(index))).collect(),
        };
        let sum = |part: fn(&Seen) -> Option<f64>| {
            parts.iter().filter_map(|seen| part(seen)).reduce(|left, right| left + right)
        };
        let rates = Rates {
            growth,
            published: sum(|seen| seen.published),
            delivered: sum(|seen| seen.delivered),
            acknowledged: sum(|seen| seen.acknowledged),
        };
        let workers = self.0.registry.as_ref().map_or(0, |registry| registry.workers().of_queue(name).count());
        Ok(QueueReport {
            queue: counts.queue,
            shards: counts.shards,
            ready: counts.ready,
            unacknowledged: parts.iter().filter_map(|seen| seen.unacknowledged).reduce(|left, right| left + right),
            consumers: counts.consumers,
            delayed: counts.delayed,
            dead: counts.dead,
            paused: counts.paused.map(|pause| pause.to_string()),
            workers,
            rates,
        })
    }
}

impl Looks {
    /// By how much a queue grew in a second since the look before, if that was not just now and not long ago.
    fn growth(&mut self, counts: &QueueCounts) -> Option<f64> {
        let (now, ready) = (Instant::now(), counts.ready?);
        let Some((at, before)) = self.before.get(&counts.queue).copied() else {
            self.before.insert(counts.queue.clone(), (now, ready));
            return None;
        };
        let elapsed = now - at;
        if elapsed >= FRESH {
            self.before.insert(counts.queue.clone(), (now, ready));
        }
        (FRESH..STALE).contains(&elapsed).then(|| (f64::from(ready) - f64::from(before)) / elapsed.as_secs_f64())
    }
}
