//! How many messages wait where, asked over AMQP alone.

use lapin::{options::QueueDeclareOptions, types::FieldTable};
use serde::{Deserialize, Serialize};

use crate::{
    control::{Pause, PauseFlags},
    link::{ChannelPool, PoolError, reason, reply_code},
    topology::{QueueName, QueueSettings, Topology, TopologyError, is_sharded, present_shards},
    wire::{TooLong, short},
};

/// Counts of one work queue. What is not there has none. Messages that a worker has in hand are not counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueCounts {
    /// Its name.
    pub queue: String,
    /// How many shards it is in; none for a single queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<usize>,
    /// Messages that a worker could have at once.
    pub ready: Option<u32>,
    /// Consumers, of all workers.
    pub consumers: Option<u32>,
    /// Messages in its retry tiers.
    pub delayed: Option<u32>,
    /// Its dead letters.
    pub dead: Option<u32>,
    /// Why it is paused everywhere, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
}

/// Counts one work queue and those that belong to it.
///
/// # Errors
/// [`CountError`] when the broker cannot be asked.
pub async fn count(pool: &ChannelPool, name: &QueueName, settings: &QueueSettings) -> Result<QueueCounts, CountError> {
    let shards = if is_sharded(pool, name).await? {
        Some(present_shards(pool, name, settings.shards.unwrap_or(0)).await?)
    } else {
        None
    };
    let work = match &shards {
        None => ask(pool, name.as_str()).await?,
        Some(shards) => {
            let mut all = None;
            for index in shards {
                let (ready, consumers) = all.unwrap_or((0, 0));
                let shard = ask(pool, &name.shard(*index)).await?.unwrap_or((0, 0));
                all = Some((shard.0.saturating_add(ready), shard.1.saturating_add(consumers)));
            }
            all
        }
    };
    let mut delayed = None;
    // A queue that is not there has no tiers either: each question about one that is not there is an error to the broker.
    if work.is_some() {
        for tier in settings.tiers.iter() {
            let waiting = ask(pool, &name.tier(tier)).await?.map(|(ready, _)| ready);
            delayed = sum(delayed, waiting);
        }
    }
    let dead = ask(pool, &name.dead()).await?.map(|(ready, _)| ready);
    Ok(QueueCounts {
        queue: name.to_string(),
        shards: shards.map(|shards| shards.len()),
        ready: work.map(|(ready, _)| ready),
        consumers: work.map(|(_, consumers)| consumers),
        delayed,
        dead,
        // One who may count but not ask sees the counts.
        paused: PauseFlags::new(pool.clone()).look(name, None).await.unwrap_or_default(),
    })
}

/// How many messages wait that no queue took; `None` when there is no queue of the lost.
///
/// # Errors
/// [`CountError`] when the broker cannot be asked.
pub async fn count_lost(pool: &ChannelPool, topology: &Topology) -> Result<Option<u32>, CountError> {
    Ok(ask(pool, topology.names().lost()).await?.map(|(ready, _)| ready))
}

/// Ready messages and consumers of a queue, if it is there.
async fn ask(pool: &ChannelPool, queue: &str) -> Result<Option<(u32, u32)>, CountError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = pool.get().await?;
    match channel.queue_declare(short("queue", queue)?, options, FieldTable::default()).await {
        Ok(found) => Ok(Some((found.message_count(), found.consumer_count()))),
        Err(error) if reply_code(&error) == Some(404) => Ok(None),
        Err(error) => Err(CountError::Broker { queue: queue.to_owned(), reason: reason(&error) }),
    }
}

fn sum(left: Option<u32>, right: Option<u32>) -> Option<u32> {
    match (left, right) {
        (None, None) => None,
        (left, right) => Some(left.unwrap_or(0).saturating_add(right.unwrap_or(0))),
    }
}

/// A queue could not be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    /// No channel could be had.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Whether it is in shards could not be asked.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The broker refused or the channel failed.
    #[error("queue {queue:?} cannot be counted: {reason}")]
    Broker {
        /// The queue.
        queue: String,
        /// What the broker said, or how the channel failed.
        reason: String,
    },
    /// A name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}
