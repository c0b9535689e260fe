//! Nothing that a publisher can send makes a worker panic.

use lapin::{BasicProperties, types::AMQPValue};

use super::{
    super::{DeadReason, Envelope, Failure, Limits, Reply, ReplyStatus, dead, header, reply, retry},
    arbitrary::short,
};
use crate::{clock::UnixMillis, trace_context::TraceContext};

/// Headers that are looked at, by us or by the broker.
const LOOKED_AT: [&str; 24] = [
    header::TASK,
    header::ATTEMPT,
    header::MAX_ATTEMPTS,
    header::BACKOFF,
    header::GIVE_UP_AFTER_MS,
    header::UNIQUE,
    header::UNIQUE_MS,
    header::TIMEOUT_MS,
    header::NOT_BEFORE,
    header::EXPIRES_AT,
    header::LIMITED_SINCE,
    header::KEY,
    header::SCHEDULE,
    header::SCHEDULED_AT,
    header::QUEUE,
    header::DEAD_REASON,
    header::ERROR,
    header::FIRST_FAILED_AT,
    header::USER_ID,
    "x-death",
    "CC",
    "traceparent",
    "tracestate",
    "baggage",
];

const ENCODINGS: [&str; 8] = ["", "gzip", "zstd", "identity", "utf-8", "br", "GZIP", " zstd "];

/// A value of the type that `kind` chooses.
fn value(kind: u8, number: i64, text: &str) -> AMQPValue {
    let death = || {
        let entry = [("queue", text), ("reason", "rejected")];
        let entry = entry.map(|(name, text)| (short(name), AMQPValue::LongString(text.into())));
        AMQPValue::FieldTable(std::collections::BTreeMap::from(entry).into())
    };
    match kind % 12 {
        0 => AMQPValue::Boolean(number > 0),
        1 => AMQPValue::ShortShortInt(number as i8),
        2 => AMQPValue::LongUInt(number as u32),
        3 => AMQPValue::LongLongInt(number),
        4 => AMQPValue::Timestamp(number as u64),
        5 => AMQPValue::Double(number as f64),
        6 => AMQPValue::Void,
        7 => AMQPValue::ByteArray(text.as_bytes().into()),
        8 => AMQPValue::FieldArray(vec![death()].into()),
        9 => AMQPValue::LongString(number.to_string().into()),
        10 => AMQPValue::LongString(number.to_be_bytes().to_vec().into()),
        _ => AMQPValue::LongString(text.into()),
    }
}

#[test]
fn any_message_is_read_or_parked() {
    type Header = (u8, u8, i64, String);
    bolero::check!().with_type::<(u8, Option<String>, Vec<Header>, Vec<u8>)>().with_iterations(6_000).for_each(
        |(encoding, task, headers, body)| {
            let named = headers.iter().map(|(name, kind, number, text)| {
                (short(LOOKED_AT[usize::from(*name) % LOOKED_AT.len()]), value(*kind, *number, text))
            });
            let mut properties = BasicProperties::default()
                .with_content_encoding(short(ENCODINGS[usize::from(*encoding) % ENCODINGS.len()]))
                .with_reply_to(short("answers"))
                .with_headers(named.collect::<std::collections::BTreeMap<_, _>>().into());
            if let Some(task) = task.as_ref().filter(|task| task.len() <= 255) {
                properties = properties.with_type(short(task));
            }
            let limits = Limits { inflated: 1 << 16, ..Limits::default() };
            let decoded = Envelope::decode("mail", true, properties, body.clone(), &limits);
            let envelope = decoded.unwrap_or_else(|unreadable| {
                assert!(!unreadable.error.is_empty());
                *unreadable.envelope
            });
            assert!(envelope.facts.attempt >= 1);
            let _ = TraceContext::read(&envelope.headers).map(|trace| trace.traceparent());
            let _ = envelope.headers.to_json();
            let failure =
                Failure { error: String::new(), kind: String::new(), at: UnixMillis(0), worker: String::new() };
            retry(&envelope, "mail", "mail.retry.1s", 2, UnixMillis(0), Some(&failure)).unwrap();
            dead(&envelope, "mail", "leveret.dead", DeadReason::Undecodable, &failure).unwrap();
            reply(&envelope.facts, Reply { status: ReplyStatus::Dead, body: "null".into() }).unwrap();
        },
    );
}

#[test]
fn any_bytes_are_inflated_or_refused() {
    bolero::check!().with_iterations(8_000).for_each(|bytes: &[u8]| {
        for encoding in ["gzip", "zstd"] {
            // The beginning of a real one leads further in.
            let magic: &[u8] = if encoding == "gzip" { &[0x1f, 0x8b, 8, 0] } else { &[0x28, 0xb5, 0x2f, 0xfd] };
            let body = [magic, bytes].concat();
            let properties = BasicProperties::default().with_type(short("t")).with_content_encoding(short(encoding));
            let limits = Limits { inflated: 1 << 16, ..Limits::default() };
            if let Ok(envelope) = Envelope::decode("mail", false, properties, body, &limits) {
                assert!(envelope.body.len() <= limits.inflated);
            }
        }
    });
}
