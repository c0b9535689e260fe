//! Pausing a queue everywhere and for as long as it takes: a flag that the broker keeps.
//!
//! The flag is a queue, `<q>.paused`. It outlives workers and brokers, workers that start later find it, and no store is
//! needed. It holds one message that says why.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{
        BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::ShortString,
};
use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMillis,
    link::{ChannelPool, LinkState, PoolError, reason, reply_code},
    topology::{QueueName, argument_table, pause_flag, queue_is_there},
    wire::{JSON, TooLong, short},
};

/// How often the reason is asked for while others have it in hand, and how far apart.
const READS: usize = 20;
const AGAIN: Duration = Duration::from_millis(20);

/// Why a queue is paused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pause {
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who wanted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
    /// Whether it is paused at every worker, those that start later among them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everywhere: bool,
}

impl Pause {
    /// A pause at one worker.
    pub fn here(reason: Option<String>, by: Option<String>, since: UnixMillis) -> Self {
        Self { reason, by, since: Some(since), everywhere: false }
    }

    /// A pause at every worker.
    pub fn everywhere(reason: Option<String>, by: Option<String>, since: UnixMillis) -> Self {
        Self { everywhere: true, ..Self::here(reason, by, since) }
    }
}

/// `paused everywhere: maintenance (guest, 2026-01-01T00:00:00.000Z)`
impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.everywhere { "paused everywhere" } else { "paused" })?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        let since = self.since.map(UnixMillis::to_rfc3339);
        let notes: Vec<_> = [&self.by, &since].into_iter().flatten().map(String::as_str).collect();
        if notes.is_empty() { Ok(()) } else { write!(f, " ({})", notes.join(", ")) }
    }
}

/// The flags of the queues that are paused everywhere.
///
/// To raise and to lower one takes the permission to configure `<q>.paused` and to write to the default exchange; to
/// look takes the latter, and to see the reason the permission to read the flag.
#[derive(Clone, Debug)]
pub struct PauseFlags {
    pool: ChannelPool,
}

impl PauseFlags {
    /// By way of these channels. They publish: they should not be those of a connection that consumes tasks.
    pub fn new(pool: ChannelPool) -> Self {
        Self { pool }
    }

    /// Raises the flag of a queue, or changes the reason that it gives. Workers see it when they look.
    ///
    /// # Errors
    /// [`PauseError`].
    pub async fn raise(&self, queue: &QueueName, pause: &Pause) -> Result<(), PauseError> {
        let body = serde_json::to_vec(pause).unwrap_or_default();
        let raised = self.ask(queue, async |channel, name| {
            let flag = pause_flag(queue);
            let options = QueueDeclareOptions::durable();
            channel.queue_declare(name.clone(), options, argument_table(&flag.arguments)).await?;
            channel.queue_purge(name.clone(), QueuePurgeOptions::default()).await?;
            let properties = BasicProperties::default()
                .with_content_type(ShortString::try_new(JSON).unwrap_or_default())
                .with_delivery_mode(2);
            publish(&channel, name, &body, properties).await
        });
        match raised.await? {
            Confirmation::Ack(None) => Ok(()),
            _ => Err(PauseError::NotStored { queue: queue.clone() }),
        }
    }

    /// Lowers the flag of a queue. Whether it was raised.
    ///
    /// # Errors
    /// [`PauseError`].
    pub async fn lower(&self, queue: &QueueName) -> Result<bool, PauseError> {
        if self.look(queue, None).await?.is_none() {
            return Ok(false);
        }
        self.ask(queue, async |channel, name| channel.queue_delete(name, QueueDeleteOptions::default()).await).await?;
        Ok(true)
    }

    /// Why a queue is paused everywhere, if it is. `known` is what an earlier look found: the reason is then not read
    /// again.
    ///
    /// To ask whether a queue is there, a message is sent that the broker returns if it is not. A passive declare would
    /// have the broker log an error each time.
    ///
    /// # Errors
    /// [`PauseError`] when the broker cannot be asked: nobody knows then.
    pub async fn look(&self, queue: &QueueName, known: Option<&Pause>) -> Result<Option<Pause>, PauseError> {
        let asked = self.ask(queue, async |channel, name| {
            let properties = BasicProperties::default()
                .with_expiration(ShortString::try_new("0").unwrap_or_default())
                .with_delivery_mode(1);
            publish(&channel, name, b"", properties).await
        });
        if let Confirmation::Ack(Some(_)) = asked.await? {
            return Ok(None);
        }
        if let Some(known) = known {
            return Ok(Some(known.clone()));
        }
        // That it is paused is known by now, even if nobody may say why.
        let pause = self.read(queue).await.unwrap_or_default();
        Ok(Some(Pause { everywhere: true, ..pause }))
    }

    /// Reads the reason and puts it back.
    async fn read(&self, queue: &QueueName) -> Option<Pause> {
        for _ in 0..READS {
            let read = self.ask(queue, async |channel, name| {
                let Some(message) = channel.basic_get(name, BasicGetOptions::default()).await? else {
                    return Ok(None);
                };
                let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                channel.basic_nack(message.delivery_tag, options).await?;
                Ok(Some(serde_json::from_slice::<Pause>(&message.data).unwrap_or_default()))
            });
            match read.await {
                Ok(None) => {}
                Ok(pause) => return pause,
                Err(_) => return None,
            }
            // Another has it in hand at this moment.
            tokio::time::sleep(AGAIN.mul_f64(0.5 + fastrand::f64())).await;
        }
        None
    }

    /// Looks at several queues; those that are paused, and why.
    ///
    /// # Errors
    /// [`PauseError`] when the broker cannot be asked.
    pub async fn look_at<'a>(
        &self,
        queues: impl IntoIterator<Item = &'a QueueName>,
    ) -> Result<BTreeMap<QueueName, Pause>, PauseError> {
        let mut paused = BTreeMap::new();
        for queue in queues {
            if let Some(pause) = self.look(queue, None).await? {
                paused.insert(queue.clone(), pause);
            }
        }
        Ok(paused)
    }

    /// Whether the broker takes no publishes at present, so that flags cannot be looked at.
    pub fn is_blocked(&self) -> bool {
        matches!(self.pool.link().state(), LinkState::Up(live) if live.blocked.borrow().is_some())
    }

    /// Looks at several queues by way of other channels, without a publish: for a broker that takes none. Why they are
    /// paused is not known then.
    ///
    /// # Errors
    /// [`PauseError`] when the broker cannot be asked.
    pub async fn look_on(pool: &ChannelPool, queues: &[QueueName]) -> Result<BTreeMap<QueueName, Pause>, PauseError> {
        let mut paused = BTreeMap::new();
        for queue in queues {
            let there = queue_is_there(pool, &queue.paused()).await;
            match there {
                Ok(true) => drop(paused.insert(queue.clone(), Pause { everywhere: true, ..Pause::default() })),
                Ok(false) => {}
                Err(error) => {
                    return Err(PauseError::Broker { queue: queue.clone(), reason: error.to_string() });
                }
            }
        }
        Ok(paused)
    }

    /// Asks something on a channel that nobody else has meanwhile.
    async fn ask<T>(
        &self,
        queue: &QueueName,
        question: impl AsyncFnOnce(Channel, ShortString) -> lapin::Result<T>,
    ) -> Result<T, PauseError> {
        let name = short("queue", &queue.paused())?;
        let pooled = self.pool.get().await?;
        let asking = async {
            pooled.confirm_select(ConfirmSelectOptions::default()).await?;
            question(pooled.clone(), name).await
        };
        match tokio::time::timeout(self.pool.link().settings().timeout, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if reply_code(&error) == Some(403) => {
                Err(PauseError::Forbidden { queue: queue.clone(), reason: reason(&error) })
            }
            Ok(Err(error)) => Err(PauseError::Broker { queue: queue.clone(), reason: reason(&error) }),
            Err(_) => {
                // Its answer may still come, and would be taken for that to the next question.
                let channel = deadpool::managed::Object::take(pooled);
                drop(crate::link::spawn(async move { channel.close(200, ShortString::default()).await }));
                Err(PauseError::NoAnswer { queue: queue.clone() })
            }
        }
    }
}

async fn publish(
    channel: &Channel,
    queue: ShortString,
    body: &[u8],
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish(ShortString::default(), queue, options, body, properties).await?.await
}

/// A queue could not be paused or resumed everywhere, or nobody could be asked whether it is.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PauseError {
    /// The user may not.
    #[error(
        "may not touch the flag {:?} ({reason}): give the user permission to configure and read it, and to write to \
         the default exchange",
        queue.paused()
    )]
    Forbidden {
        /// The queue.
        queue: QueueName,
        /// What the broker said.
        reason: String,
    },
    /// The reason was not stored.
    #[error("queue {:?} is paused everywhere, but why was not stored: pause it again", queue.as_str())]
    NotStored {
        /// The queue.
        queue: QueueName,
    },
    /// The broker refused or the channel failed.
    #[error("cannot ask the broker whether queue {:?} is paused everywhere: {reason}", queue.as_str())]
    Broker {
        /// The queue.
        queue: QueueName,
        /// What the broker said, or how the channel failed.
        reason: String,
    },
    /// The broker does not answer, as when it has blocked publishing.
    #[error("the broker does not say whether queue {:?} is paused everywhere: try again later", queue.as_str())]
    NoAnswer {
        /// The queue.
        queue: QueueName,
    },
    /// No channel could be had.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}
