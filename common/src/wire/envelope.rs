//! A message as it arrives: what Leveret reads from it, and the whole of it for a later move.

use std::time::Duration;

use bytes::Bytes;
use lapin::{BasicProperties, types::ShortString};

use super::{BodyError, JSON, Limits, body, header};
use crate::{
    clock::UnixMillis,
    headers::Headers,
    retry::{Backoff, Failed, InvalidBackoff, RetryPolicy},
    route::{InvalidRoute, Route},
    task::{TaskId, Unique},
};

/// A task message as it came from a queue.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// What was read from it.
    pub facts: Facts,
    /// The properties as they came, less the headers.
    pub(super) properties: BasicProperties,
    /// The headers as they came.
    pub headers: Headers,
    /// The body as it came, maybe compressed.
    pub(super) wire_body: Bytes,
    /// The body as a handler gets it.
    pub body: Bytes,
    /// Bytes that properties and headers may have when it is moved.
    pub(super) header_limit: usize,
}

/// What Leveret reads from a message. A property or header that is not there has the default of the contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The task's id; given at first sight when the message has none.
    pub id: TaskId,
    /// Whether the message brought its id. Without one, deduplication is not possible.
    pub id_was_given: bool,
    /// The task's name.
    pub task: String,
    /// The body's media type. Default `application/json`.
    pub content_type: String,
    /// Where a result goes.
    pub reply_to: Option<String>,
    /// What a result is marked with; the task's id when absent.
    pub correlation_id: Option<String>,
    /// When the message was published, in whole seconds since 1970, if the publisher said.
    pub timestamp: Option<u64>,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// How many attempts there may be, if the message says.
    pub max_attempts: Option<u32>,
    /// Delays between attempts, if the message says.
    pub backoff: Option<Backoff>,
    /// How long after its first failure it may still be tried, if the message says.
    pub give_up_after: Option<Duration>,
    /// How long one attempt may run, if the message says.
    pub timeout: Option<Duration>,
    /// Not to run before.
    pub not_before: Option<UnixMillis>,
    /// Not to run at or after.
    pub expires_at: Option<UnixMillis>,
    /// Since when it has waited for room under a limit, if it was sent away for that.
    pub limited_since: Option<UnixMillis>,
    /// Affinity key.
    pub key: Option<String>,
    /// What makes it the same as other tasks of its name, and for how long.
    pub unique: Option<Unique>,
    /// How it is given to a worker, if the message says.
    pub route: Option<Route>,
    /// How often it was given to a worker's own queue since its last attempt.
    pub forwards: u32,
    /// Number and total, when it is one share of a broadcast.
    pub share: Option<(u32, u32)>,
    /// The schedule that made the task and the time of its tick.
    pub schedule: Option<(String, UnixMillis)>,
    /// When the task first failed.
    pub first_failed_at: Option<UnixMillis>,
    /// How many workers were lost while they held it as a long task, since its last attempt that ended.
    pub lost_leases: u32,
    /// Whether the broker has handed this message to a worker before.
    pub redelivered: bool,
    /// Whether it was brought back from a dead-letter queue, so that its attempts count anew.
    pub replayed: bool,
    /// How often it was brought back from there, this time included.
    pub replays: u32,
}

impl Facts {
    /// The policy of a handler, with what the message says itself.
    pub fn retry_policy(&self, handler: &RetryPolicy) -> RetryPolicy {
        let mut policy = handler.clone();
        policy.max_attempts = self.max_attempts.unwrap_or(policy.max_attempts);
        policy.backoff = self.backoff.unwrap_or(policy.backoff);
        policy.give_up_after = self.give_up_after.or(policy.give_up_after);
        policy
    }

    /// The failure of this attempt, for [`RetryPolicy::next`]. `asked` is the delay that the error itself asks for.
    pub fn failed<'a>(&self, kind: &'a str, error: &'a str, asked: Option<Duration>, at: UnixMillis) -> Failed<'a> {
        Failed { attempt: self.attempt, kind, error, asked, first_failed_at: self.first_failed_at, at }
    }
}

/// A message that cannot be read as a task; it is to be parked with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unreadable {
    /// What is wrong with it.
    pub error: String,
    /// The value for the header `leveret-error-kind`.
    pub kind: &'static str,
    /// The message, untouched.
    pub envelope: Box<Envelope>,
}

impl Envelope {
    /// Reads a delivery from queue `queue`.
    ///
    /// # Errors
    /// [`Unreadable`] with the whole message when it names no task, a header has the wrong type, or its body
    /// cannot be had.
    pub fn decode(
        queue: &str,
        redelivered: bool,
        mut properties: BasicProperties,
        body: Vec<u8>,
        limits: &Limits,
    ) -> Result<Self, Unreadable> {
        let headers = properties.headers().clone().map(Headers::from).unwrap_or_default();
        properties = without_headers(properties);
        let wire_body = Bytes::from(body);
        let read = read_facts(queue, redelivered, &properties, &headers);
        let inflated = body::decode(&wire_body, text(properties.content_encoding().as_ref()), limits);
        let (facts, body, wrong) = match (read, inflated) {
            (Ok(facts), Ok(body)) => (facts, body, None),
            (Ok(facts), Err(error)) => (facts, Bytes::new(), Some((error.to_string(), BodyError::kind(&error)))),
            (Err((facts, error)), _) => (*facts, Bytes::new(), Some((error.to_string(), error.kind()))),
        };
        let envelope = Self { facts, properties, headers, wire_body, body, header_limit: limits.headers };
        match wrong {
            None => Ok(envelope),
            Some((error, kind)) => Err(Unreadable { error, kind, envelope: Box::new(envelope) }),
        }
    }

    /// The body's size on the wire, in bytes.
    pub fn wire_size(&self) -> usize {
        self.wire_body.len()
    }
}

/// Why the properties or headers do not make a task.
#[derive(Debug, thiserror::Error)]
enum FactsError {
    #[error("the message names no task: set the property `type` (or the header `{}`) to the task's name", header::TASK)]
    NoTask,
    #[error("header {name} must be {wanted}, this message has {found}")]
    Header { name: &'static str, wanted: &'static str, found: String },
    #[error(transparent)]
    Backoff(#[from] InvalidBackoff),
    #[error(transparent)]
    Route(#[from] InvalidRoute),
}

impl FactsError {
    fn kind(&self) -> &'static str {
        match self {
            Self::NoTask => "no-task",
            Self::Header { .. } | Self::Backoff(_) | Self::Route(_) => "header",
        }
    }
}

/// Reads what it can; with an error come the facts that were readable, for the parked message.
fn read_facts(
    queue: &str,
    redelivered: bool,
    properties: &BasicProperties,
    headers: &Headers,
) -> Result<Facts, (Box<Facts>, FactsError)> {
    let given = properties.message_id().as_ref().and_then(|id| TaskId::try_from(String::from(id.clone())).ok());
    let mut facts = Facts {
        id_was_given: given.is_some(),
        id: given.unwrap_or_else(TaskId::new),
        task: owned(properties.kind().as_ref()).unwrap_or_default(),
        content_type: owned(properties.content_type().as_ref()).unwrap_or_else(|| JSON.to_owned()),
        reply_to: owned(properties.reply_to().as_ref()),
        correlation_id: owned(properties.correlation_id().as_ref()),
        timestamp: *properties.timestamp(),
        attempt: 1,
        max_attempts: None,
        backoff: None,
        give_up_after: None,
        timeout: None,
        not_before: None,
        expires_at: None,
        limited_since: None,
        key: None,
        unique: None,
        route: None,
        forwards: 0,
        share: None,
        schedule: None,
        first_failed_at: None,
        lost_leases: 0,
        redelivered,
        replayed: false,
        replays: 0,
    };
    match read_headers(queue, headers, &mut facts) {
        Ok(()) if facts.task.is_empty() => Err((Box::new(facts), FactsError::NoTask)),
        Ok(()) => Ok(facts),
        Err(error) => Err((Box::new(facts), error)),
    }
}

fn read_headers(queue: &str, headers: &Headers, facts: &mut Facts) -> Result<(), FactsError> {
    if headers.is_empty() {
        return Ok(());
    }
    if facts.task.is_empty()
        && let Some(task) = text_header(headers, header::TASK)?
    {
        if task.len() > 255 {
            return Err(wrong(headers, header::TASK, "a text of at most 255 bytes"));
        }
        facts.task = task;
    }
    facts.replayed = headers.contains(header::DEAD_REASON)
        || headers
            .last_death()
            .is_some_and(|(from, why)| why == "rejected" && from.strip_suffix(".dead") == Some(queue));
    let before = number_header(headers, header::REPLAYS)?.unwrap_or(0);
    // Who died by the broker's hand each time, and was moved by no worker in between, is known by the broker's count.
    facts.replays = before.saturating_add(headers.replays(queue).max(u32::from(facts.replayed)));
    // A long task whose worker is gone comes back from its lease.
    if headers.contains(header::LEASE) {
        facts.redelivered = true;
        let before = headers.get_i64(header::LOST_LEASES).and_then(|count| u32::try_from(count).ok());
        facts.lost_leases = before.unwrap_or(0).saturating_add(1);
    }
    // Every header is looked at even when replayed, so that a wrong one is named.
    let attempt = count_header(headers, header::ATTEMPT)?.unwrap_or(1);
    facts.attempt = if facts.replayed { 1 } else { attempt };
    facts.max_attempts = count_header(headers, header::MAX_ATTEMPTS)?;
    facts.timeout = length_header(headers, header::TIMEOUT_MS)?;
    facts.give_up_after = length_header(headers, header::GIVE_UP_AFTER_MS)?;
    facts.backoff = text_header(headers, header::BACKOFF)?.map(|text| text.parse()).transpose()?;
    facts.not_before = time_header(headers, header::NOT_BEFORE)?;
    facts.expires_at = time_header(headers, header::EXPIRES_AT)?;
    facts.limited_since = time_header(headers, header::LIMITED_SINCE)?.filter(|_| !facts.replayed);
    facts.first_failed_at = time_header(headers, header::FIRST_FAILED_AT)?.filter(|_| !facts.replayed);
    facts.key = text_header(headers, header::KEY)?;
    let window = length_header(headers, header::UNIQUE_MS)?.unwrap_or(Unique::DEFAULT_WINDOW);
    facts.unique = match text_header(headers, header::UNIQUE)? {
        Some(key) if (1..=255).contains(&key.len()) => Some(Unique { key, window }),
        Some(_) => return Err(wrong(headers, header::UNIQUE, "a text of 1 to 255 bytes")),
        None => None,
    };
    facts.route = text_header(headers, header::ROUTE)?.map(|text| text.parse()).transpose()?;
    facts.forwards = number_header(headers, header::FORWARDS)?.unwrap_or(0);
    facts.share = number_header(headers, header::SHARD_INDEX)?.zip(number_header(headers, header::SHARD_TOTAL)?);
    facts.schedule = text_header(headers, header::SCHEDULE)?.zip(time_header(headers, header::SCHEDULED_AT)?);
    Ok(())
}

fn text_header(headers: &Headers, name: &'static str) -> Result<Option<String>, FactsError> {
    match headers.get_str(name) {
        Some(text) => Ok(Some(text.to_owned())),
        None if headers.contains(name) => Err(wrong(headers, name, "a text")),
        None => Ok(None),
    }
}

fn integer_header(
    headers: &Headers,
    name: &'static str,
    wanted: &'static str,
    allowed: impl Fn(i64) -> bool,
) -> Result<Option<i64>, FactsError> {
    match headers.get_i64(name) {
        Some(number) if allowed(number) => Ok(Some(number)),
        None if !headers.contains(name) => Ok(None),
        _ => Err(wrong(headers, name, wanted)),
    }
}

fn count_header(headers: &Headers, name: &'static str) -> Result<Option<u32>, FactsError> {
    let allowed = |number| (1..=i64::from(u32::MAX)).contains(&number);
    Ok(integer_header(headers, name, "a whole number from 1", allowed)?.and_then(|number| u32::try_from(number).ok()))
}

fn length_header(headers: &Headers, name: &'static str) -> Result<Option<Duration>, FactsError> {
    let milliseconds = integer_header(headers, name, "a number of milliseconds above 0", |ms| ms > 0)?;
    Ok(milliseconds.map(|ms| Duration::from_millis(ms.unsigned_abs())))
}

fn number_header(headers: &Headers, name: &'static str) -> Result<Option<u32>, FactsError> {
    let allowed = |number| u32::try_from(number).is_ok();
    Ok(integer_header(headers, name, "a whole number from 0", allowed)?.and_then(|number| u32::try_from(number).ok()))
}

fn time_header(headers: &Headers, name: &'static str) -> Result<Option<UnixMillis>, FactsError> {
    Ok(integer_header(headers, name, "a time in Unix milliseconds", |_| true)?.map(UnixMillis))
}

fn wrong(headers: &Headers, name: &'static str, wanted: &'static str) -> FactsError {
    let mut found = headers.to_json().remove(name).unwrap_or_default().to_string();
    if let Some((cut, _)) = found.char_indices().nth(100) {
        found.truncate(cut);
        found.push('…');
    }
    FactsError::Header { name, wanted, found }
}

fn owned(text: Option<&ShortString>) -> Option<String> {
    text.map(|text| text.as_str().to_owned()).filter(|text| !text.is_empty())
}

fn text(text: Option<&ShortString>) -> Option<&str> {
    text.map(ShortString::as_str)
}

/// lapin has no way to take the headers out of the properties, so the rest is carried over.
fn without_headers(properties: BasicProperties) -> BasicProperties {
    match properties.headers() {
        Some(_) => properties.with_headers(lapin::types::FieldTable::default()),
        None => properties,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::{AMQPValue, FieldTable};

    use super::*;

    fn decode(headers: &[(&str, AMQPValue)], kind: Option<&str>) -> Result<Envelope, Unreadable> {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(ShortString::try_new(*name).unwrap(), value.clone());
        }
        let mut properties = BasicProperties::default().with_headers(table);
        if let Some(kind) = kind {
            properties = properties.with_type(ShortString::try_new(kind).unwrap());
        }
        Envelope::decode("mail", false, properties, b"{}".to_vec(), &Limits::default())
    }

    #[test]
    fn the_smallest_task_is_a_type_and_a_body() {
        let facts = decode(&[], Some("mail.send")).unwrap().facts;
        assert_eq!((facts.task.as_str(), facts.attempt, facts.id_was_given), ("mail.send", 1, false));
        assert_eq!(facts.content_type, JSON);
    }

    #[test]
    fn a_header_names_the_task_where_the_client_cannot_set_the_type() {
        let name = AMQPValue::LongString("mail.send".into());
        assert_eq!(decode(&[(header::TASK, name)], None).unwrap().facts.task, "mail.send");
        assert_eq!(decode(&[], None).unwrap_err().kind, "no-task");
    }

    #[test]
    fn a_header_of_the_wrong_type_is_named_with_what_it_should_be() {
        let error = decode(&[(header::ATTEMPT, AMQPValue::LongString("many".into()))], Some("t")).unwrap_err();
        assert_eq!(error.error, "header leveret-attempt must be a whole number from 1, this message has \"many\"");
        assert_eq!(error.envelope.facts.task, "t");
    }

    #[test]
    fn attempts_count_anew_after_a_replay() {
        let mut death = FieldTable::default();
        death.insert("queue".into(), AMQPValue::LongString("mail.dead".into()));
        death.insert("reason".into(), AMQPValue::LongString("rejected".into()));
        let deaths = AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into());
        let facts = decode(&[("x-death", deaths), (header::ATTEMPT, AMQPValue::LongInt(8))], Some("t")).unwrap().facts;
        assert_eq!((facts.attempt, facts.replayed, facts.replays), (1, true, 1));
    }
}
