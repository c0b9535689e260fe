//! What Leveret itself publishes about a task: to a retry tier, to the dead, to whoever waits for the result.

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{FieldTable, ShortString},
};
use serde::{Deserialize, Serialize};

use super::{Envelope, Facts, JSON, TooLong, header, header_frame, short, size};
use crate::{clock::UnixMillis, headers::Headers, message::InvalidMessage};

/// Bytes of an error text that a header carries.
const ERROR_LIMIT: usize = 8 * 1024;

/// A message ready for the publisher.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where it is published; empty for the default exchange, which routes by queue name.
    pub(crate) exchange: ShortString,
    /// The routing key.
    pub(crate) routing_key: ShortString,
    /// Whether the broker must say so when no queue takes it.
    pub(crate) mandatory: bool,
    /// Properties and headers.
    pub(crate) properties: BasicProperties,
    /// The body.
    pub(crate) body: Bytes,
}

impl Outgoing {
    /// The exchange; empty for the default exchange, which routes by queue name.
    pub fn exchange(&self) -> &str {
        self.exchange.as_str()
    }

    /// The routing key.
    pub fn routing_key(&self) -> &str {
        self.routing_key.as_str()
    }

    /// Properties and headers.
    pub fn properties(&self) -> &BasicProperties {
        &self.properties
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Refuses properties and headers that do not fit into a frame of `limit` bytes, upon which the broker would
    /// close the connection.
    pub(crate) fn check_headers(&self, limit: usize) -> Result<(), InvalidMessage> {
        let bytes = header_frame(&self.properties);
        if bytes > limit {
            return Err(InvalidMessage::HeadersTooLarge { bytes, limit });
        }
        Ok(())
    }
}

/// Why a task is in a dead-letter queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DeadReason {
    /// The last attempt failed.
    Exhausted,
    /// The last attempt ran out of time.
    Timeout,
    /// The handler said that trying again is of no use.
    Rejected,
    /// The message is no task: no name, a header or body that cannot be read, arguments of the wrong shape.
    Undecodable,
    /// No handler here has this name.
    UnknownTask,
    /// It was not run before its time was over.
    Expired,
    /// The broker gave it out too often without hearing back.
    DeliveryLimit,
}

impl DeadReason {
    /// The value of the header `leveret-dead-reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Timeout => "timeout",
            Self::Rejected => "rejected",
            Self::Undecodable => "undecodable",
            Self::UnknownTask => "unknown-task",
            Self::Expired => "expired",
            Self::DeliveryLimit => "delivery-limit",
        }
    }
}

/// What went wrong with an attempt, for the headers of the next move.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What happened, for people.
    pub error: String,
    /// What kind of failure: `error`, `panic`, `timeout` and so on.
    pub kind: String,
    /// When.
    pub at: UnixMillis,
    /// The worker that saw it.
    pub worker: String,
}

/// The move of a task to the tier queue `tier`, from which it comes back to `queue`.
///
/// # Errors
/// [`TooLong`] when the tier's name does not fit.
pub fn retry(
    envelope: &Envelope,
    queue: &str,
    tier: &str,
    attempt: u32,
    not_before: UnixMillis,
    failure: Option<&Failure>,
) -> Result<Outgoing, TooLong> {
    let mut headers = travelling_headers(envelope, queue);
    headers.set(header::ATTEMPT, i64::from(attempt));
    headers.set(header::NOT_BEFORE, not_before.0);
    // The next attempt may go to any worker again.
    headers.remove(header::FORWARDS);
    if let Some(failure) = failure {
        // It has had its turn.
        headers.retain(|name| name != header::LIMITED_SINCE);
        mark_failed(&mut headers, &envelope.facts, failure);
    }
    to_tier(envelope, tier, headers, failure)
}

/// The move of a task for which a limit has no room to the tier queue `tier`, from which it comes back to `queue`. It
/// has waited since `since`, and keeps that through all its tiers.
///
/// # Errors
/// [`TooLong`] when the tier's name does not fit.
pub fn limited(
    envelope: &Envelope,
    queue: &str,
    tier: &str,
    not_before: UnixMillis,
    since: UnixMillis,
) -> Result<Outgoing, TooLong> {
    let mut headers = travelling_headers(envelope, queue);
    headers.set(header::ATTEMPT, i64::from(envelope.facts.attempt));
    headers.set(header::NOT_BEFORE, not_before.0);
    headers.set(header::LIMITED_SINCE, since.0);
    to_tier(envelope, tier, headers, None)
}

fn to_tier(envelope: &Envelope, tier: &str, headers: Headers, failure: Option<&Failure>) -> Result<Outgoing, TooLong> {
    Ok(Outgoing {
        exchange: ShortString::default(),
        routing_key: short("tier queue", tier)?,
        mandatory: true,
        properties: carried(envelope, headers, failure)?,
        body: envelope.wire_body.clone(),
    })
}

/// The move of a long task to the queue `lease_queue` of the worker that is about to run it.
///
/// # Errors
/// [`TooLong`] when a name does not fit.
pub fn lease(envelope: &Envelope, queue: &str, lease_queue: &str, token: &str) -> Result<Outgoing, TooLong> {
    let mut headers = travelling_headers(envelope, queue);
    headers.set(header::ATTEMPT, i64::from(envelope.facts.attempt));
    headers.set(header::LEASE, token);
    if envelope.facts.lost_leases > 0 {
        headers.set(header::LOST_LEASES, i64::from(envelope.facts.lost_leases));
    }
    Ok(Outgoing {
        exchange: ShortString::default(),
        routing_key: short("lease queue", lease_queue)?,
        mandatory: true,
        properties: carried(envelope, headers, None)?,
        body: envelope.wire_body.clone(),
    })
}

/// The move of a task from `queue` to its dead-letter queue, through the exchange `exchange`.
///
/// # Errors
/// [`TooLong`] when a name does not fit.
pub fn dead(
    envelope: &Envelope,
    queue: &str,
    exchange: &str,
    reason: DeadReason,
    failure: &Failure,
) -> Result<Outgoing, TooLong> {
    let mut headers = travelling_headers(envelope, queue);
    // What cannot be read stays as it came, so that the parked message shows the fault.
    if reason != DeadReason::Undecodable {
        headers.set(header::ATTEMPT, i64::from(envelope.facts.attempt));
    }
    mark_failed(&mut headers, &envelope.facts, failure);
    headers.set(header::DEAD_REASON, reason.as_str());
    Ok(Outgoing {
        exchange: short("exchange", exchange)?,
        routing_key: short("queue", queue)?,
        mandatory: true,
        properties: carried(envelope, headers, Some(failure))?,
        body: envelope.wire_body.clone(),
    })
}

/// How the task that a reply answers has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStatus {
    /// It was done; the body is its result.
    Done,
    /// It is in a dead-letter queue; the body says why.
    Dead,
    /// It was called off; the body says why.
    Cancelled,
}

/// The answer to whoever asked for the result of a task.
#[derive(Clone, Debug)]
pub struct Reply {
    /// How the task ended.
    pub status: ReplyStatus,
    /// JSON: the result, or what went wrong.
    pub body: Bytes,
}

/// The reply as a message, if the task asked for one.
///
/// # Errors
/// [`TooLong`] when a name does not fit.
pub fn reply(facts: &Facts, reply: Reply) -> Result<Option<Outgoing>, TooLong> {
    let Some(reply_to) = &facts.reply_to else {
        return Ok(None);
    };
    let status = match reply.status {
        ReplyStatus::Done => "done",
        ReplyStatus::Dead => "dead",
        ReplyStatus::Cancelled => "cancelled",
    };
    let mut headers = Headers::default();
    headers.set(header::STATUS, status);
    headers.set(header::TASK_ID, facts.id.as_str());
    headers.set(header::ATTEMPT, i64::from(facts.attempt));
    let correlation = facts.correlation_id.as_deref().unwrap_or(facts.id.as_str());
    Ok(Some(Outgoing {
        exchange: ShortString::default(),
        routing_key: short("reply-to", reply_to)?,
        // The asker may be gone; that is no fault of the task.
        mandatory: false,
        properties: BasicProperties::default()
            .with_content_type(short("content type", JSON)?)
            .with_delivery_mode(2)
            // Empty when the message named no task: the reply says so.
            .with_type(short("task", &facts.task)?)
            .with_message_id(short("message id", crate::task::TaskId::new().as_str())?)
            .with_correlation_id(short("correlation id", correlation)?)
            .with_headers(headers.into()),
        body: reply.body,
    }))
}

/// The headers that a moved message keeps: all but the broker's own notes, routing instructions that would
/// copy it elsewhere, and what a former death left behind.
pub(super) fn travelling_headers(envelope: &Envelope, queue: &str) -> Headers {
    let mut headers = envelope.headers.clone();
    if !headers.is_empty() {
        headers.retain(|name| !is_broker_note(name) && name != header::LEASE && name != header::LOST_LEASES);
        if envelope.facts.replayed {
            headers.retain(|name| !is_death_note(name));
        }
    }
    headers.set(header::QUEUE, queue);
    if envelope.facts.replays > 0 {
        headers.set(header::REPLAYS, i64::from(envelope.facts.replays));
    }
    if let Some(user) = envelope.properties.user_id() {
        // The broker refuses a `user_id` that is not the connection's own user, so it moves to a header.
        headers.set(header::USER_ID, user.as_str());
    }
    headers
}

pub(crate) fn is_broker_note(name: &str) -> bool {
    // A copied `x-death` makes RabbitMQ before 4.0 drop the message as a cycle; CC and BCC would copy it.
    matches!(name, "x-death" | "x-delivery-count" | "x-acquired-count" | "CC" | "BCC")
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

pub(crate) fn is_death_note(name: &str) -> bool {
    matches!(
        name,
        header::DEAD_REASON
            | header::ERROR
            | header::ERROR_KIND
            | header::FIRST_FAILED_AT
            | header::FAILED_AT
            | header::WORKER
    )
}

/// The longest beginning of a text that has at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

fn mark_failed(headers: &mut Headers, facts: &Facts, failure: &Failure) {
    // Its text comes last, when it is known how much room there is: see `carried`.
    headers.set(header::ERROR, "");
    headers.set(header::ERROR_KIND, failure.kind.as_str());
    headers.set(header::FIRST_FAILED_AT, facts.first_failed_at.unwrap_or(failure.at).0);
    headers.set(header::FAILED_AT, failure.at.0);
    headers.set(header::WORKER, failure.worker.as_str());
}

/// The properties that a moved message keeps: all but `expiration`, which would end its stay in a tier too
/// early, and `user_id`, which only its first publisher may claim. It is persistent from here on. The text of the
/// error has the room that everything else leaves it.
pub(super) fn carried(
    envelope: &Envelope,
    mut headers: Headers,
    failure: Option<&Failure>,
) -> Result<BasicProperties, TooLong> {
    let from = &envelope.properties;
    let mut to = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(short("message id", envelope.facts.id.as_str())?);
    macro_rules! carry {
        ($($get:ident => $set:ident),*) => {
            $(if let Some(value) = from.$get() { to = to.$set(value.clone()); })*
        };
    }
    carry!(
        kind => with_type, content_type => with_content_type, content_encoding => with_content_encoding,
        priority => with_priority, correlation_id => with_correlation_id, reply_to => with_reply_to,
        timestamp => with_timestamp, app_id => with_app_id
    );
    if let Some(failure) = failure {
        let table = FieldTable::from(headers);
        let taken = header_frame(&to) + size::table(&table);
        headers = Headers::from(table);
        headers.set(header::ERROR, cut(&failure.error, envelope.header_limit.saturating_sub(taken).min(ERROR_LIMIT)));
    }
    Ok(to.with_headers(headers.into()))
}
