//! Tasks that run for longer than the broker leaves a delivery unacknowledged.
//!
//! RabbitMQ takes a delivery back after its consumer timeout. So the message of a long task is moved, before it runs,
//! to a queue that this worker has alone, and is held there: unacknowledged, and exchanged for a fresh copy well before
//! the timeout. That is the lease. When the worker dies the broker puts the message back into that queue, where nobody
//! consumes any more and its time to live is over: it returns to its work queue at once, and runs elsewhere. When the
//! task ends, the lease is settled like any other delivery.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use leveret_common::{
    link::{Consumer, ConsumerSettings, Delivery, Handover, Link, PublishError, Publisher, Share, spawn},
    topology::QueueName,
    wire::{self, Envelope, Facts, TooLong, header},
};
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::context::Context;

/// How long a copy of the message may take from the broker's confirm to this worker. Beyond the time to live that it
/// has in the lease queue, after which it is on its way back to the work queue.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before a renewal that failed is tried again.
const PAUSE: Duration = Duration::from_secs(2);
/// Leases that a worker may hold per queue: the most that a quorum queue delivers.
const PREFETCH: u16 = 2_000;

/// The leases of one work queue of this worker.
#[derive(Debug)]
pub(crate) struct Leases {
    work_queue: QueueName,
    lease_queue: String,
    publisher: Publisher,
    /// How long a copy is held before it is exchanged for a fresh one.
    renewal: Duration,
    /// How many workers may be lost while they hold a task, before it is dead.
    most_lost: u32,
    desk: Arc<Mutex<Desk>>,
    consumer: Mutex<Option<Consumer>>,
}

/// Who waits for which copy.
#[derive(Debug, Default)]
struct Desk {
    waiting: HashMap<String, oneshot::Sender<Delivery>>,
    /// The leases that are held. A copy of one of them that nobody waits for any more is one too many.
    held: HashSet<String>,
}

/// The right to run one long task. Dropped, it gives the task back.
#[derive(Debug)]
pub(crate) struct Lease {
    held: Held,
    delivery: Delivery,
}

/// A lease is held until this is dropped.
#[derive(Debug)]
struct Held {
    id: String,
    leases: Arc<Leases>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.desk.lock().held.remove(&self.id);
    }
}

impl Leases {
    /// Begins to consume from the lease queue, which `settings` name and declare.
    pub(crate) fn start(
        link: Link,
        mut settings: ConsumerSettings,
        work_queue: QueueName,
        publisher: Publisher,
        renewal: Duration,
        most_lost: u32,
    ) -> Result<Self, TooLong> {
        settings.prefetch = PREFETCH;
        let lease_queue = settings.queue.clone();
        let handover = Handover::new(1, 1);
        let mut arrivals = handover.runner();
        let consumer = Consumer::start(link, settings, handover.inlet(Share::default()))?;
        let desk = Arc::new(Mutex::new(Desk::default()));
        let receiving = desk.clone();
        // On the link's runtime: busy handlers must not keep a lease from being renewed. It ends with the consumer,
        // whose handover nobody else has.
        spawn(async move {
            let _handover = handover;
            while let Some((_, delivery)) = arrivals.next().await {
                receiving.lock().receive(delivery);
            }
        });
        Ok(Self { work_queue, lease_queue, publisher, renewal, most_lost, desk, consumer: Mutex::new(Some(consumer)) })
    }

    /// Whether too many workers were lost while they held the task. The broker cannot count that: each lease is a new
    /// message to it.
    pub(crate) fn is_poison(&self, facts: &Facts) -> bool {
        facts.lost_leases > self.most_lost
    }

    /// Exchanges the delivery of a task for a lease. `None` when the task is on its way back to its queue instead.
    pub(crate) async fn take(self: &Arc<Self>, delivery: Delivery, envelope: &Envelope) -> Option<Lease> {
        let id = Uuid::now_v7().to_string();
        match self.copy(&id, envelope).await {
            Ok(copy) => {
                // The copy is the task from here on, whether it has arrived or not.
                delivery.ack();
                let delivery = copy?;
                self.desk.lock().held.insert(id.clone());
                Some(Lease { held: Held { id, leases: self.clone() }, delivery })
            }
            Err(error) => {
                let facts = &envelope.facts;
                warn!(task_id = %facts.id, task = facts.task, "no lease for the task, it goes back to its queue: {error}");
                delivery.requeue();
                None
            }
        }
    }

    /// Publishes a copy of the message into the lease queue and waits until it is here.
    async fn copy(&self, lease: &str, envelope: &Envelope) -> Result<Option<Delivery>, PublishError> {
        let token = format!("{lease}/{}", Uuid::now_v7());
        let message = wire::lease(envelope, self.work_queue.as_str(), &self.lease_queue, &token)
            .map_err(|error| PublishError::Invalid(error.into()))?;
        let (arrive, arrival) = oneshot::channel();
        self.desk.lock().waiting.insert(token.clone(), arrive);
        let published = self.publisher.publish(message).await;
        let arrived = match published {
            Ok(()) => Ok(timeout(PATIENCE, arrival).await.ok().and_then(Result::ok)),
            Err(error) => Err(error),
        };
        self.desk.lock().waiting.remove(&token);
        arrived
    }

    /// Waits until the broker has been told of all that was settled.
    pub(crate) async fn finish(&self) {
        let consumer = self.consumer.lock().take();
        if let Some(consumer) = consumer {
            consumer.finish(Duration::from_secs(5)).await;
        }
    }
}

impl Desk {
    fn receive(&mut self, delivery: Delivery) {
        let token = delivery.header(header::LEASE).unwrap_or_default().to_owned();
        let lease = token.split('/').next().unwrap_or_default();
        let unclaimed = match self.waiting.remove(&token) {
            Some(arrive) => arrive.send(delivery).err(),
            None => Some(delivery),
        };
        match unclaimed {
            None => {}
            // It came too late, and an earlier copy stands for the task.
            Some(delivery) if self.held.contains(lease) => delivery.ack(),
            // Back into the lease queue, where its time is over: to the work queue.
            Some(delivery) => delivery.give_back(),
        }
    }
}

impl Lease {
    /// Does the work, and renews the lease meanwhile: on the link's runtime, so that a handler that blocks its thread
    /// does not let it run out. Gives what came of it, and the delivery to be settled.
    pub(crate) async fn hold<T>(self, context: &Context, work: impl Future<Output = T>) -> (T, Option<Delivery>) {
        let over = CancellationToken::new();
        // When this is dropped the renewal ends, and what it leaves behind gives the task back.
        let guard = over.clone().drop_guard();
        let renewal = spawn(self.renew(context.clone(), over));
        let output = work.await;
        drop(guard);
        // It ends in a panic only if the runtime itself is going down.
        (output, renewal.await.ok())
    }

    /// Exchanges the delivery for a fresh copy again and again until it is `over`. Gives the last one.
    async fn renew(self, context: Context, over: CancellationToken) -> Delivery {
        let Self { held, mut delivery } = self;
        let mut rest = held.leases.renewal;
        loop {
            tokio::select! {
                biased;
                () = over.cancelled() => return delivery,
                () = tokio::time::sleep(rest) => {}
            }
            // Waited for whatever happens: a copy on its way must be here before the task is settled, or there would
            // be two.
            rest = match held.leases.copy(&held.id, context.envelope()).await {
                Ok(Some(copy)) => {
                    std::mem::replace(&mut delivery, copy).ack();
                    held.leases.renewal
                }
                Ok(None) => PAUSE,
                Err(error) => {
                    debug!(task_id = %context.id(), "the lease is not renewed yet: {error}");
                    PAUSE
                }
            };
        }
    }
}
