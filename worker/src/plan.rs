//! A worker as it was checked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use leveret_common::{
    clock::Clock,
    config::BrokerSettings,
    duration,
    limit::{LimitName, LimitSettings},
    registry::{About, Instance, TaskAbout},
    topology::{InvalidName, QueueName, Topology},
};

use crate::{
    build_error::BuildError,
    control::{ControlSettings, Who},
    handler::Registered,
    limits::Limits,
    options::{PoolOptions, QueueOptions},
    state::State,
};

/// A worker that has not been started. Made by [`Worker::builder`].
#[derive(Debug)]
pub struct Worker {
    pub(crate) settings: Arc<BrokerSettings>,
    pub(crate) instance: Instance,
    /// Its share relative to others, where tasks are shared out by weight.
    pub(crate) weight: u32,
    /// How it is steered and announced, if it is.
    pub(crate) control: Option<ControlSettings>,
    pub(crate) pools: Vec<PoolPlan>,
    pub(crate) kinds: HashMap<String, Arc<Registered>>,
    pub(crate) state: Arc<State>,
    pub(crate) limits: BTreeMap<LimitName, LimitSettings>,
    pub(crate) grace: Duration,
    pub(crate) clock: Clock,
}

/// A pool as it was checked.
#[derive(Debug)]
pub(crate) struct PoolPlan {
    pub(crate) concurrency: usize,
    pub(crate) queues: Vec<QueuePlan>,
    /// How many tasks may run one after another before the last has been unacknowledged for too long.
    pub(crate) turns: usize,
}

/// A queue of a pool as it was checked.
#[derive(Debug)]
pub(crate) struct QueuePlan {
    pub(crate) name: QueueName,
    pub(crate) weight: u32,
    pub(crate) options: QueueOptions,
}

impl Worker {
    /// Sets how it is steered from afar and announced; see
    /// [`WorkerBuilder::control`](crate::builder::WorkerBuilder::control).
    #[must_use]
    pub fn control(mut self, settings: ControlSettings) -> Self {
        self.control = Some(settings);
        self
    }

    /// The names of its queues.
    pub(crate) fn queues(&self) -> Vec<QueueName> {
        self.pools.iter().flat_map(|pool| &pool.queues).map(|queue| queue.name.clone()).collect()
    }

    /// Whether it has to know who else is alive: for routes, and for shards with an order.
    pub(crate) fn wants_peers(&self) -> bool {
        let mut queues = self.pools.iter().flat_map(|pool| &pool.queues);
        queues.any(|queue| queue.options.settings.is_routed() || queue.options.settings.is_ordered())
    }

    /// What it says about itself when it starts.
    pub(crate) fn who(&self) -> Who {
        let about = |(name, kind): (&String, &Arc<Registered>)| TaskAbout {
            name: name.clone(),
            queue: Some(kind.queue.clone()),
            schema: kind.schema.clone(),
        };
        let mut tasks: Vec<_> = self.kinds.iter().map(about).collect();
        tasks.sort_by(|one, other| one.name.cmp(&other.name));
        Who {
            name: self.settings.name.clone(),
            instance: self.instance,
            weight: self.weight,
            about: About::this_process(self.clock.now(), tasks),
        }
    }

    /// The queues of this worker, with their tiers and dead-letter queues, and that of the limits that it shares.
    ///
    /// # Errors
    /// [`InvalidName`] when the namespace breaks the rules of names.
    pub fn topology(&self) -> Result<Topology, InvalidName> {
        let empty = Topology::new(&self.settings.namespace)?.worker(&self.settings.name);
        let empty = if Limits::are_shared(&self.limits) { empty.limits() } else { empty };
        let queues = self.pools.iter().flat_map(|pool| &pool.queues);
        Ok(queues.fold(empty, |topology, queue| topology.queue(queue.name.clone(), queue.options.settings.clone())))
    }
}

/// How much is fetched ahead for the runners of a pool, where nobody chose it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// How many queues share the runners.
    queues: usize,
    /// How many tasks may run one after another before the last has been unacknowledged for too long.
    turns: usize,
}

impl Ahead {
    /// The least that is fetched from each of several queues. Turns are taken of what has been fetched: with one task
    /// of each queue at hand, the weights would count for nothing.
    const LEAST_TO_CHOOSE_FROM: usize = 4;

    /// For each of the queues, with so many runners.
    pub(crate) fn prefetch(self, concurrency: usize) -> u16 {
        let wanted = if concurrency < 8 { concurrency } else { concurrency.saturating_mul(2) };
        let wanted = if self.queues > 1 { wanted.max(Self::LEAST_TO_CHOOSE_FROM) } else { wanted };
        let fitting = concurrency.saturating_mul(self.turns) / self.queues.max(1);
        u16::try_from(wanted.min(fitting)).unwrap_or(u16::MAX).max(1)
    }
}

impl PoolPlan {
    /// How many deliveries of one of its queues may be here unsettled.
    pub(crate) fn prefetch_of(&self, options: &QueueOptions) -> u16 {
        // A prefetch that was chosen is trusted: short tasks are given long timeouts by default.
        options.prefetch.map_or_else(|| self.ahead().prefetch(self.concurrency), |chosen| chosen.max(1))
    }

    /// How much is fetched ahead where nobody chose it.
    pub(crate) fn ahead(&self) -> Ahead {
        Ahead { queues: self.queues.len(), turns: self.turns }
    }
}

/// Refuses tasks that may be unacknowledged for longer than the broker allows: it would give them to another worker
/// while they run. What is fetched ahead waits for what runs before it, and the broker's clock is running meanwhile: so
/// no more is fetched than has its turn in time.
pub(crate) fn fit_consumer_timeout(
    pools: &mut [PoolPlan],
    kinds: &HashMap<String, Arc<Registered>>,
    limit: Duration,
) -> Result<(), BuildError> {
    // What keeps its order is not moved into a lease, where others would overtake it.
    let ordered = pools.iter().flat_map(|pool| &pool.queues).find(|queue| queue.options.settings.is_ordered());
    let too_long = kinds.iter().find(|(_, kind)| kind.policy.long && kind.policy.timeout >= limit);
    if let (Some(queue), Some((task, _))) = (ordered, too_long) {
        return Err(BuildError::LongInOrder { task: task.clone(), queue: queue.name.to_string() });
    }
    let short = kinds.iter().filter(|(_, kind)| !kind.policy.long);
    let Some((task, kind)) = short.max_by_key(|(_, kind)| kind.policy.timeout) else { return Ok(()) };
    let timeout = kind.policy.timeout;
    if timeout >= limit {
        let (timeout, limit) = (duration::format(timeout), duration::format(limit));
        return Err(BuildError::TooLong { task: task.clone(), timeout, limit });
    }
    // Of so many in a row the last ends before its time is over.
    let turns = (limit.as_nanos() - 1) / timeout.as_nanos().max(1);
    for pool in pools {
        pool.turns = usize::try_from(turns).unwrap_or(usize::MAX);
    }
    Ok(())
}

/// Checks the limits.
pub(crate) fn limits(given: Vec<(String, LimitSettings)>) -> Result<BTreeMap<LimitName, LimitSettings>, BuildError> {
    let mut limits = BTreeMap::new();
    for (name, settings) in given {
        settings.check().map_err(|reason| BuildError::Limit { name: name.clone(), reason })?;
        if limits.insert(LimitName::new(&name)?, settings).is_some() {
            return Err(BuildError::TwiceTheLimit { name });
        }
    }
    Ok(limits)
}

/// Checks the pools.
pub(crate) fn pools(pools: Vec<PoolOptions>) -> Result<Vec<PoolPlan>, BuildError> {
    let mut seen = BTreeSet::new();
    let mut plans = Vec::new();
    for pool in pools {
        let mut queues = Vec::new();
        for (queue, weight, mut options) in pool.queues {
            options.concurrency = pool.concurrency;
            if options.concurrency == 0 || options.concurrency > usize::from(u16::MAX) {
                return Err(BuildError::Concurrency { queue, concurrency: options.concurrency });
            }
            options.settings.check().map_err(|source| BuildError::Queue { queue: queue.clone(), source })?;
            let name = QueueName::new(&queue)?;
            if !seen.insert(name.clone()) {
                return Err(BuildError::TwiceTheQueue { queue });
            }
            queues.push(QueuePlan { name, weight, options });
        }
        if queues.is_empty() {
            return Err(BuildError::EmptyPool);
        }
        plans.push(PoolPlan { concurrency: pool.concurrency, queues, turns: usize::MAX });
    }
    Ok(plans)
}
