//! A worker at work.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use leveret_common::{
    limit::{InvalidTerms, LimitName},
    link::{Attachment, ChannelPool, ConnectError, ConsumerSettings, Link, LinkState, Publisher, Role, Share},
    metrics::{Instruments, UNKNOWN_TASK},
    topology::{InvalidName, Topology, TopologyError, declare},
    wire::TooLong,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    builder::{PoolPlan, QueuePlan, Worker},
    context::Surroundings,
    handler::Kind,
    lane::Lane,
    lease::Leases,
    limits::{LimitOptions, Limits, LimitsError},
    pool::Pool,
    source::Source,
    steering::Steering,
};

/// A worker that consumes and runs tasks until it is stopped. Dropping the handle stops it gracefully in the
/// background; [`wait`](Self::wait) waits for the end.
#[derive(Debug)]
pub struct RunningWorker {
    stopper: Stopper,
    health: Health,
    limits: Option<Limits>,
    task: Option<JoinHandle<()>>,
}

/// Stops a worker from elsewhere, such as a signal handler. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopper {
    graceful: CancellationToken,
    now: CancellationToken,
}

impl Stopper {
    /// Begins no more tasks; those that run have the grace period to finish, what was not begun goes back.
    pub fn stop(&self) {
        self.graceful.cancel();
    }

    /// Waits for nothing: what runs goes back to its queue as well, at no cost to its attempts.
    pub fn stop_now(&self) {
        self.graceful.cancel();
        self.now.cancel();
    }
}

/// How a worker is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    consume: Link,
    publish: Link,
    pools: Arc<Vec<Arc<Pool>>>,
}

impl Health {
    /// Whether the broker delivers from every queue that is not paused, and takes what is published.
    ///
    /// # Errors
    /// What is missing, for people.
    pub fn ready(&self) -> Result<(), String> {
        for (role, link) in [("consuming", &self.consume), ("publishing", &self.publish)] {
            match link.state() {
                LinkState::Up(live) => {
                    if let Some(reason) = live.blocked.borrow().as_ref() {
                        return Err(format!("the broker has blocked the {role} connection: {reason}"));
                    }
                }
                LinkState::Down(Some(error)) | LinkState::Closed(error) => return Err(error.to_string()),
                LinkState::Down(None) => return Err(format!("the {role} connection is not up yet")),
            }
        }
        for source in self.sources().iter().filter(|source| source.paused().is_none()) {
            let queue = source.queue();
            match source.attachment() {
                Attachment::Attached => {}
                Attachment::Detached(Some(why)) | Attachment::Forbidden(why) => {
                    return Err(format!("not subscribed to queue {queue:?}: {why}"));
                }
                _ => return Err(format!("not subscribed to queue {queue:?}")),
            }
        }
        Ok(())
    }

    fn sources(&self) -> Vec<Arc<Source>> {
        self.pools.iter().flat_map(|pool| pool.sources()).collect()
    }
}

impl Worker {
    /// Connects, declares the queues, subscribes to them and begins to work. Waits for a broker that does not answer
    /// yet.
    ///
    /// # Errors
    /// [`StartError`] when the broker refuses, or a queue is there with other arguments.
    pub async fn start(self) -> Result<RunningWorker, StartError> {
        RunningWorker::start(self).await
    }
}

impl RunningWorker {
    pub(crate) async fn start(worker: Worker) -> Result<Self, StartError> {
        let consume = Link::open(worker.settings.clone(), Role::Consume);
        let publish = Link::open(worker.settings.clone(), Role::Publish);
        let live = consume.live().await?;
        publish.live().await?;
        if live.capabilities.product == "RabbitMQ" && !live.capabilities.dead_letters_at_least_once() {
            return Err(StartError::TooOld { version: live.capabilities.version.clone() });
        }
        let pool = ChannelPool::new(consume.clone());
        let topology = worker.topology()?;
        declare(&pool, &topology).await?;

        let stopper = Stopper { graceful: CancellationToken::new(), now: CancellationToken::new() };
        let publisher = Publisher::new(publish.clone());
        let limits = limits(&worker, &consume).await?;
        let start = Start {
            worker: &worker,
            consume: &consume,
            declaring: &pool,
            topology: &topology,
            publisher: &publisher,
            limits: limits.as_ref(),
        };
        let pools: Arc<Vec<_>> = Arc::new(worker.pools.iter().map(|plan| start.pool(plan)).collect::<Result<_, _>>()?);
        let health = Health { consume: consume.clone(), publish: publish.clone(), pools: pools.clone() };
        let forbidden = forbidden(&health).await;
        if forbidden.is_some() {
            stopper.stop_now();
        }
        let task = tokio::spawn(run(pools, limits.clone(), stopper.clone(), worker.grace, publisher, consume, publish));
        if let Some(error) = forbidden {
            let _ = task.await;
            return Err(error);
        }
        Ok(Self { stopper, health, limits, task: Some(task) })
    }

    /// A handle that stops it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// A handle that steers it while it runs.
    pub fn steering(&self) -> Steering {
        Steering::new(self.health.pools.clone())
    }

    /// A handle that tells how it is.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// The limits that it takes part in: how they stand, and a way to change them. `None` without any.
    pub fn limits(&self) -> Option<&Limits> {
        self.limits.as_ref()
    }

    /// Waits until the broker delivers from every queue, which it does after the start unless the connection was lost
    /// at that moment. An error says that it was stopped before.
    ///
    /// # Errors
    /// [`StartError::Connect`] when the worker was stopped before.
    pub async fn attached(&self) -> Result<(), StartError> {
        for source in self.health.sources().iter().filter(|source| source.paused().is_none()) {
            let mut attached = source.follow_attachment();
            let is_attached = |attached: &Attachment| *attached == Attachment::Attached;
            attached.wait_for(is_attached).await.map_err(|_| ConnectError::Closed)?;
        }
        Ok(())
    }

    /// Begins no more tasks, waits for those that run, at most the grace period, and ends.
    pub async fn stop(mut self) {
        self.stopper.stop();
        self.ended().await;
    }

    /// Waits for nothing: what runs goes back to its queue, and the worker ends.
    pub async fn stop_now(mut self) {
        self.stopper.stop_now();
        self.ended().await;
    }

    /// Waits until it has been stopped by a [`Stopper`] and has ended.
    pub async fn wait(mut self) {
        self.ended().await;
    }

    async fn ended(&mut self) {
        if let Some(task) = self.task.take() {
            // It ends in a panic only if the runtime itself is going down.
            let _ = task.await;
        }
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

/// Waits for the first answer to each subscription. An error says that the user may not consume; whatever else
/// stands in the way may pass.
async fn forbidden(health: &Health) -> Option<StartError> {
    for source in health.sources().iter().filter(|source| source.paused().is_none()) {
        let mut attached = source.follow_attachment();
        let answered = attached.wait_for(|attached| *attached != Attachment::Detached(None)).await;
        if let Ok(Attachment::Forbidden(reason)) = answered.as_deref() {
            return Some(StartError::Forbidden { queue: source.queue().to_owned(), reason: reason.clone() });
        }
    }
    None
}

impl From<LimitsError> for StartError {
    fn from(error: LimitsError) -> Self {
        match error {
            LimitsError::Terms { name, reason } => Self::Limit { name, reason },
            LimitsError::Name(error) => Self::Name(error),
            LimitsError::Topology(error) => Self::Topology(error),
        }
    }
}

/// Takes part in the limits, on the connection that the tasks come by.
async fn limits(worker: &Worker, consume: &Link) -> Result<Option<Limits>, LimitsError> {
    if worker.limits.is_empty() {
        return Ok(None);
    }
    let options = LimitOptions {
        runners: worker.pools.iter().map(|pool| pool.concurrency).sum(),
        clock: worker.clock.clone(),
        ..LimitOptions::default()
    };
    Limits::start(consume.clone(), worker.limits.clone(), options).await.map(Some)
}

/// What the pools of a worker are started from.
struct Start<'a> {
    worker: &'a Worker,
    consume: &'a Link,
    declaring: &'a ChannelPool,
    topology: &'a Topology,
    publisher: &'a Publisher,
    limits: Option<&'a Limits>,
}

impl Start<'_> {
    fn pool(&self, plan: &PoolPlan) -> Result<Arc<Pool>, StartError> {
        let pool = Pool::new(plan.concurrency);
        for queue in &plan.queues {
            let lane = self.lane(queue)?;
            let settings = self.consumer(queue)?;
            let share = Share { weight: queue.weight, ..Share::default() };
            info!(queue = lane.queue(), concurrency = plan.concurrency, prefetch = settings.prefetch, "working");
            pool.add(share, |inlet| Source::start(lane, self.consume.clone(), settings, inlet, None))?;
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
        let own = Topology::new(&settings.namespace)?.lease(queue.name.clone(), &self.worker.instance);
        let consumer = ConsumerSettings {
            queue: queue.name.lease(&self.worker.instance),
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
            names: self.topology.names().clone(),
            limits: worker.settings.limits(),
            surroundings: Arc::new(Surroundings {
                queue: queue.name.to_string(),
                worker: worker.settings.name.clone(),
                instance: worker.instance.clone(),
                clock: worker.clock.clone(),
                state: worker.state.clone(),
            }),
        }))
    }
}

async fn run(
    pools: Arc<Vec<Arc<Pool>>>,
    limits: Option<Limits>,
    stopper: Stopper,
    grace: Duration,
    publisher: Publisher,
    consume: Link,
    publish: Link,
) {
    stopper.graceful.cancelled().await;
    info!(grace_ms = grace.as_millis() as u64, "stopping: no task is begun any more");
    if let Some(limits) = &limits {
        limits.refuse();
    }
    let now = stopper.now.clone();
    let over = tokio::spawn(async move {
        tokio::time::sleep(grace).await;
        now.cancel();
    });
    join_all(pools.iter().map(|pool| pool.stop(stopper.now.clone()))).await;
    over.abort();
    if let Some(limits) = limits {
        limits.close().await;
    }
    publisher.close().await;
    futures_util::future::join(consume.close(), publish.close()).await;
    info!("stopped");
}

/// The worker could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The broker refused the connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The queues could not be declared.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A limit admits nothing, or everything.
    #[error("limit {:?}: {reason}", .name.as_str())]
    Limit {
        /// The limit.
        name: LimitName,
        /// What is wrong with it.
        reason: InvalidTerms,
    },
    /// A name breaks the rules.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The user may not consume from a queue.
    #[error("may not consume from queue {queue:?} ({reason}): give the user permission to read it")]
    Forbidden {
        /// The queue.
        queue: String,
        /// What the broker said.
        reason: String,
    },
    /// The broker could lose tasks between a tier and its queue.
    #[error("RabbitMQ {version} cannot dead-letter at least once, so that tasks could get lost: use 3.10 or later")]
    TooOld {
        /// What the broker stated.
        version: String,
    },
}
