//! The client: publishes tasks, and hears of each whether the broker has it.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;

use crate::{
    clock::{Clock, UnixMillis},
    config::BrokerSettings,
    headers::HeaderValue,
    link::{ChannelPool, ConnectError, Link, PublishError, Publisher, Role},
    message::{InvalidMessage, Message},
    retry::Backoff,
    task::{Task, TaskId},
    topology::{Names, Topology, TopologyError, declare},
    wire::{Encoding, Outgoing},
};

/// Publishes tasks with confirms. Cheap to clone; all clones share one connection and one window.
#[derive(Clone, Debug)]
pub struct Client {
    link: Link,
    publisher: Publisher,
    names: Arc<Names>,
    settings: Arc<BrokerSettings>,
    clock: Clock,
}

impl Client {
    /// Connects, and declares the exchanges if they are not there. Work queues are declared by the workers that
    /// consume from them, or by `leveret topology apply`.
    ///
    /// # Errors
    /// [`ClientError`] when no broker answers within [`BrokerSettings::timeout`], which each URL has for itself, or
    /// it refuses.
    pub async fn connect(settings: BrokerSettings) -> Result<Self, ClientError> {
        let client = Self::open(settings, Clock::system())?;
        let nodes = u32::try_from(client.settings.url.len()).unwrap_or(u32::MAX);
        client.link.live_within(client.settings.timeout.saturating_mul(nodes)).await?;
        client.apply(&Topology::new(&client.settings.namespace).map_err(TopologyError::from)?).await?;
        Ok(client)
    }

    /// A client that connects by itself in the background: publishes wait for it. It declares nothing.
    ///
    /// # Errors
    /// [`ClientError::Settings`].
    pub fn open(settings: BrokerSettings, clock: Clock) -> Result<Self, ClientError> {
        settings.check()?;
        let names = Names::new(&settings.namespace).map_err(TopologyError::from)?;
        let settings = Arc::new(settings);
        let link = Link::open(settings.clone(), Role::Publish);
        let publisher = Publisher::new(link.clone());
        Ok(Self { link, publisher, names: Arc::new(names), settings, clock })
    }

    /// Declares the exchanges and queues of `topology` that are not there yet.
    ///
    /// # Errors
    /// [`TopologyError`] when one is there with other arguments, or the broker cannot be asked.
    pub async fn apply(&self, topology: &Topology) -> Result<(), TopologyError> {
        declare(&ChannelPool::new(self.link.clone()), topology).await
    }

    /// Publishes a typed task to the queue of its defaults. Await it as it is, or set options first:
    /// `client.publish(&task).delay(d).key("eu").await`.
    pub fn publish<T: Task>(&self, task: &T) -> Publish<'_> {
        Publish { client: self, message: Message::of(task) }
    }

    /// Publishes a message and waits for the broker's confirm.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_message(&self, message: Message) -> Result<TaskId, PublishError> {
        let id = message.task_id().clone();
        self.publisher.publish(self.outgoing(message)?).await?;
        Ok(id)
    }

    /// Publishes many messages, all on their way at once; the results come in the order of the messages.
    pub async fn publish_many(&self, messages: impl IntoIterator<Item = Message>) -> Vec<Result<TaskId, PublishError>> {
        let mut confirms = Vec::new();
        // Once there was no room for a whole timeout, the rest need not find that out one after another.
        let mut stalled = None;
        for message in messages {
            let id = message.task_id().clone();
            let submitted = match (self.outgoing(message), &stalled) {
                (Err(error), _) => Err(error.into()),
                (Ok(_), Some(error)) => Err(PublishError::clone(error)),
                (Ok(outgoing), None) => self.publisher.submit(outgoing).await,
            };
            if let Err(error @ PublishError::Unconfirmed { .. }) = &submitted {
                stalled = Some(error.clone());
            }
            confirms.push(async move {
                submitted?.await?;
                Ok(id)
            });
        }
        join_all(confirms).await
    }

    /// The message as it goes onto the wire, compressed if the settings ask for it and within the limits.
    fn outgoing(&self, mut message: Message) -> Result<Outgoing, InvalidMessage> {
        if self.settings.compress_over.is_some_and(|size| message.size() > size) {
            message = message.compress(Encoding::Zstd);
        }
        InvalidMessage::check_size(&message, &self.settings.limits())?;
        message.into_outgoing(&self.names, &self.clock)
    }

    /// The publisher, for messages that Leveret itself makes.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The connection.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Waits for the confirms of what was published, at most the publish timeout, and closes the connection.
    pub async fn close(&self) {
        self.publisher.close().await;
        self.link.close().await;
    }
}

/// The client could not be made or connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A setting cannot work.
    #[error(transparent)]
    Settings(#[from] crate::config::InvalidSetting),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The exchanges could not be declared.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// A publish that has not begun: it begins when it is awaited.
#[derive(Debug)]
#[must_use = "nothing is published until this is awaited"]
pub struct Publish<'a> {
    client: &'a Client,
    message: Result<Message, InvalidMessage>,
}

impl Publish<'_> {
    /// Changes the message by any of its own setters.
    pub fn with(mut self, change: impl FnOnce(Message) -> Message) -> Self {
        self.message = self.message.map(change);
        self
    }

    /// See [`Message::id`].
    pub fn id(self, id: TaskId) -> Self {
        self.with(|message| message.id(id))
    }

    /// See [`Message::queue`].
    pub fn queue(self, queue: &str) -> Self {
        self.with(|message| message.queue(queue))
    }

    /// See [`Message::delay`].
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|message| message.delay(delay))
    }

    /// See [`Message::not_before`].
    pub fn not_before(self, at: UnixMillis) -> Self {
        self.with(|message| message.not_before(at))
    }

    /// See [`Message::expires_in`].
    pub fn expires_in(self, ttl: Duration) -> Self {
        self.with(|message| message.expires_in(ttl))
    }

    /// See [`Message::max_attempts`].
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.with(|message| message.max_attempts(attempts))
    }

    /// See [`Message::backoff`].
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(|message| message.backoff(backoff))
    }

    /// See [`Message::give_up_after`].
    pub fn give_up_after(self, limit: Duration) -> Self {
        self.with(|message| message.give_up_after(limit))
    }

    /// See [`Message::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|message| message.timeout(timeout))
    }

    /// See [`Message::key`].
    pub fn key(self, key: &str) -> Self {
        self.with(|message| message.key(key))
    }

    /// See [`Message::unique`].
    pub fn unique(self, key: &str, window: Duration) -> Self {
        self.with(|message| message.unique(key, window))
    }

    /// See [`Message::priority`].
    pub fn priority(self, priority: u8) -> Self {
        self.with(|message| message.priority(priority))
    }

    /// See [`Message::compress`].
    pub fn compress(self, encoding: Encoding) -> Self {
        self.with(|message| message.compress(encoding))
    }

    /// See [`Message::header`].
    pub fn header(self, name: &str, value: impl Into<HeaderValue>) -> Self {
        self.with(|message| message.header(name, value))
    }
}

impl<'a> IntoFuture for Publish<'a> {
    type Output = Result<TaskId, PublishError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.client.publish_message(self.message?).await })
    }
}
