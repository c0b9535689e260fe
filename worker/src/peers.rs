//! The other workers, as routes and shards want to know them.

use std::sync::Arc;

use leveret_common::{
    clock::Clock,
    link::{Link, spawn},
    registry::{Registry, RegistryError, Workers},
    route::Peer,
    topology::QueueName,
};
use tokio::sync::watch;

/// Follows who else is alive.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    registry: Registry,
}

impl Peers {
    /// Listens on `link` for the beats of workers.
    pub(crate) fn on(link: Link, clock: Clock) -> Result<Self, RegistryError> {
        Ok(Self { registry: Registry::on(link, clock)? })
    }

    /// The workers that are alive, for routes.
    pub(crate) fn all(&self) -> watch::Receiver<Arc<[Peer]>> {
        self.follow(|workers| {
            let peer = |worker: &Arc<leveret_common::registry::Peer>| Peer {
                name: worker.beat.worker.clone(),
                instance: worker.beat.instance.to_string(),
                queues: worker.beat.queues.iter().map(|queue| queue.queue.to_string()).collect(),
                weight: worker.beat.weight,
                busy: worker.beat.busy(),
                capacity: worker.beat.capacity(),
            };
            workers.live().map(peer).collect()
        })
    }

    /// The instances that consume from a queue, for its shards.
    pub(crate) fn of_queue(&self, queue: &QueueName) -> watch::Receiver<Vec<String>> {
        let queue = queue.clone();
        self.follow(move |workers| workers.of_queue(&queue).map(|worker| worker.beat.instance.to_string()).collect())
    }

    fn follow<T: PartialEq + Send + Sync + 'static>(
        &self,
        view: impl Fn(&Workers) -> T + Send + 'static,
    ) -> watch::Receiver<T> {
        let mut workers = self.registry.follow();
        let (publish, seen) = watch::channel(view(&workers.borrow_and_update()));
        // Kept alive by the follower: when nobody looks any more, it ends.
        let registry = self.registry.clone();
        spawn(async move {
            let _registry = registry;
            loop {
                tokio::select! {
                    () = publish.closed() => return,
                    changed = workers.changed() => if changed.is_err() { return },
                }
                let now = view(&workers.borrow_and_update());
                publish.send_if_modified(|before| {
                    let changed = *before != now;
                    *before = now;
                    changed
                });
            }
        });
        seen
    }
}
