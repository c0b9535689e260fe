//! A worker at work.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use leveret_common::{
    control::PauseFlags,
    event::Events,
    limit::{InvalidTerms, LimitName},
    link::{Attachment, ChannelPool, ConnectError, Link, Publisher, Role},
    registry::RegistryError,
    topology::{InvalidName, TopologyError, declare},
    wire::TooLong,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use crate::health::Health;
use crate::{
    builder::Worker,
    control::{ControlPlane, Lines, paused_at_start},
    limits::{LimitOptions, Limits, LimitsError},
    peers::Peers,
    pool::Pool,
    revocations::Revocations,
    start::Start,
    steering::Steering,
};

/// A worker that consumes and runs tasks until it is stopped. Dropping the handle stops it gracefully in the
/// background; [`wait`](Self::wait) waits for the end.
#[derive(Debug)]
pub struct RunningWorker {
    stopper: Stopper,
    steering: Steering,
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

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.graceful.is_cancelled()
    }

    /// Waits for nothing: what runs goes back to its queue as well, at no cost to its attempts.
    pub fn stop_now(&self) {
        self.graceful.cancel();
        self.now.cancel();
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
        let declaring = ChannelPool::new(consume.clone());
        let topology = worker.topology()?;
        declare(&declaring, &topology).await?;

        let flags = PauseFlags::new(ChannelPool::new(publish.clone()));
        let paused = match &worker.control {
            Some(_) => paused_at_start(&flags, &declaring, &worker.queues()).await,
            None => BTreeMap::new(),
        };
        let stopper = Stopper { graceful: CancellationToken::new(), now: CancellationToken::new() };
        let publisher = Publisher::new(publish.clone());
        let names = topology.names();
        let events = Events::start(publisher.clone(), names, &worker.settings.name, worker.instance);
        let limits = limits(&worker, &consume).await?;
        let peers = match worker.wants_peers() {
            true => Some(Peers::on(publish.clone(), worker.clock.clone())?),
            false => None,
        };
        let revocations = Arc::new(Revocations::new(worker.clock.clone()));
        let start = Start {
            worker: &worker,
            consume: &consume,
            declaring: &declaring,
            names,
            publisher: &publisher,
            events: &events,
            peers: peers.as_ref(),
            stopping: stopper.graceful.clone(),
            paused: &paused,
            limits: limits.as_ref(),
            revocations: &revocations,
        };
        let pools: Arc<Vec<_>> = Arc::new(worker.pools.iter().map(|plan| start.pool(plan)).collect::<Result<_, _>>()?);
        let steering = Steering::new(pools.clone(), stopper.clone(), events.clone(), limits.clone(), revocations);
        let control = match &worker.control {
            Some(settings) => {
                let lines = Lines { consume: consume.clone(), publisher: publisher.clone(), flags };
                let (controlled, clock) = (Arc::new(steering.clone()), worker.clock.clone());
                let plane =
                    ControlPlane::start(controlled, worker.who(), lines, names, paused, settings.clone(), clock);
                Some(plane?)
            }
            None => None,
        };
        let liveness = control.as_ref().map(ControlPlane::liveness);
        let health = Health::new(consume.clone(), publish.clone(), pools.clone(), liveness);
        let forbidden = forbidden(&health).await;
        if forbidden.is_some() {
            stopper.stop_now();
        }
        let parts = Parts {
            pools,
            stopper: stopper.clone(),
            grace: worker.grace,
            events,
            control,
            limits: limits.clone(),
            publisher,
            consume,
            publish,
        };
        let task = tokio::spawn(parts.run());
        if let Some(error) = forbidden {
            let _ = task.await;
            return Err(error);
        }
        Ok(Self { stopper, steering, health, limits, task: Some(task) })
    }

    /// A handle that stops it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// A handle that steers it while it runs.
    pub fn steering(&self) -> Steering {
        self.steering.clone()
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

/// What a worker at work is made of, in the order of its end.
struct Parts {
    pools: Arc<Vec<Arc<Pool>>>,
    stopper: Stopper,
    grace: Duration,
    events: Events,
    control: Option<ControlPlane>,
    limits: Option<Limits>,
    publisher: Publisher,
    consume: Link,
    publish: Link,
}

impl Parts {
    async fn run(self) {
        let Stopper { graceful, now } = self.stopper;
        graceful.cancelled().await;
        info!(grace_ms = self.grace.as_millis() as u64, "stopping: no task is begun any more");
        if let Some(limits) = &self.limits {
            limits.refuse();
        }
        let out_of_grace = now.clone();
        let over = tokio::spawn(async move {
            tokio::time::sleep(self.grace).await;
            out_of_grace.cancel();
        });
        join_all(self.pools.iter().map(|pool| pool.stop(now.clone()))).await;
        over.abort();
        if let Some(limits) = self.limits {
            limits.close().await;
        }
        self.events.close().await;
        if let Some(control) = self.control {
            control.stop().await;
        }
        self.publisher.close().await;
        futures_util::future::join(self.consume.close(), self.publish.close()).await;
        info!("stopped");
    }
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
    /// Other workers cannot be followed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
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
