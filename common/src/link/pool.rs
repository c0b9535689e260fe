//! Channels for single requests: declaring, asking, purging. The hot paths have channels of their own.

use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, Pool, QueueMode, RecycleError, RecycleResult, Timeouts};
use lapin::Channel;

use super::{ConnectError, Link};

/// How many channels a pool opens. Few, for each costs a lock on every frame of its connection.
const CHANNELS: usize = 4;

/// A pool of channels on one link. Cheap to clone.
#[derive(Clone)]
pub struct ChannelPool {
    pool: Pool<Channels>,
    link: Link,
}

impl std::fmt::Debug for ChannelPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelPool").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

impl ChannelPool {
    /// A pool on `link`.
    pub fn new(link: Link) -> Self {
        let timeout = link.settings().timeout;
        let builder = Pool::builder(Channels { link: link.clone() })
            .max_size(CHANNELS)
            .queue_mode(QueueMode::Lifo)
            .runtime(deadpool::Runtime::Tokio1)
            .timeouts(Timeouts { wait: Some(timeout), create: Some(timeout), recycle: Some(Duration::from_secs(1)) });
        match builder.build() {
            Ok(pool) => Self { pool, link },
            // Building fails only for timeouts without a runtime, and it has one.
            Err(error) => unreachable!("{error}"),
        }
    }

    /// The link that its channels are on.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// A channel of one's own until it is dropped. One that the broker has closed is not handed out again.
    ///
    /// # Errors
    /// [`PoolError`] when there is no connection, or no channel in time.
    pub async fn get(&self) -> Result<Object<Channels>, PoolError> {
        use deadpool::managed::PoolError as Deadpool;
        self.pool.get().await.map_err(|error| match error {
            Deadpool::Backend(error) => error,
            Deadpool::Timeout(_) => match self.link.state() {
                super::LinkState::Down(Some(error)) | super::LinkState::Closed(error) => error.into(),
                _ => PoolError::Busy,
            },
            _ => PoolError::Busy,
        })
    }
}

/// Makes and checks the channels of a [`ChannelPool`].
#[derive(Debug)]
pub struct Channels {
    link: Link,
}

impl Manager for Channels {
    type Type = Channel;
    type Error = PoolError;

    async fn create(&self) -> Result<Channel, PoolError> {
        Ok(self.link.channel().await?.1)
    }

    async fn recycle(&self, channel: &mut Channel, _: &Metrics) -> RecycleResult<PoolError> {
        // A channel dies with its connection, so this covers older generations too.
        if channel.status().connected() { Ok(()) } else { Err(RecycleError::message("the channel is closed")) }
    }
}

/// No channel could be had.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker did not open a channel.
    #[error("the broker opened no channel: {0}")]
    Channel(String),
    /// All channels are in use, or the broker does not answer.
    #[error("no channel became free in time: the broker does not answer, or many requests run at once")]
    Busy,
}
