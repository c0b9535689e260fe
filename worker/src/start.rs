//! Starting the pools of a worker.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use leveret_common::{
    control::Pause,
    event::Events,
    link::{ChannelPool, ConsumerSettings, Link, Publisher, Share},
    metrics::{Instruments, UNKNOWN_TASK},
    topology::{InvalidName, Names, QueueName, Topology},
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    context::{Surroundings, Tally},
    forward::Forwarder,
    handler::Kind,
    lane::Lane,
    lease::Leases,
    limits::Limits,
    peers::Peers,
    plan::{PoolPlan, QueuePlan, Worker},
    pool::Pool,
    revocations::Revocations,
    run::StartError,
    shards::{self, ShardSettings, Shards},
    source::Source,
};

/// What the pools of a worker are started from.
pub(crate) struct Start<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) consume: &'a Link,
    pub(crate) declaring: &'a ChannelPool,
    pub(crate) names: &'a Names,
    pub(crate) publisher: &'a Publisher,
    pub(crate) events: &'a Events,
    /// Who else is alive, where that is of interest.
    pub(crate) peers: Option<&'a Peers>,
    /// Cancelled when the worker is told to stop.
    pub(crate) stopping: CancellationToken,
    /// The queues that are paused everywhere.
    pub(crate) paused: &'a BTreeMap<QueueName, Pause>,
    pub(crate) limits: Option<&'a Limits>,
    pub(crate) revocations: &'a Arc<Revocations>,
}

impl Start<'_> {
    /// Starts a pool: its runners, and what it consumes from.
    pub(crate) fn pool(&self, plan: &PoolPlan) -> Result<Arc<Pool>, StartError> {
        let pool = Pool::new(plan);
        for queue in &plan.queues {
            let (concurrency, prefetch) = (plan.concurrency, plan.prefetch_of(&queue.options));
            info!(queue = queue.name.as_str(), concurrency, prefetch, "working");
            let share = Share { weight: queue.weight, ..Share::default() };
            let leases = self.leases(queue)?;
            if queue.options.settings.shards.is_some() {
                pool.add(self.shards(&pool, queue, leases.clone(), share)?);
            } else {
                let consumer = self.consumer(queue, queue.name.to_string(), prefetch)?;
                pool.add(self.whole(&pool, queue, consumer, self.forwarder(queue), leases.clone(), share)?);
            }
            if queue.options.settings.is_routed() {
                let own = self.consumer(queue, queue.name.at(&self.worker.settings.name), prefetch)?;
                pool.add(self.whole(&pool, queue, own, None, leases, share)?);
            }
        }
        pool.run();
        Ok(pool)
    }

    /// A queue that is one: that of all, or this worker's own.
    fn whole(
        &self,
        pool: &Pool,
        queue: &QueuePlan,
        settings: ConsumerSettings,
        forwarder: Option<Forwarder>,
        leases: Option<Arc<Leases>>,
        share: Share,
    ) -> Result<Source, StartError> {
        let lane = self.lane(queue, forwarder, leases, None)?;
        let inlet = pool.intake().open(lane.clone(), share);
        Ok(Source::whole(lane, self.consume.clone(), settings, inlet, self.paused(queue))?)
    }

    fn shards(
        &self,
        pool: &Pool,
        queue: &QueuePlan,
        leases: Option<Arc<Leases>>,
        share: Share,
    ) -> Result<Source, StartError> {
        let options = &queue.options;
        let ordered = options.settings.is_ordered();
        let gates = shards::Control::new(self.declaring.clone(), queue.name.clone());
        let lane = self.lane(queue, None, leases, Some(gates))?;
        let at_once = if ordered { 1 } else { share.at_once };
        let share = Share { at_once, ..share };
        // A few of each shard, so that none keeps the others from having a turn.
        let prefetch = options.prefetch.unwrap_or(2);
        let settings = ShardSettings {
            queue: queue.name.clone(),
            expected: options.settings.shards.unwrap_or_default(),
            ordered,
            prefetch,
            tag: self.worker.settings.name.clone(),
            instance: self.worker.instance.to_string(),
            look: Duration::from_secs(5),
            standby: Duration::from_secs(2),
        };
        let workers = self.peers.map_or_else(|| watch::channel(Vec::new()).1, |peers| peers.of_queue(&queue.name));
        // The pool has the source, and the source this: so only the intake is held, and of each shard one way in.
        let (intake, own_lane, ways) = (pool.intake(), lane.clone(), Mutex::new(HashMap::new()));
        let open = move |shard: u16| {
            let way = || intake.open(own_lane.clone(), share);
            Some(ways.lock().entry(shard).or_insert_with(way).clone())
        };
        let paused = self.paused(queue);
        let (link, declaring) = (self.consume.clone(), self.declaring.clone());
        let shards = Shards::start(link, declaring, settings, workers, paused.is_some(), Box::new(open));
        Ok(Source::shards(lane, &queue.name, prefetch, shards, paused))
    }

    fn paused(&self, queue: &QueuePlan) -> Option<String> {
        self.paused.get(&queue.name).map(ToString::to_string)
    }

    fn forwarder(&self, queue: &QueuePlan) -> Option<Forwarder> {
        let route = queue.options.settings.route.clone().filter(|_| queue.options.settings.is_routed())?;
        let peers = self.peers?.all();
        let worker = self.worker.settings.name.clone();
        Some(Forwarder::new(queue.name.clone(), worker, route, self.publisher.clone(), self.names.clone(), peers))
    }

    fn consumer(&self, queue: &QueuePlan, name: String, prefetch: u16) -> Result<ConsumerSettings, InvalidName> {
        let worker = &self.worker.settings;
        let own = Topology::new(&worker.namespace)?.worker(&worker.name);
        let own = own.queue(queue.name.clone(), queue.options.settings.clone());
        Ok(ConsumerSettings {
            queue: name,
            prefetch,
            tag: worker.name.clone(),
            topology: Some((self.declaring.clone(), Arc::new(own))),
            ordered: false,
        })
    }

    /// What holds the long tasks of a queue, if there are any.
    fn leases(&self, queue: &QueuePlan) -> Result<Option<Arc<Leases>>, StartError> {
        // A lease is not held in the order of a shard.
        if queue.options.settings.is_ordered() || !self.worker.kinds.values().any(|kind| kind.policy.long) {
            return Ok(None);
        }
        let settings = &self.worker.settings;
        let own = Topology::new(&settings.namespace)?.lease(queue.name.clone(), &self.worker.instance.to_string());
        let consumer = ConsumerSettings {
            queue: queue.name.lease(&self.worker.instance.to_string()),
            prefetch: 1,
            tag: settings.name.clone(),
            topology: Some((self.declaring.clone(), Arc::new(own))),
            ordered: false,
        };
        // Twice within the timeout, for the broker looks for deliveries that are too old once a minute only.
        let renewal = settings.consumer_timeout / 3;
        let publisher = self.publisher.clone();
        let (link, most_lost) = (self.consume.clone(), queue.options.settings.delivery_limit);
        Ok(Some(Arc::new(Leases::start(link, consumer, queue.name.clone(), publisher, renewal, most_lost)?)))
    }

    fn lane(
        &self,
        queue: &QueuePlan,
        forwarder: Option<Forwarder>,
        leases: Option<Arc<Leases>>,
        gates: Option<shards::Control>,
    ) -> Result<Arc<Lane>, StartError> {
        let worker = self.worker;
        let instruments = Instruments::global();
        instruments.queue(queue.name.as_str()).set_concurrency(queue.options.concurrency);
        let metrics = |task: &str| instruments.task(queue.name.as_str(), task);
        let kind = |(name, kind): (&String, &Arc<_>)| {
            let gate = self.limits.and_then(|limits| limits.gate(queue.name.as_str(), name));
            (name.clone(), Arc::new(Kind::new(Arc::clone(kind), metrics(name), gate)))
        };
        let ordered = queue.options.settings.is_ordered();
        Ok(Arc::new(Lane {
            leases,
            gates,
            ordered,
            forwarder,
            queue: queue.name.clone(),
            tiers: queue.options.settings.tiers.clone(),
            kinds: worker.kinds.iter().map(kind).collect(),
            unreadable: metrics(UNKNOWN_TASK),
            publisher: self.publisher.clone(),
            names: self.names.clone(),
            limits: worker.settings.limits(),
            surroundings: Arc::new(Surroundings {
                queue: queue.name.to_string(),
                worker: worker.settings.name.clone(),
                instance: worker.instance.to_string().into(),
                clock: worker.clock.clone(),
                state: worker.state.clone(),
                stopping: self.stopping.clone(),
                tracking: queue.options.settings.events,
                events: self.events.clone(),
                tally: Tally::default(),
                revocations: self.revocations.clone(),
            }),
        }))
    }
}
