//! A task message to be published.

mod stored;

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use bytes::Bytes;
use lapin::{BasicProperties, types::ShortString};
use serde::Serialize;

use crate::{
    clock::{Clock, UnixMillis},
    headers::{HeaderValue, Headers},
    retry::Backoff,
    route::Route,
    task::{Task, TaskId, Unique},
    topology::{InvalidName, Names, QueueName},
    trace_context::TraceContext,
    wire::{Encoding, JSON, Limits, Outgoing, TooLong, header, short},
};

pub use stored::{StoredMessage, StoredProperties};

/// A task to be published: made from a [`Task`], or from a name and a body.
#[derive(Clone, Debug)]
pub struct Message {
    id: TaskId,
    /// Whether the id was chosen, or came by itself.
    id_is_chosen: bool,
    task: String,
    queue: String,
    suffix: Option<String>,
    content_type: String,
    content_encoding: Option<Cow<'static, str>>,
    priority: Option<u8>,
    reply_to: Option<(String, Option<String>)>,
    not_before: When,
    expires_at: When,
    headers: Headers,
    /// What is wrong already; said when it is published.
    wrong: Option<InvalidMessage>,
    body: Bytes,
    /// Bytes of the body before it was compressed.
    inflated: usize,
}

/// A moment, or a length of time from the moment of publishing.
#[derive(Clone, Copy, Debug, Default)]
enum When {
    #[default]
    Unset,
    At(UnixMillis),
    After(Duration),
}

impl When {
    fn resolve(self, clock: &Clock) -> Option<UnixMillis> {
        match self {
            Self::Unset => None,
            Self::At(at) => Some(at),
            Self::After(delay) => Some(clock.now() + delay),
        }
    }
}

impl Message {
    /// A typed task, published to the queue and with the priority of its defaults, and with its own key and unique
    /// key.
    ///
    /// # Errors
    /// [`InvalidMessage::Body`] when the task cannot be written as JSON.
    pub fn of<T: Task>(task: &T) -> Result<Self, InvalidMessage> {
        let mut message = Self::json(T::NAME, task)?.queue(T::DEFAULTS.queue);
        message.priority = T::DEFAULTS.priority;
        if let Some(key) = task.key() {
            message = message.key(&key);
        }
        if let Some(unique) = task.unique() {
            message = message.same_as(unique);
        }
        Ok(message)
    }

    /// A task named `task` with these arguments, published to the queue `default`.
    ///
    /// # Errors
    /// [`InvalidMessage::Body`] when the arguments cannot be written as JSON.
    pub fn json(task: &str, arguments: &impl Serialize) -> Result<Self, InvalidMessage> {
        let body = serde_json::to_vec(arguments).map_err(|error| InvalidMessage::Body(error.to_string()))?;
        Ok(Self::raw(task, body, JSON))
    }

    /// A task named `task` with a body of any media type.
    pub fn raw(task: &str, body: impl Into<Bytes>, content_type: &str) -> Self {
        let body = body.into();
        Self {
            id: TaskId::new(),
            id_is_chosen: false,
            task: task.to_owned(),
            queue: "default".to_owned(),
            suffix: None,
            content_type: content_type.to_owned(),
            content_encoding: None,
            priority: None,
            reply_to: None,
            not_before: When::Unset,
            expires_at: When::Unset,
            headers: Headers::default(),
            wrong: None,
            inflated: body.len(),
            body,
        }
    }

    /// Sets the id. Default: a new UUID of version 7. The same id published twice is the same task.
    #[must_use]
    pub fn id(mut self, id: TaskId) -> Self {
        self.id = id;
        self.id_is_chosen = true;
        self
    }

    /// Sets the id, unless one was chosen.
    #[must_use]
    pub fn default_id(self, id: impl FnOnce() -> TaskId) -> Self {
        if self.id_is_chosen { self } else { self.id(id()) }
    }

    /// Sets the queue.
    #[must_use]
    pub fn queue(mut self, queue: &str) -> Self {
        queue.clone_into(&mut self.queue);
        self
    }

    /// Lengthens the routing key to `<queue>.<suffix>`, for other queues that are bound to it as well.
    #[must_use]
    pub fn routing_suffix(mut self, suffix: &str) -> Self {
        self.suffix = Some(suffix.to_owned());
        self
    }

    /// Not to run before this much time has gone by.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.not_before = When::After(delay);
        self
    }

    /// Not to run before this moment.
    #[must_use]
    pub fn not_before(mut self, at: UnixMillis) -> Self {
        self.not_before = When::At(at);
        self
    }

    /// To be dead-lettered as `expired` instead of run once this much time has gone by.
    #[must_use]
    pub fn expires_in(mut self, ttl: Duration) -> Self {
        self.expires_at = When::After(ttl);
        self
    }

    /// To be dead-lettered as `expired` instead of run from this moment on.
    #[must_use]
    pub fn expires_at(mut self, at: UnixMillis) -> Self {
        self.expires_at = When::At(at);
        self
    }

    /// How many attempts there may be, the first included, so at least 1; over the handler's own policy.
    #[must_use]
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.header(header::MAX_ATTEMPTS, i64::from(attempts.max(1)))
    }

    /// The delays between attempts; over the handler's own policy.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.header(header::BACKOFF, backoff.to_string())
    }

    /// How long after its first failure the task may still be tried; over the handler's own policy. At least a
    /// millisecond.
    #[must_use]
    pub fn give_up_after(self, limit: Duration) -> Self {
        self.header(header::GIVE_UP_AFTER_MS, milliseconds(limit))
    }

    /// How long one attempt may run; over the handler's own policy.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.header(header::TIMEOUT_MS, milliseconds(timeout))
    }

    /// Affinity: tasks with the same key belong together.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header(header::KEY, key)
    }

    /// Makes it the same as other tasks of its name with this key: of those that come within `window` (at least a
    /// millisecond) only the first is run, by workers that look for it. In place of a key that is empty or over 255
    /// bytes its digest is used.
    #[must_use]
    pub fn unique(self, key: &str, window: Duration) -> Self {
        self.same_as(Unique::new(key, window))
    }

    fn same_as(self, unique: Unique) -> Self {
        self.header(header::UNIQUE, unique.key).header(header::UNIQUE_MS, milliseconds(unique.window))
    }

    /// How the task is given to a worker, over the queue's own way. Heeded where the queue has a `route`.
    #[must_use]
    pub fn route(self, route: &Route) -> Self {
        self.header(header::ROUTE, route.to_string())
    }

    /// The AMQP priority.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Asks for the result at queue `reply_to`, marked with `correlation_id` (default: the task's id).
    #[must_use]
    pub fn reply_to(mut self, reply_to: &str, correlation_id: Option<&str>) -> Self {
        self.reply_to = Some((reply_to.to_owned(), correlation_id.map(str::to_owned)));
        self
    }

    /// Marks the task as made by a tick of a schedule.
    #[must_use]
    pub fn schedule(self, name: &str, tick: UnixMillis) -> Self {
        self.header(header::SCHEDULE, name).header(header::SCHEDULED_AT, tick.0)
    }

    /// Sets the names and values by which the task is found where its events are kept. Without any, the header is left
    /// out.
    #[must_use]
    pub fn labels(self, labels: &BTreeMap<String, String>) -> Self {
        match serde_json::to_string(labels) {
            Ok(text) if !labels.is_empty() => self.header(header::LABELS, text),
            _ => self,
        }
    }

    /// What becomes of it is reported as events, whatever its queue's setting.
    #[must_use]
    pub fn track(self) -> Self {
        self.header(header::TRACK, "always")
    }

    /// Compresses the body, unless that makes it no smaller or it is compressed already. It is done here and now: some
    /// milliseconds for each megabyte.
    #[must_use]
    pub fn compress(mut self, encoding: Encoding) -> Self {
        if self.content_encoding.is_some() {
            return self;
        }
        match encoding.compress(&self.body) {
            Ok(body) if body.len() < self.body.len() => {
                self.body = body.into();
                self.content_encoding = Some(Cow::Borrowed(encoding.as_str()));
            }
            Ok(_) => {}
            Err(error) => self.wrong = Some(InvalidMessage::Compression(error.to_string())),
        }
        self
    }

    /// Says that the body is compressed already: `gzip` or `zstd`.
    #[must_use]
    pub fn content_encoding(mut self, encoding: &'static str) -> Self {
        self.content_encoding = Some(Cow::Borrowed(encoding));
        self
    }

    /// Sets a header. A name over 255 bytes is reported when the message is published.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<HeaderValue>) -> Self {
        if let Err(error) = self.headers.insert(name, value) {
            self.wrong = Some(error.into());
        }
        self
    }

    /// Makes it part of the trace that the caller is in now, instead of that in which it is published.
    #[must_use]
    pub fn in_current_trace(mut self) -> Self {
        if let Some(trace) = TraceContext::current() {
            trace.write(&mut self.headers);
        }
        self
    }

    /// The task's id.
    pub fn task_id(&self) -> &TaskId {
        &self.id
    }

    /// The task's name.
    pub fn task_name(&self) -> &str {
        &self.task
    }

    /// The queue it is published to.
    pub fn queue_name(&self) -> &str {
        &self.queue
    }

    /// The headers so far; those of times and of the trace are added when it is published.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The body's size in bytes, compressed if it is.
    pub fn size(&self) -> usize {
        self.body.len()
    }

    /// The message as it goes onto the wire: AMQP properties, headers and body, with the trace context of the caller.
    ///
    /// # Errors
    /// [`InvalidMessage`] when a text does not fit or the queue's name breaks the rules.
    pub fn into_outgoing(mut self, names: &Names, clock: &Clock) -> Result<Outgoing, InvalidMessage> {
        if let Some(error) = self.wrong {
            return Err(error);
        }
        if self.task.is_empty() {
            return Err(TooLong { what: "task name", bytes: 0 }.into());
        }
        let queue = QueueName::new(&self.queue)?;
        if let Some(at) = self.not_before.resolve(clock) {
            self.headers.set(header::NOT_BEFORE, at.0);
        }
        if let Some(at) = self.expires_at.resolve(clock) {
            self.headers.set(header::EXPIRES_AT, at.0);
        }
        if let Some(trace) = TraceContext::current() {
            trace.write(&mut self.headers);
        }
        let mut properties = BasicProperties::default()
            .with_content_type(short("content type", &self.content_type)?)
            .with_delivery_mode(2)
            .with_type(short("task name", &self.task)?)
            .with_message_id(short("message id", self.id.as_str())?)
            .with_timestamp(u64::try_from(clock.now().0 / 1000).unwrap_or_default());
        if !self.headers.is_empty() {
            properties = properties.with_headers(self.headers.into());
        }
        if let Some(encoding) = self.content_encoding {
            properties = properties.with_content_encoding(short("content encoding", &encoding)?);
        }
        if let Some(priority) = self.priority {
            properties = properties.with_priority(priority);
        }
        if let Some((queue, correlation)) = self.reply_to {
            let correlation = correlation.as_deref().unwrap_or(self.id.as_str());
            properties = properties
                .with_reply_to(short("reply-to", &queue)?)
                .with_correlation_id(short("correlation id", correlation)?);
        }
        let routing_key = match self.suffix {
            Some(suffix) => short("routing key", &format!("{queue}.{suffix}"))?,
            None => short("routing key", queue.as_str())?,
        };
        Ok(Outgoing {
            exchange: ShortString::try_new(names.publish()).map_err(|_| TooLong { what: "exchange", bytes: 256 })?,
            routing_key,
            mandatory: true,
            properties,
            body: self.body,
        })
    }
}

/// As a header has it: at least one.
fn milliseconds(length: Duration) -> i64 {
    i64::try_from(length.as_millis().max(1)).unwrap_or(i64::MAX)
}

/// A message cannot be published as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// A text does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The queue's name breaks the rules.
    #[error(transparent)]
    Queue(#[from] InvalidName),
    /// The arguments cannot be written as JSON.
    #[error("the task's arguments cannot be written as JSON: {0}")]
    Body(String),
    /// The body cannot be compressed.
    #[error("the body cannot be compressed: {0}")]
    Compression(String),
    /// A header that was stored has a value that no header of a message can have.
    #[error("header {name:?} must be a text, a whole number or a boolean")]
    Header {
        /// Its name.
        name: String,
    },
    /// Properties and headers do not fit into one frame, with room for what the broker adds.
    #[error("properties and headers have {bytes} bytes, the limit is {limit}: put what is large into the body")]
    HeadersTooLarge {
        /// Their size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is larger than the broker takes.
    #[error("the body has {bytes} bytes, the limit is {limit}: store it elsewhere and publish where it is")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl InvalidMessage {
    /// Refuses a body beyond the limits on the wire and after decompression.
    ///
    /// # Errors
    /// [`InvalidMessage::TooLarge`].
    pub fn check_size(message: &Message, limits: &Limits) -> Result<(), Self> {
        for (bytes, limit) in [(message.size(), limits.wire), (message.inflated, limits.inflated)] {
            if bytes > limit {
                return Err(Self::TooLarge { bytes, limit });
            }
        }
        Ok(())
    }
}
