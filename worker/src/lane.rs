//! What the runners need to know of one queue.

use std::{collections::HashMap, sync::Arc};

use leveret_common::{
    link::Publisher,
    metrics::TaskMetrics,
    retry::Tiers,
    topology::{Names, QueueName},
    wire::Limits,
};

use crate::{context::Surroundings, forward::Forwarder, handler::Kind, lease::Leases, shards};

/// One queue of a worker, as its tasks see it.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: QueueName,
    pub(crate) tiers: Tiers,
    pub(crate) kinds: HashMap<String, Arc<Kind>>,
    /// Counts what is parked because it is no task that we know.
    pub(crate) unreadable: TaskMetrics,
    pub(crate) publisher: Publisher,
    pub(crate) names: Names,
    pub(crate) limits: Limits,
    pub(crate) surroundings: Arc<Surroundings>,
    /// If there are long tasks; all lanes of a queue share them.
    pub(crate) leases: Option<Arc<Leases>>,
    /// If it is in shards.
    pub(crate) gates: Option<shards::Control>,
    /// Whether the tasks of a key run one after another.
    pub(crate) ordered: bool,
    /// If its tasks go by routes, and this is the queue of all.
    pub(crate) forwarder: Option<Forwarder>,
}

impl Lane {
    pub(crate) fn queue(&self) -> &str {
        self.queue.as_str()
    }
}
