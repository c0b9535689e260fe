//! A worker at work.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use leveret_common::{
    link::{Attachment, ChannelPool, ConnectError, Consumer, ConsumerSettings, Link, LinkState, Publisher, Role},
    metrics::{Instruments, UNKNOWN_TASK},
    topology::{InvalidName, TopologyError, declare},
    wire::TooLong,
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    builder::Worker,
    context::Surroundings,
    lane::{Lane, RunningLane},
};

/// A worker that consumes and runs tasks until it is stopped. Dropping the handle stops it gracefully in the
/// background; [`wait`](Self::wait) waits for the end.
#[derive(Debug)]
pub struct RunningWorker {
    stopper: Stopper,
    health: Health,
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
    attached: Vec<(String, watch::Receiver<Attachment>)>,
}

impl Health {
    /// Whether the broker delivers from every queue and takes what is published.
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
        for (queue, attached) in &self.attached {
            match &*attached.borrow() {
                Attachment::Attached => {}
                Attachment::Detached(Some(why)) | Attachment::Forbidden(why) => {
                    return Err(format!("not subscribed to queue {queue:?}: {why}"));
                }
                _ => return Err(format!("not subscribed to queue {queue:?}")),
            }
        }
        Ok(())
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
        let mut lanes = Vec::new();
        let instruments = Instruments::global();
        for (queue, options) in &worker.queues {
            let prefetch = options.effective_prefetch();
            let own = leveret_common::topology::Topology::new(&worker.settings.namespace)?
                .queue(queue.clone(), options.settings.clone());
            let settings = ConsumerSettings {
                queue: queue.to_string(),
                prefetch,
                tag: worker.settings.name.clone(),
                topology: Some((pool.clone(), Arc::new(own))),
                ordered: false,
            };
            let (consumer, deliveries) = Consumer::start(consume.clone(), settings)?;
            let metrics = |task: &str| instruments.task(queue.as_str(), task);
            instruments.queue(queue.as_str()).set_concurrency(options.concurrency);
            let lane = Arc::new(Lane {
                queue: queue.clone(),
                tiers: options.settings.tiers.clone(),
                kinds: worker.kinds.iter().map(|(name, kind)| (name.clone(), (kind.clone(), metrics(name)))).collect(),
                unreadable: metrics(UNKNOWN_TASK),
                publisher: publisher.clone(),
                names: topology.names().clone(),
                limits: worker.settings.limits(),
                surroundings: Arc::new(Surroundings {
                    queue: queue.to_string(),
                    worker: worker.settings.name.clone(),
                    clock: worker.clock.clone(),
                    stopping: CancellationToken::new(),
                }),
            });
            let runners = lane.start(options.concurrency, &deliveries);
            info!(queue = queue.as_str(), concurrency = options.concurrency, prefetch, "working");
            lanes.push(RunningLane { lane, consumer, deliveries, runners });
        }
        let health = Health {
            consume: consume.clone(),
            publish: publish.clone(),
            attached: lanes.iter().map(|lane| (lane.lane.queue.to_string(), lane.consumer.attached())).collect(),
        };
        let forbidden = forbidden(&health).await;
        if forbidden.is_some() {
            stopper.stop_now();
        }
        let task = tokio::spawn(run(lanes, stopper.clone(), worker.grace, publisher, consume, publish));
        if let Some(error) = forbidden {
            let _ = task.await;
            return Err(error);
        }
        Ok(Self { stopper, health, task: Some(task) })
    }

    /// A handle that stops it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// A handle that tells how it is.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Waits until the broker delivers from every queue, which it does after the start unless the connection was lost
    /// at that moment. An error says that it was stopped before.
    ///
    /// # Errors
    /// [`StartError::Connect`] when the worker was stopped before.
    pub async fn attached(&self) -> Result<(), StartError> {
        for (_, attached) in &self.health.attached {
            let mut attached = attached.clone();
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
    for (queue, attached) in &health.attached {
        let mut attached = attached.clone();
        let answered = attached.wait_for(|attached| *attached != Attachment::Detached(None)).await;
        if let Ok(Attachment::Forbidden(reason)) = answered.as_deref() {
            return Some(StartError::Forbidden { queue: queue.clone(), reason: reason.clone() });
        }
    }
    None
}

async fn run(
    lanes: Vec<RunningLane>,
    stopper: Stopper,
    grace: Duration,
    publisher: Publisher,
    consume: Link,
    publish: Link,
) {
    stopper.graceful.cancelled().await;
    info!(grace_ms = grace.as_millis() as u64, "stopping: no task is begun any more");
    let now = stopper.now.clone();
    let over = tokio::spawn(async move {
        tokio::time::sleep(grace).await;
        now.cancel();
    });
    join_all(lanes.into_iter().map(|lane| lane.stop(stopper.now.clone()))).await;
    over.abort();
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
