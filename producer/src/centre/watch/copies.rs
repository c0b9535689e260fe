//! Seeing to it that the dead letters of every work queue that the centre knows are copied to it, and taking them in.
//!
//! A queue is known from the tasks that the centre hears of or makes, from schedules, and from workers. Until its dead
//! letters are copied, deaths in it are not seen.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use leveret_common::{
    link::{ChannelPool, ConsumerSettings, Link},
    registry::{Change, Registry},
    topology::{Copied, QueueName, Topology, TopologyError, copy_deaths, declare},
};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{
    events::{Intake, RunningIntake, chain},
    queues::Queues,
};
use crate::centre::store::Store;

/// How often it is looked whether all is as it should be: someone may have deleted a queue and made it again.
const EVERY: Duration = Duration::from_secs(30);
/// The pause before it is tried again to declare the queue.
const PAUSE: Duration = Duration::from_secs(2);
/// Copies that may be here and not yet in the database. They have bodies of up to 16 MiB.
const PREFETCH: u16 = 32;

pub(super) struct Copies {
    pub(super) pool: ChannelPool,
    pub(super) topology: Arc<Topology>,
    pub(super) queues: Arc<Queues>,
    pub(super) registry: Registry,
    pub(super) store: Store,
    pub(super) stop: CancellationToken,
    /// Whether it was said that the user may not do this.
    pub(super) refused: bool,
}

impl Copies {
    /// Runs until it is told to stop.
    pub(super) async fn run(mut self, consume: Link, tag: String, intake: Intake) {
        while let Err(error) = declare(&self.pool, &self.topology).await {
            self.failed(&error);
            let pause = if self.refused { EVERY } else { PAUSE };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
        let consuming = ConsumerSettings {
            queue: self.topology.names().deaths().to_owned(),
            prefetch: PREFETCH,
            tag,
            topology: Some((self.pool.clone(), self.topology.clone())),
            ordered: false,
        };
        let RunningIntake { tasks, .. } = match intake.start(consume, consuming) {
            Ok(running) => running,
            Err(error) => return error!(%error, "copies of dead letters cannot be taken in"),
        };
        self.keep_up().await;
        for task in tasks {
            if let Err(error) = task.await {
                error!(%error, "a part of the watcher ended by itself");
            }
        }
    }

    async fn keep_up(&mut self) {
        let mut changes = self.registry.changes();
        let mut regularly = interval(EVERY);
        regularly.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut copied = BTreeSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.queues.due() => {}
                _ = regularly.tick() => self.look_around().await,
                change = changes.recv() => match change {
                    // A worker that starts declares its queues.
                    Ok(Change::Online(peer)) => {
                        for queue in &peer.beat.queues {
                            self.queues.look_at(queue.queue.as_str());
                        }
                    }
                    Ok(_) => continue,
                    Err(RecvError::Lagged(_)) => self.look_around().await,
                    Err(RecvError::Closed) => return,
                },
            }
            self.see_to(&mut copied).await;
        }
    }

    /// Looks at all queues anew, of which there may be new ones.
    async fn look_around(&self) {
        for peer in self.registry.workers().iter() {
            for queue in &peer.beat.queues {
                self.queues.hear(queue.queue.as_str());
            }
        }
        match self.store.work_queues().await {
            Ok(queues) => queues.iter().for_each(|queue| self.queues.hear(queue.as_str())),
            Err(error) => warn!("the queues of tasks cannot be looked up: {}", chain(&error)),
        }
        self.queues.look_at_all();
    }

    async fn see_to(&mut self, copied: &mut BTreeSet<QueueName>) {
        let names = self.topology.names().clone();
        for queue in self.queues.take_due() {
            // An event of a stranger may name anything.
            let Ok(queue) = queue.parse::<QueueName>() else { continue };
            match copy_deaths(&self.pool, &names, &queue, copied.contains(&queue)).await {
                Ok(Copied::Yes) => {
                    copied.insert(queue);
                }
                Ok(Copied::NoQueue) => {
                    if copied.remove(&queue) {
                        let (dead, lost) = (queue.dead(), names.lost());
                        warn!(queue = dead, "this queue is gone: dead letters for it go to the queue {lost}");
                    }
                }
                Err(error) => {
                    self.failed(&error);
                    // While the broker is away it is of no use to ask for the others.
                    if matches!(error, TopologyError::Pool(_)) || self.stop.is_cancelled() {
                        return;
                    }
                }
            }
        }
    }

    fn failed(&mut self, error: &TopologyError) {
        let forbidden = matches!(error, TopologyError::Forbidden { .. });
        if forbidden && !self.refused {
            self.refused = true;
            warn!("tasks that the broker declares dead are not seen: {}", chain(error));
        } else {
            debug!("dead letters are not copied yet: {}", chain(error));
        }
    }
}
