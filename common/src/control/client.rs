//! Sending commands and hearing the answers.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::{FieldTable, ShortString},
};
use tokio::time::Instant;
use tracing::debug;

use super::{Command, Pause, PauseError, PauseFlags, Reply, Target};
use crate::{
    clock::{Clock, UnixMillis},
    config::{BrokerSettings, InvalidSetting},
    link::{ChannelPool, ConnectError, Link, Role, reason, reply_code},
    registry::Instance,
    task::TaskId,
    topology::{InvalidName, Names, QueueName},
    wire::{JSON, TooLong, short},
};

/// RabbitMQ's own way back to whoever asked: no queue has to be declared for it, and no permission is needed.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Steers workers. Cheap to clone.
///
/// ```no_run
/// # async fn stop() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use leveret_common::{config::BrokerSettings, control::{Command, Control, Target}};
///
/// let control = Control::connect(BrokerSettings::default()).await?;
/// let target = Target::Worker("mail-1".to_owned());
/// for reply in control.send(&target, &Command::Stop {}, Duration::from_secs(1)).await? {
///     println!("{} {}: {:?}", reply.worker, reply.instance, reply.outcome);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Control {
    link: Link,
    names: Arc<Names>,
    flags: PauseFlags,
}

impl Control {
    /// Connects. It declares nothing.
    ///
    /// # Errors
    /// [`ControlError`] when no broker answers within [`BrokerSettings::timeout`], or it refuses.
    pub async fn connect(settings: BrokerSettings) -> Result<Self, ControlError> {
        settings.check()?;
        let patience = settings.timeout;
        let control = Self::on(Link::open(Arc::new(settings), Role::Admin))?;
        control.link.live_within(patience).await?;
        Ok(control)
    }

    /// On a connection that is there. It should not be one that consumes tasks.
    ///
    /// # Errors
    /// [`InvalidName`] when the namespace of its settings breaks the rules of names.
    pub fn on(link: Link) -> Result<Self, InvalidName> {
        let names = Arc::new(Names::new(&link.settings().namespace)?);
        let flags = PauseFlags::new(ChannelPool::new(link.clone()));
        Ok(Self { link, names, flags })
    }

    /// The connection.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The flags of the queues that are paused everywhere.
    pub fn flags(&self) -> &PauseFlags {
        &self.flags
    }

    /// Sends a command and collects the answers of `patience`. A command that no worker has begun by then is not carried
    /// out any more.
    ///
    /// # Errors
    /// [`ControlError`]; [`ControlError::Nobody`] at once when no worker is there that it could reach.
    pub async fn send(
        &self,
        target: &Target,
        command: &Command,
        patience: Duration,
    ) -> Result<Vec<Reply>, ControlError> {
        let mut replies = self.begin(target, command, patience).await?;
        let mut all = Vec::new();
        while let Some(reply) = replies.next().await {
            all.push(reply);
        }
        Ok(all)
    }

    /// Sends a command, and gives the answers as they come.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn begin(&self, target: &Target, command: &Command, patience: Duration) -> Result<Replies, ControlError> {
        let settings = self.link.settings();
        let deadline = Instant::now() + patience;
        let (_, channel) = self.link.channel().await?;
        let correlation = TaskId::new().to_string();
        let exchange = self.names.control();
        let properties = BasicProperties::default()
            .with_content_type(short("content type", JSON)?)
            .with_correlation_id(short("correlation id", &correlation)?)
            .with_reply_to(short("reply-to", REPLY_TO)?)
            .with_app_id(short("broker.name", &settings.name)?);
        let key = short("routing key", &target.routing_key())?;
        let to = short("exchange", exchange)?;
        let body = serde_json::to_vec(command).unwrap_or_default();
        let asking = async {
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let queue = ShortString::try_new(REPLY_TO).unwrap_or_default();
            let answers = channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()).await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            // What has passed by now is over for the command as well.
            let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1).to_string();
            let properties = properties.with_expiration(ShortString::try_new(left).unwrap_or_default());
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let confirmed = channel.basic_publish(to, key, options, &body, properties).await?.await?;
            Ok::<_, lapin::Error>((channel, answers, confirmed))
        };
        let (channel, answers, confirmed) = match tokio::time::timeout(settings.timeout, asking).await {
            Ok(Ok(asked)) => asked,
            Ok(Err(error)) => return Err(ControlError::of(&error, exchange)),
            Err(_) => return Err(ControlError::Broker("it does not answer".to_owned())),
        };
        let replies = Replies {
            channel,
            answers,
            correlation,
            deadline,
            awaited: match target {
                Target::Instance(instance) => Some(BTreeSet::from([*instance])),
                _ => None,
            },
        };
        match confirmed {
            Confirmation::Ack(None) => Ok(replies),
            Confirmation::Ack(Some(_)) => Err(ControlError::Nobody { target: target.clone() }),
            _ => Err(ControlError::Broker("it did not take the command".to_owned())),
        }
    }

    /// Pauses a queue at every worker until it is resumed: at those that run, and at those that start later. The answers
    /// are those of `patience`; that none came changes nothing about the pause.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn pause_everywhere(
        &self,
        queue: &QueueName,
        reason: Option<String>,
        patience: Duration,
    ) -> Result<Vec<Reply>, ControlError> {
        self.pause_everywhere_for(queue, reason, self.name(), patience).await
    }

    /// The same, for somebody else: `by` is who wants it.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn pause_everywhere_for(
        &self,
        queue: &QueueName,
        reason: Option<String>,
        by: String,
        patience: Duration,
    ) -> Result<Vec<Reply>, ControlError> {
        let pause = Pause::everywhere(reason, Some(by), Clock::system().now());
        self.flags.raise(queue, &pause).await?;
        self.tell_to_look(queue, Some(pause), patience).await
    }

    /// Ends the pause of a queue at every worker. Whether there was one, and the answers of `patience`.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn resume_everywhere(
        &self,
        queue: &QueueName,
        patience: Duration,
    ) -> Result<(bool, Vec<Reply>), ControlError> {
        let was_paused = self.flags.lower(queue).await?;
        Ok((was_paused, self.tell_to_look(queue, None, patience).await?))
    }

    /// Who sends commands here, for the reason of a pause: the user and the name of the settings.
    pub fn name(&self) -> String {
        let settings = self.link.settings();
        let user = settings.url.first().map_or("", |url| url.user());
        format!("{user} at {}", settings.name)
    }

    async fn tell_to_look(
        &self,
        queue: &QueueName,
        pause: Option<Pause>,
        patience: Duration,
    ) -> Result<Vec<Reply>, ControlError> {
        let look = Command::Look { queue: queue.clone(), pause };
        match self.send(&Target::Queue(queue.clone()), &look, patience).await {
            // Workers that start later will look by themselves.
            Err(ControlError::Nobody { .. } | ControlError::NoExchange { .. }) => Ok(Vec::new()),
            replies => replies,
        }
    }
}

/// The answers to one command, as they come.
#[derive(Debug)]
pub struct Replies {
    channel: Channel,
    answers: lapin::Consumer,
    correlation: String,
    deadline: Instant,
    awaited: Option<BTreeSet<Instance>>,
}

impl Replies {
    /// Waits no longer than until all of these have answered.
    #[must_use]
    pub fn until(mut self, workers: impl IntoIterator<Item = Instance>) -> Self {
        self.awaited = Some(workers.into_iter().collect());
        self
    }

    /// The next answer; `None` when the time is over, or all that are awaited have answered.
    pub async fn next(&mut self) -> Option<Reply> {
        loop {
            if self.awaited.as_ref().is_some_and(BTreeSet::is_empty) {
                return None;
            }
            let delivery = tokio::time::timeout_at(self.deadline, self.answers.next()).await.ok()??.ok()?;
            let correlation = delivery.properties.correlation_id().as_ref();
            if correlation.is_none_or(|correlation| correlation.as_str() != self.correlation) {
                continue;
            }
            match serde_json::from_slice::<Reply>(&delivery.data) {
                Ok(reply) => {
                    if let Some(awaited) = &mut self.awaited {
                        awaited.remove(&reply.instance);
                    }
                    return Some(reply);
                }
                Err(error) => debug!("an answer cannot be read: {error}"),
            }
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        let channel = self.channel.clone();
        drop(crate::link::spawn(async move { channel.close(200, ShortString::default()).await }));
    }
}

/// A command could not be sent.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A setting cannot work.
    #[error(transparent)]
    Settings(#[from] InvalidSetting),
    /// A name breaks the rules.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No worker is there that the command could reach.
    #[error("{target} is there: `leveret workers` lists those that are")]
    Nobody {
        /// Which were meant.
        target: Target,
    },
    /// No worker has ever been here.
    #[error("there is no exchange {exchange:?}: start a worker, or run `leveret topology apply`")]
    NoExchange {
        /// The exchange.
        exchange: String,
    },
    /// The user may not steer workers.
    #[error("may not steer workers ({reason}): give the user permission to write to the exchange {exchange:?}")]
    Forbidden {
        /// The exchange.
        exchange: String,
        /// What the broker said.
        reason: String,
    },
    /// The pause could not be written down or ended.
    #[error(transparent)]
    Pause(#[from] PauseError),
    /// The broker refused or the channel failed.
    #[error("the broker did not pass the command on: {0}")]
    Broker(String),
}

impl ControlError {
    fn of(error: &lapin::Error, exchange: &str) -> Self {
        let exchange = exchange.to_owned();
        match reply_code(error) {
            Some(404) => Self::NoExchange { exchange },
            Some(403) => Self::Forbidden { exchange, reason: reason(error) },
            _ => Self::Broker(reason(error)),
        }
    }
}

/// Whether a message's own time is over: the header `leveret-expires-at`.
pub fn is_expired(properties: &BasicProperties, now: UnixMillis) -> bool {
    let Some(headers) = properties.headers() else {
        return false;
    };
    let headers = crate::headers::Headers::from(headers.clone());
    headers.get_i64(crate::wire::header::EXPIRES_AT).is_some_and(|at| at <= now.0)
}
