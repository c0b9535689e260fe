//! The settings of one work queue.

use serde::{Deserialize, Serialize};

use super::MAX_SHARDS;
use crate::{event::Tracking, retry::Tiers, route::Route};

/// The settings of one work queue: a `[queues.<name>]` table of `leveret.toml`.
///
/// RabbitMQ keeps a queue's arguments as they were declared first. To change one, delete the queue when it
/// is empty; [`declare`](super::declare) says which argument differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// How often the broker gives a message out before it declares it dead by itself: the last resort
    /// against a message that kills its worker. Default 100.
    pub delivery_limit: u32,
    /// How many messages may wait; beyond it publishers are refused. Default 1,000,000.
    pub max_length: u32,
    /// The delays that have a queue of their own. Default 1s, 5s, 30s, 2m, 10m, 1h.
    pub tiers: Tiers,
    /// In how many shards a new queue is: `<q>.00` and so on, with the tasks of one key always in the same. Without it
    /// the queue is one. Of a queue that is there, `leveret queues reshard` changes it. 1 to [`MAX_SHARDS`].
    pub shards: Option<u16>,
    /// Whether the tasks of a shard run one after another, so that those of one key run in their order; if not, all
    /// workers take from all shards in turn. Only of meaning with `shards`. Default true.
    pub order: bool,
    /// How the tasks of this queue are given to workers where a task does not say itself. Without it each goes to
    /// whoever is free first, and `leveret-route` is not heeded.
    pub route: Option<Route>,
    /// Which of its tasks are reported on as events: `off`, `full`, or `sampled:0.01`. Not kept by the broker: each worker
    /// has its own. Default off.
    pub events: Tracking,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            delivery_limit: 100,
            max_length: 1_000_000,
            tiers: Tiers::default(),
            shards: None,
            order: true,
            route: None,
            events: Tracking::Off,
        }
    }
}

impl QueueSettings {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`InvalidQueueSettings`] with the key and what to write instead.
    pub fn check(&self) -> Result<(), InvalidQueueSettings> {
        let wrong = |key, fix| Err(InvalidQueueSettings { key, fix });
        match self.shards {
            _ if self.max_length == 0 => {
                wrong("max_length", "a queue of length 0 takes nothing: write 1 or more".to_owned())
            }
            Some(shards) if !(1..=MAX_SHARDS).contains(&shards) => {
                wrong("shards", format!("a queue cannot be in {shards} shards: write 1 to {MAX_SHARDS}"))
            }
            Some(_) if self.route.is_some() => {
                wrong("route", "the tasks of a queue in shards go by their key: remove `route`, or `shards`".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether a worker that gets a task may forward it to another.
    pub fn is_routed(&self) -> bool {
        self.route.is_some() && self.shards.is_none()
    }

    /// Whether its tasks run one after another within each shard.
    pub fn is_ordered(&self) -> bool {
        self.shards.is_some() && self.order
    }
}

/// The settings of a queue cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fix}")]
pub struct InvalidQueueSettings {
    /// The key in the queue's table.
    pub key: &'static str,
    /// What is wrong, and what to write instead.
    pub fix: String,
}
