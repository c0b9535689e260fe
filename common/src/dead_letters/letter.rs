//! A dead letter as it is read from its queue.

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{
    clock::UnixMillis,
    headers::Headers,
    wire::{DeadReason, Envelope, Limits, header},
};

/// The reason of what is in the queue of the lost: no queue took it.
pub const UNROUTABLE: &str = "unroutable";

/// What the broker's own record of a death stands for, since it writes no error.
const OVER_THE_LIMIT: &str = "given out as often as its queue allows: each worker that took it was killed or cut off";

/// A message in a dead-letter queue, or in the queue of the lost.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The work queue that it belongs to; of a lost one, the routing key that no queue took.
    pub queue: String,
    /// The task's id, if its publisher gave one or a worker has seen it.
    pub id: Option<String>,
    /// The task's name; empty when the message has none.
    pub task: String,
    /// Why it is here: a [`DeadReason`] as text, or [`UNROUTABLE`].
    pub reason: String,
    /// The text of the last failure.
    pub error: Option<String>,
    /// The kind of the last failure: `error`, `panic`, `timeout` and so on.
    pub error_kind: Option<String>,
    /// Number of the last attempt, from 1.
    pub attempt: u32,
    /// How often it had been brought back from the dead before.
    pub replays: u32,
    /// When it first failed.
    pub first_failed_at: Option<UnixMillis>,
    /// When it last failed, or when the broker moved it here; of a lost one, when it was published.
    pub failed_at: Option<UnixMillis>,
    /// The worker that saw the last failure.
    pub worker: Option<String>,
    /// The body's media type, if stated.
    pub content_type: Option<String>,
    /// How the body is compressed, if it is.
    pub content_encoding: Option<String>,
    /// Where the result was to go.
    pub reply_to: Option<String>,
    /// The headers as they are.
    pub headers: Headers,
    /// The body as it is, maybe compressed.
    pub body: Vec<u8>,
}

/// One entry of `x-death`, the broker's record of where a message was dead-lettered.
struct Death<'a> {
    queue: &'a str,
    reason: &'a str,
    at: Option<UnixMillis>,
}

impl DeadLetter {
    /// Reads a message from the dead-letter queue of `queue`.
    pub(super) fn dead(queue: &str, properties: &BasicProperties, body: Vec<u8>) -> Self {
        let mut letter = Self::read(queue.to_owned(), properties, body);
        letter.reason = letter.text(header::DEAD_REASON).unwrap_or_default();
        // The headers tell of the last failure that a worker saw. When the broker itself moved the message here,
        // they are silent, or left over from before.
        let death = properties.headers().as_ref().and_then(newest_death).filter(|death| death.is_of(queue));
        if let Some(Death { reason, at, .. }) = death {
            let replays = letter.headers.replays(queue).max(u32::from(letter.headers.contains(header::DEAD_REASON)));
            if replays > 0 {
                // It counted anew.
                letter.attempt = 1;
            }
            letter.replays = letter.replays.saturating_add(replays);
            letter.failed_at = at.or(letter.failed_at);
            letter.worker = None;
            (letter.reason, letter.error) = match reason {
                "delivery_limit" => (DeadReason::DeliveryLimit.as_str().to_owned(), Some(OVER_THE_LIMIT.to_owned())),
                "expired" => (DeadReason::Expired.as_str().to_owned(), None),
                other => (other.to_owned(), None),
            };
            letter.error_kind = Some(letter.reason.clone());
        }
        letter
    }

    /// Reads a message from the dead-letter queue of whichever queue the broker has moved it from last; none if it was
    /// no work queue, or if it was not the broker.
    pub(super) fn by_broker(properties: &BasicProperties) -> Option<Self> {
        let death = newest_death(properties.headers().as_ref()?)?;
        // Names of work queues have no dots.
        let queue = death.queue.split('.').next().filter(|queue| death.is_of(queue))?;
        Some(Self::dead(queue, properties, Vec::new()))
    }

    /// Reads a message from the queue of the lost.
    pub(super) fn lost(routing_key: &str, properties: &BasicProperties, body: Vec<u8>) -> Self {
        let mut letter = Self::read(routing_key.to_owned(), properties, body);
        UNROUTABLE.clone_into(&mut letter.reason);
        letter.error = Some(format!("no queue took the routing key {routing_key:?}"));
        letter.error_kind = Some(UNROUTABLE.to_owned());
        let published = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
        letter.failed_at = published.map(|seconds| UnixMillis(seconds.saturating_mul(1000)));
        letter
    }

    /// The body as a handler gets it: decompressed, within the [limits](Limits) of a worker by default.
    ///
    /// # Errors
    /// What is wrong with the body, for people.
    pub fn content(&self) -> Result<Bytes, String> {
        let mut properties = BasicProperties::default();
        if let Some(encoding) = self.content_encoding.as_deref().and_then(|text| ShortString::try_new(text).ok()) {
            properties = properties.with_content_encoding(encoding);
        }
        if let Ok(task) = ShortString::try_new("any") {
            properties = properties.with_type(task);
        }
        let decoded = Envelope::decode(&self.queue, false, properties, self.body.clone(), &Limits::default());
        decoded.map(|envelope| envelope.body).map_err(|unreadable| unreadable.error)
    }

    fn read(queue: String, properties: &BasicProperties, body: Vec<u8>) -> Self {
        let headers = properties.headers().clone().map(Headers::from).unwrap_or_default();
        let owned = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string).filter(|text| !text.is_empty());
        let text = |name| headers.get_str(name).map(str::to_owned);
        let time = |name| headers.get_i64(name).map(UnixMillis);
        Self {
            queue,
            id: owned(properties.message_id()),
            task: owned(properties.kind()).or_else(|| text(header::TASK)).unwrap_or_default(),
            reason: String::new(),
            error: text(header::ERROR),
            error_kind: text(header::ERROR_KIND),
            attempt: headers.get_i64(header::ATTEMPT).and_then(|number| number.try_into().ok()).unwrap_or(1),
            replays: headers.get_i64(header::REPLAYS).and_then(|number| number.try_into().ok()).unwrap_or(0),
            first_failed_at: time(header::FIRST_FAILED_AT),
            failed_at: time(header::FAILED_AT),
            worker: text(header::WORKER),
            content_type: owned(properties.content_type()),
            content_encoding: owned(properties.content_encoding()),
            reply_to: owned(properties.reply_to()),
            headers,
            body,
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.headers.get_str(name).map(str::to_owned)
    }
}

impl Death<'_> {
    /// Whether it was in this work queue, or in a shard of it.
    fn is_of(&self, queue: &str) -> bool {
        self.queue.strip_prefix(queue).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('.').is_some_and(|shard| shard.bytes().all(|c| c.is_ascii_digit()))
        })
    }
}

/// The broker puts the newest first.
fn newest_death(headers: &FieldTable) -> Option<Death<'_>> {
    let AMQPValue::FieldArray(deaths) = headers.inner().get("x-death")? else { return None };
    let AMQPValue::FieldTable(death) = deaths.as_slice().first()? else { return None };
    let text = |name: &str| match death.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        _ => None,
    };
    let at = match death.inner().get("time") {
        Some(AMQPValue::Timestamp(seconds)) => i64::try_from(*seconds).ok(),
        _ => None,
    };
    Some(Death {
        queue: text("queue")?,
        reason: text("reason")?,
        at: at.map(|seconds| UnixMillis(seconds.saturating_mul(1000))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(queue: &str, reason: &str) -> AMQPValue {
        let mut death = FieldTable::default();
        death.insert("queue".into(), AMQPValue::LongString(queue.into()));
        death.insert("reason".into(), AMQPValue::LongString(reason.into()));
        death.insert("time".into(), AMQPValue::Timestamp(1_700_000_000));
        AMQPValue::FieldTable(death)
    }

    fn letter(deaths: &[AMQPValue], headers: &[(&'static str, &str)]) -> DeadLetter {
        let mut table = FieldTable::default();
        if !deaths.is_empty() {
            table.insert("x-death".into(), AMQPValue::FieldArray(deaths.to_vec().into()));
        }
        for (name, value) in headers {
            table.insert(ShortString::try_new(*name).unwrap(), AMQPValue::LongString((*value).into()));
        }
        DeadLetter::dead("mail", &BasicProperties::default().with_headers(table), Vec::new())
    }

    #[test]
    fn the_worker_says_why_unless_the_broker_moved_it() {
        let noted = [(header::DEAD_REASON, "exhausted"), (header::ERROR, "no luck"), (header::WORKER, "w1")];
        let by_worker = letter(&[], &noted);
        assert_eq!((by_worker.reason.as_str(), by_worker.error.as_deref()), ("exhausted", Some("no luck")));

        let by_broker = letter(&[death("mail", "delivery_limit")], &[]);
        assert_eq!(by_broker.reason, "delivery-limit");
        assert_eq!(by_broker.failed_at, Some(UnixMillis(1_700_000_000_000)));
    }

    #[test]
    fn the_latest_death_counts_after_a_replay() {
        let noted = [(header::DEAD_REASON, "exhausted"), (header::WORKER, "w1")];
        let deaths = [death("mail", "delivery_limit"), death("mail.dead", "rejected")];
        let killed = letter(&deaths, &noted);
        assert_eq!((killed.reason.as_str(), killed.worker), ("delivery-limit", None));
        assert_eq!(letter(&[death("mail.dead", "rejected")], &noted).reason, "exhausted");
    }

    #[test]
    fn what_the_broker_moved_has_counted_anew_after_each_replay() {
        let noted = [(header::ATTEMPT, "8"), (header::REPLAYS, "3")];
        let life = |deaths: &[AMQPValue], headers| {
            let letter = letter(deaths, headers);
            (letter.replays, letter.attempt)
        };
        assert_eq!(life(&[], &noted), (3, 8));
        assert_eq!(life(&[death("mail", "expired")], &noted), (3, 8));
        let AMQPValue::FieldTable(mut back) = death("mail.dead", "rejected") else { unreachable!() };
        back.insert("count".into(), AMQPValue::LongLongInt(2));
        let back = AMQPValue::FieldTable(back);
        assert_eq!(life(&[death("mail", "expired"), back.clone()], &noted), (5, 1));
        assert_eq!(life(&[death("mail", "expired")], &[(header::DEAD_REASON, "exhausted")]), (1, 1));
    }

    #[test]
    fn the_queue_is_known_from_the_notes_of_the_broker() {
        let queue = |from, reason| {
            let mut table = FieldTable::default();
            table.insert("x-death".into(), AMQPValue::FieldArray(vec![death(from, reason)].into()));
            let letter = DeadLetter::by_broker(&BasicProperties::default().with_headers(table))?;
            Some((letter.queue, letter.reason))
        };
        let found = |queue: &str, reason: &str| Some((queue.to_owned(), reason.to_owned()));
        assert_eq!(queue("mail", "delivery_limit"), found("mail", "delivery-limit"));
        assert_eq!(queue("mail.07", "expired"), found("mail", "expired"));
        for other in ["mail.dead", "mail.retry.5s", "mail.at.w1", "mail.lease.7"] {
            assert_eq!(queue(other, "expired"), None, "{other}");
        }
        assert!(DeadLetter::by_broker(&BasicProperties::default()).is_none());
    }
}
