//! Giving a task to the worker that its route chooses.

use std::sync::Arc;

use futures_util::future::join_all;
use leveret_common::{
    link::{Delivery, PublishError, Publisher},
    route::{Choice, Peer, Route, Router},
    topology::{Names, QueueName},
    wire::{self, Envelope, Outgoing, Share, TooLong},
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// How often a task is forwarded in vain before it is run by whoever has it.
pub const FORWARDS_AT_MOST: u32 = 3;

/// Forwards tasks of one queue to the workers that their routes choose.
#[derive(Debug)]
pub struct Forwarder {
    queue: QueueName,
    worker: String,
    route: Route,
    router: Router,
    publisher: Publisher,
    names: Names,
    peers: watch::Receiver<Arc<[Peer]>>,
}

impl Forwarder {
    /// For `queue`, whose tasks go by `route` unless they say otherwise, at the worker with this name. `peers` are the
    /// workers that are alive.
    pub fn new(
        queue: QueueName,
        worker: String,
        route: Route,
        publisher: Publisher,
        names: Names,
        peers: watch::Receiver<Arc<[Peer]>>,
    ) -> Self {
        Self { queue, worker, route, router: Router::default(), publisher, names, peers }
    }

    /// Gives a task that came from the queue of all to the worker that its route chooses. What comes from a worker's own
    /// queue has been chosen already. What comes back is to be run here; of none, the task is elsewhere and settled.
    pub async fn forward(&self, delivery: Delivery, envelope: &Envelope) -> Option<Delivery> {
        let facts = &envelope.facts;
        let route = facts.route.as_ref().unwrap_or(&self.route);
        if *route == Route::Competing || facts.share.is_some() || facts.forwards >= FORWARDS_AT_MOST {
            return Some(delivery);
        }
        let queue = self.queue.as_str();
        let here = |peer: &&Peer| peer.queues.iter().any(|consumed| consumed == queue);
        let peers: Vec<Peer> = self.peers.borrow().iter().filter(here).cloned().collect();
        match self.router.choose(route, facts.key.as_deref(), facts.id.as_str(), &peers) {
            Choice::Here => Some(delivery),
            Choice::To(workers) => self.to_first(delivery, envelope, &workers).await,
            Choice::Every(workers) => self.to_every(delivery, envelope, &workers).await,
        }
    }

    async fn to_first(&self, delivery: Delivery, envelope: &Envelope, workers: &[String]) -> Option<Delivery> {
        let facts = &envelope.facts;
        for worker in workers {
            if *worker == self.worker {
                break;
            }
            match self.publish(wire::forward(envelope, self.queue.as_str(), &self.queue.at(worker))).await {
                Ok(()) => {
                    debug!(task_id = %facts.id, task = facts.task, worker, "forwarded");
                    delivery.ack();
                    return None;
                }
                Err(PublishError::Unroutable { .. }) => {
                    debug!(task_id = %facts.id, task = facts.task, worker, "is gone, forwarding to the next");
                }
                Err(error) => return self.failed(delivery, envelope, &error),
            }
        }
        Some(delivery)
    }

    /// One share for each. That of a worker that is gone goes to whoever is free: each is run by somebody.
    async fn to_every(&self, delivery: Delivery, envelope: &Envelope, workers: &[String]) -> Option<Delivery> {
        let queue = self.queue.as_str();
        let total = u32::try_from(workers.len()).unwrap_or(u32::MAX);
        let shares = (0..total).zip(workers).map(async |(index, worker)| {
            let share = || wire::share(envelope, queue, &self.queue.at(worker), Share { worker, index, total });
            match self.publish(share()).await {
                Err(PublishError::Unroutable { .. }) => {
                    let back = share().and_then(|share| wire::hand_back(share, self.names.retry_return(), queue));
                    self.publish(back).await
                }
                sent => sent,
            }
        });
        let sent: Result<Vec<()>, PublishError> = join_all(shares).await.into_iter().collect();
        match sent {
            Ok(_) => {
                info!(task_id = %envelope.facts.id, task = envelope.facts.task, total, "given to every worker");
                delivery.ack();
                None
            }
            Err(error) => self.failed(delivery, envelope, &error),
        }
    }

    fn failed(&self, delivery: Delivery, envelope: &Envelope, error: &PublishError) -> Option<Delivery> {
        let facts = &envelope.facts;
        match error {
            // It may be there or not: another look at it finds the same id.
            PublishError::Refused | PublishError::Unconfirmed { .. } | PublishError::Closed => {
                warn!(task_id = %facts.id, task = facts.task, "cannot forward the task, it goes back to its queue: {error}");
                delivery.requeue();
                None
            }
            error => {
                warn!(task_id = %facts.id, task = facts.task, "cannot forward the task, it is run here: {error}");
                Some(delivery)
            }
        }
    }

    async fn publish(&self, message: Result<Outgoing, TooLong>) -> Result<(), PublishError> {
        let message = message.map_err(|error| PublishError::Invalid(error.into()))?;
        self.publisher.publish(message).await
    }
}
