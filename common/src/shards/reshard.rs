//! Another number of shards, while publishers and workers go on.

use std::{ops::Range, time::Duration};

use lapin::{
    BasicProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{FieldTable, ShortString},
};
use serde::Serialize;
use tracing::info;

use super::{BARRIER, Barrier, Flags, FlagsError, GATE, Gate};
use crate::{
    link::{ChannelPool, PoolError, PublishError, Publisher, reason, reply_code},
    topology::{
        self, MAX_SHARDS, Part, QueueName, QueueSettings, Topology, TopologyError, bind, declare_queue, present_shards,
        shard_binding, unbind,
    },
    wire::{JSON, Outgoing, TooLong, short},
};

/// How long a message that the broker has routed may take until it lies in its shard. It takes far less, unless the
/// leader of the shard's queue changes in this very moment.
const SETTLE: Duration = Duration::from_secs(1);
/// Pause between two looks at a flag.
const LOOK: Duration = Duration::from_millis(100);

/// Changes the number of shards of a queue, one shard at a time. Ended half way, by a kill or a lost connection, it is
/// run again and first finishes what was begun.
#[derive(Debug)]
pub struct Reshard {
    pool: ChannelPool,
    publisher: Publisher,
    topology: Topology,
    queue: QueueName,
    flags: Flags,
    settle: Duration,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// This shard takes tasks.
    Added {
        /// Its name.
        shard: String,
    },
    /// This shard takes no more tasks; those in it are still to be run.
    Closed {
        /// Its name.
        shard: String,
    },
    /// All tasks of this shard are done, and it is deleted.
    Removed {
        /// Its name.
        shard: String,
    },
    /// This shard takes no more tasks. Its queue stays: without an order nobody can tell when the last of its tasks is
    /// done.
    Retired {
        /// Its name.
        shard: String,
    },
}

impl Reshard {
    /// For `queue`, whose settings are in `topology`.
    ///
    /// # Errors
    /// [`ReshardError::NotSharded`] when the topology does not have it in shards.
    pub fn new(
        pool: ChannelPool,
        publisher: Publisher,
        topology: Topology,
        queue: QueueName,
    ) -> Result<Self, ReshardError> {
        if topology.settings(&queue).is_none_or(|settings| settings.shards.is_none()) {
            return Err(ReshardError::NotSharded { queue });
        }
        Ok(Self { flags: Flags::new(pool.clone()), pool, publisher, topology, queue, settle: SETTLE })
    }

    /// How long to wait after a change of the bindings until all that was routed before surely lies in its shard.
    /// Default 1 s.
    #[must_use]
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Goes from as many shards as there are to this many. `progress` is told of each step. To remove a shard waits
    /// until workers have run what is in it.
    ///
    /// # Errors
    /// [`ReshardError`]; whatever it is, to run it again goes on from there.
    pub async fn to(&self, shards: u16, mut progress: impl FnMut(Step)) -> Result<(), ReshardError> {
        if !(1..=MAX_SHARDS).contains(&shards) {
            return Err(ReshardError::Number { shards });
        }
        if !topology::is_sharded(&self.pool, &self.queue).await? {
            return Err(ReshardError::NotSharded { queue: self.queue.clone() });
        }
        self.lock().await?;
        let expected = self.topology.settings(&self.queue).and_then(|settings| settings.shards).unwrap_or(1);
        let present = present_shards(&self.pool, &self.queue, expected).await?;
        let mut count = u16::try_from(present.len()).unwrap_or(MAX_SHARDS);
        if let Some(missing) = (0..count).find(|index| present.get(usize::from(*index)) != Some(index)) {
            return Err(ReshardError::Hole { shard: self.queue.shard(missing) });
        }
        if let Some(last) = count.checked_sub(1) {
            if self.flags.is_up(&self.begun("shrink", last)).await? {
                info!(shard = self.queue.shard(last), "its removal was begun and not finished");
                self.remove(last, &mut progress).await?;
                count = last;
            } else if self.flags.is_up(&self.begun("grow", last)).await? {
                info!(shard = self.queue.shard(last), "it was begun and not finished");
                self.add(last, &mut progress).await?;
            }
        }
        for index in count..shards {
            self.lock().await?;
            self.flags.lower(&self.begun("shrink", index)).await?;
            self.add(index, &mut progress).await?;
        }
        for index in (shards..count).rev() {
            self.lock().await?;
            self.flags.lower(&self.begun("grow", index)).await?;
            self.remove(index, &mut progress).await?;
        }
        // A run that was killed between its last two steps leaves this one.
        self.flags.lower(&self.begun("shrink", shards)).await?;
        self.unlock().await
    }

    async fn add(&self, index: u16, progress: &mut impl FnMut(Step)) -> Result<(), ReshardError> {
        let begun = self.begun("grow", index);
        let flags: Vec<_> = (0..index).map(|older| format!("{begun}.{older:02}")).collect();
        self.flags.raise(&begun).await?;
        self.declare(index).await?;
        if self.is_ordered() {
            for flag in &flags {
                self.flags.raise(flag).await?;
            }
            self.publish(index..index + 1, GATE, &Gate { flags: flags.clone() }).await?;
        }
        for binding in shard_binding(&self.queue, index) {
            let part = Part::Binding { exchange: binding.exchange.clone(), queue: self.queue.shard(index) };
            bind(&*self.pool.get().await?, &binding).await.map_err(|fault| fault.about(part))?;
        }
        if self.is_ordered() {
            tokio::time::sleep(self.settle).await;
            for (older, flag) in (0..index).zip(flags) {
                self.publish(older..older + 1, BARRIER, &Barrier { flag }).await?;
            }
        }
        self.flags.lower(&begun).await?;
        progress(Step::Added { shard: self.queue.shard(index) });
        Ok(())
    }

    async fn remove(&self, index: u16, progress: &mut impl FnMut(Step)) -> Result<(), ReshardError> {
        let begun = self.begun("shrink", index);
        let [flag, last] = ["all", "last"].map(|name| format!("{begun}.{name}"));
        let shard = self.queue.shard(index);
        self.flags.raise(&begun).await?;
        if self.is_ordered() {
            self.flags.raise(&flag).await?;
            self.publish(0..index, GATE, &Gate { flags: vec![flag.clone()] }).await?;
        }
        for binding in shard_binding(&self.queue, index) {
            let part = Part::Binding { exchange: binding.exchange.clone(), queue: shard.clone() };
            unbind(&*self.pool.get().await?, &binding).await.map_err(|fault| fault.about(part))?;
        }
        if !self.is_ordered() {
            self.flags.lower(&begun).await?;
            progress(Step::Retired { shard });
            return Ok(());
        }
        progress(Step::Closed { shard: shard.clone() });
        tokio::time::sleep(self.settle).await;
        self.drained(index, flag).await?;
        // Once more, for what the broker had under way for longer than it ever should: a queue that is deleted takes
        // its messages along.
        tokio::time::sleep(self.settle).await;
        self.flags.raise(&last).await?;
        self.drained(index, last).await?;
        let deleted = self.pool.get().await?.queue_delete(short("queue", &shard)?, QueueDeleteOptions::default()).await;
        deleted.map_err(|error| ReshardError::Delete { shard: shard.clone(), reason: reason(&error) })?;
        self.flags.lower(&begun).await?;
        progress(Step::Removed { shard });
        Ok(())
    }

    /// Waits until all that is in the shard now is done.
    async fn drained(&self, index: u16, flag: String) -> Result<(), ReshardError> {
        self.publish(index..index + 1, BARRIER, &Barrier { flag: flag.clone() }).await?;
        while self.flags.is_up(&flag).await? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn declare(&self, index: u16) -> Result<(), ReshardError> {
        let topology = self.topology.clone().with_shards(&self.queue, index + 1);
        let name = self.queue.shard(index);
        for queue in topology.queues().iter().filter(|queue| queue.name == name) {
            let part = Part::Queue(queue.name.clone());
            declare_queue(&*self.pool.get().await?, queue, false).await.map_err(|fault| fault.about(part))?;
        }
        Ok(())
    }

    /// Puts a message into each of these shards, past all exchanges.
    async fn publish(&self, shards: Range<u16>, task: &str, arguments: &impl Serialize) -> Result<(), ReshardError> {
        let body = serde_json::to_vec(arguments).unwrap_or_default();
        for index in shards {
            let properties = BasicProperties::default()
                .with_type(short("task name", task)?)
                .with_message_id(short("message id", crate::task::TaskId::new().as_str())?)
                .with_content_type(short("content type", JSON)?)
                .with_delivery_mode(2);
            let message = Outgoing {
                exchange: ShortString::default(),
                routing_key: short("queue", &self.queue.shard(index))?,
                mandatory: true,
                properties,
                body: body.clone().into(),
            };
            self.publisher.publish(message).await?;
        }
        Ok(())
    }

    /// The flag that says that a change was begun.
    fn begun(&self, change: &str, index: u16) -> String {
        self.queue.flag(&format!("{change}-{index:02}"))
    }

    fn is_ordered(&self) -> bool {
        self.topology.settings(&self.queue).is_some_and(QueueSettings::is_ordered)
    }

    fn lock_name(&self) -> String {
        self.queue.flag("lock")
    }

    /// One at a time: a queue that belongs to one connection, and goes with it.
    async fn lock(&self) -> Result<(), ReshardError> {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let name = short("queue", &self.lock_name())?;
        match self.pool.get().await?.queue_declare(name, options, FieldTable::default()).await {
            Ok(_) => Ok(()),
            Err(error) if reply_code(&error) == Some(405) => Err(ReshardError::Busy { queue: self.queue.clone() }),
            Err(error) => {
                let part = Part::Queue(self.lock_name());
                Err(TopologyError::Broker { part, reason: reason(&error) }.into())
            }
        }
    }

    async fn unlock(&self) -> Result<(), ReshardError> {
        Ok(self.flags.lower(&self.lock_name()).await?)
    }
}

/// The number of shards could not be changed, or not all the way. To run it again goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReshardError {
    /// The queue is a single one.
    #[error(
        "queue \"{queue}\" is not in shards: write `shards` into its table [queues.{queue}] before it is declared for the \
         first time"
    )]
    NotSharded {
        /// The queue.
        queue: QueueName,
    },
    /// There can be no such number.
    #[error("a queue cannot be in {shards} shards: choose 1 to {MAX_SHARDS}")]
    Number {
        /// What was asked for.
        shards: u16,
    },
    /// Someone else is at it.
    #[error("the number of shards of queue \"{queue}\" is being changed by another: wait until that is done")]
    Busy {
        /// The queue.
        queue: QueueName,
    },
    /// A shard is missing in the middle.
    #[error("there is no queue {shard:?}, and shards behind it are: nobody knows any more which keys belong where")]
    Hole {
        /// The shard that is missing.
        shard: String,
    },
    /// The shard that was emptied cannot be deleted.
    #[error("cannot delete the queue {shard:?}, which is empty: {reason}")]
    Delete {
        /// Its name.
        shard: String,
        /// What the broker said.
        reason: String,
    },
    /// The broker cannot be asked, or refused.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A flag could not be raised, lowered or seen.
    #[error(transparent)]
    Flags(#[from] FlagsError),
    /// A gate or a barrier could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// No channel could be had.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}
