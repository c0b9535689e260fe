//! Flags: queues that exist, or do not. Raising and lowering one is a single step at the broker, and all see it.

use std::collections::BTreeMap;

use lapin::options::QueueDeleteOptions;

use crate::{
    link::{ChannelPool, PoolError, reason},
    topology::{Argument, Queue, TopologyError, declare_queue, queue_is_there},
    wire::{TooLong, short},
};

/// The flags of a broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Flags {
    pool: ChannelPool,
}

impl Flags {
    /// Over channels of this pool.
    pub fn new(pool: ChannelPool) -> Self {
        Self { pool }
    }

    /// Raises a flag; it may be up already.
    ///
    /// # Errors
    /// [`FlagsError`].
    pub async fn raise(&self, name: &str) -> Result<(), FlagsError> {
        // Replicated, so that a flag whose node is down does not seem to be lowered.
        let arguments = BTreeMap::from([("x-queue-type", Argument::Text("quorum".to_owned()))]);
        let flag = Queue { name: name.to_owned(), arguments };
        let channel = self.pool.get().await?;
        declare_queue(&channel, &flag, false)
            .await
            .map_err(|fault| FlagsError::Topology(Box::new(fault.about(crate::topology::Part::Queue(name.to_owned())))))
    }

    /// Lowers a flag; it may be down already.
    ///
    /// # Errors
    /// [`FlagsError`].
    pub async fn lower(&self, name: &str) -> Result<(), FlagsError> {
        let channel = self.pool.get().await?;
        let deleted = channel.queue_delete(short("flag", name)?, QueueDeleteOptions::default()).await;
        deleted.map(drop).map_err(|error| FlagsError::Broker(reason(&error)))
    }

    /// Whether a flag is up.
    ///
    /// # Errors
    /// [`FlagsError`].
    pub async fn is_up(&self, name: &str) -> Result<bool, FlagsError> {
        Ok(queue_is_there(&self.pool, name).await?)
    }
}

/// A flag could not be raised, lowered or seen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlagsError {
    /// The broker refused or did not answer.
    #[error(transparent)]
    Topology(Box<TopologyError>),
    /// The flag could not be lowered.
    #[error("cannot lower a flag: {0}")]
    Broker(String),
    /// No channel could be had.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Its name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl From<TopologyError> for FlagsError {
    fn from(error: TopologyError) -> Self {
        Self::Topology(Box::new(error))
    }
}
