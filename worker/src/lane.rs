//! One queue of a worker: its consumer, and as many runners as tasks may run at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use leveret_common::{
    link::{Consumer, Delivery, Handover, Publisher},
    metrics::TaskMetrics,
    retry::Tiers,
    topology::{Names, QueueName},
    wire::Limits,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{context::Surroundings, handler::Kind};

/// What the runners of a queue share.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: QueueName,
    pub(crate) tiers: Tiers,
    pub(crate) kinds: HashMap<String, (Arc<Kind>, TaskMetrics)>,
    /// Counts what is parked because it is no task that we know.
    pub(crate) unreadable: TaskMetrics,
    pub(crate) publisher: Publisher,
    pub(crate) names: Names,
    pub(crate) limits: Limits,
    pub(crate) surroundings: Arc<Surroundings>,
}

impl Lane {
    pub(crate) fn queue(&self) -> &str {
        &self.surroundings.queue
    }

    /// Starts the runners. They take deliveries until there can be no more.
    pub(crate) fn start(self: &Arc<Self>, concurrency: usize, deliveries: &Handover<Delivery>) -> JoinSet<()> {
        let mut runners = JoinSet::new();
        for _ in 0..concurrency {
            let (lane, mut runner) = (self.clone(), deliveries.runner());
            runners.spawn(async move {
                while let Some(delivery) = runner.next().await {
                    runner.run(lane.process(delivery)).await;
                }
            });
        }
        runners
    }
}

/// A lane at work.
#[derive(Debug)]
pub(crate) struct RunningLane {
    pub(crate) lane: Arc<Lane>,
    pub(crate) consumer: Consumer,
    pub(crate) deliveries: Handover<Delivery>,
    pub(crate) runners: JoinSet<()>,
}

impl RunningLane {
    /// Begins no more tasks, lets those that run come to their end until `now` is cancelled, gives back the rest.
    pub(crate) async fn stop(mut self, now: CancellationToken) {
        self.consumer.stop();
        self.deliveries.close().into_iter().for_each(Delivery::give_back);
        let finished = tokio::select! {
            () = now.cancelled() => false,
            () = async { while self.runners.join_next().await.is_some() {} } => true,
        };
        if !finished {
            let still = self.runners.len();
            info!(queue = self.lane.queue(), still, "stopping now: what still runs goes back to its queue");
            self.lane.surroundings.stopping.cancel();
            // Aborted at their next await, they drop their deliveries, which go back.
            self.runners.shutdown().await;
        }
        self.consumer.finish(Duration::from_secs(5)).await;
    }
}
