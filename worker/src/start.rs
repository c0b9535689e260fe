//! Starting the pools of a worker.

use std::{collections::BTreeMap, sync::Arc};

use leveret_common::{
    control::Pause,
    event::Events,
    link::{ChannelPool, ConsumerSettings, Link, Publisher, Share},
    metrics::{Instruments, UNKNOWN_TASK},
    topology::{InvalidName, Names, QueueName, Topology},
};
use tracing::info;

use crate::{
    builder::{PoolPlan, QueuePlan, Worker},
    context::{Surroundings, Tally},
    handler::Kind,
    lane::Lane,
    lease::Leases,
    limits::Limits,
    pool::Pool,
    run::StartError,
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
    /// The queues that are paused everywhere.
    pub(crate) paused: &'a BTreeMap<QueueName, Pause>,
    pub(crate) limits: Option<&'a Limits>,
}

impl Start<'_> {
    /// Starts a pool: its runners, and a subscription to each of its queues.
    pub(crate) fn pool(&self, plan: &PoolPlan) -> Result<Arc<Pool>, StartError> {
        let pool = Pool::new(plan.concurrency);
        for queue in &plan.queues {
            let lane = self.lane(queue)?;
            let settings = self.consumer(queue)?;
            let paused = self.paused.get(&queue.name).map(ToString::to_string);
            let share = Share { weight: queue.weight, ..Share::default() };
            info!(queue = lane.queue(), concurrency = plan.concurrency, prefetch = settings.prefetch, "working");
            pool.add(share, |inlet| Source::start(lane, self.consume.clone(), settings, inlet, paused))?;
        }
        pool.run();
        Ok(pool)
    }

    fn consumer(&self, queue: &QueuePlan) -> Result<ConsumerSettings, InvalidName> {
        let own = Topology::new(&self.worker.settings.namespace)?;
        let own = own.queue(queue.name.clone(), queue.options.settings.clone());
        Ok(ConsumerSettings {
            queue: queue.name.to_string(),
            prefetch: queue.options.effective_prefetch(),
            tag: self.worker.settings.name.clone(),
            topology: Some((self.declaring.clone(), Arc::new(own))),
        })
    }

    /// What holds the long tasks of a queue, if there are any.
    fn leases(&self, queue: &QueuePlan) -> Result<Option<Leases>, StartError> {
        if !self.worker.kinds.values().any(|kind| kind.policy.long) {
            return Ok(None);
        }
        let settings = &self.worker.settings;
        let own = Topology::new(&settings.namespace)?.lease(queue.name.clone(), &self.worker.instance.to_string());
        let consumer = ConsumerSettings {
            queue: queue.name.lease(&self.worker.instance.to_string()),
            prefetch: 1,
            tag: settings.name.clone(),
            topology: Some((self.declaring.clone(), Arc::new(own))),
        };
        // Twice within the timeout, for the broker looks for deliveries that are too old once a minute only.
        let renewal = settings.consumer_timeout / 3;
        let publisher = self.publisher.clone();
        Ok(Some(Leases::start(self.consume.clone(), consumer, queue.name.clone(), publisher, renewal)?))
    }

    fn lane(&self, queue: &QueuePlan) -> Result<Arc<Lane>, StartError> {
        let worker = self.worker;
        let instruments = Instruments::global();
        instruments.queue(queue.name.as_str()).set_concurrency(queue.options.concurrency);
        let metrics = |task: &str| instruments.task(queue.name.as_str(), task);
        let kind = |(name, kind): (&String, &Arc<_>)| {
            let gate = self.limits.and_then(|limits| limits.gate(queue.name.as_str(), name));
            (name.clone(), Arc::new(Kind::new(Arc::clone(kind), metrics(name), gate)))
        };
        Ok(Arc::new(Lane {
            leases: self.leases(queue)?,
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
                instance: worker.instance.to_string(),
                clock: worker.clock.clone(),
                state: worker.state.clone(),
                tracking: queue.options.settings.events,
                events: self.events.clone(),
                tally: Tally::default(),
            }),
        }))
    }
}
