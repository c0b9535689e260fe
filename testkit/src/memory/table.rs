//! Reading AMQP tables, which are arguments of queues and exchanges, and headers; and names of queues.

use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

/// A value as text.
pub(super) fn text<'a>(table: &'a FieldTable, name: &str) -> Option<&'a str> {
    match table.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// A value as a whole number, of whichever type.
pub(super) fn number(table: &FieldTable, name: &str) -> Option<i64> {
    integer(table.inner().get(name)?)
}

fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(number) => Some(number.into()),
        AMQPValue::ShortShortUInt(number) => Some(number.into()),
        AMQPValue::ShortInt(number) => Some(number.into()),
        AMQPValue::ShortUInt(number) => Some(number.into()),
        AMQPValue::LongInt(number) => Some(number.into()),
        AMQPValue::LongUInt(number) => Some(number.into()),
        AMQPValue::LongLongInt(number) => Some(number),
        _ => None,
    }
}

/// A text of ours as a value.
pub(super) fn long(text: impl AsRef<str>) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text.as_ref()))
}

/// A text as a short string, cut to the 255 bytes that one has.
pub(super) fn short(text: impl AsRef<str>) -> ShortString {
    let text = text.as_ref();
    let end = (0..=text.len().min(255)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    ShortString::try_new(&text[..end]).unwrap_or_default()
}

/// The first argument in which two declarations differ, and what each says, as RabbitMQ puts it.
pub(super) fn difference(wanted: &FieldTable, there: &FieldTable) -> Option<(String, String, String)> {
    let same = |a: &AMQPValue, b: &AMQPValue| a == b || integer(a).is_some_and(|number| Some(number) == integer(b));
    let names = wanted.inner().keys().chain(there.inner().keys());
    let mut pairs = names.map(|name| (name, wanted.inner().get(name.as_str()), there.inner().get(name.as_str())));
    let (name, wanted, there) = pairs.find(|(_, wanted, there)| match (wanted, there) {
        (Some(wanted), Some(there)) => !same(wanted, there),
        _ => true,
    })?;
    // Types are told only where they differ.
    let alike = wanted.map(kind) == there.map(kind);
    let said = |value: Option<&AMQPValue>| match value {
        None => "none".to_owned(),
        Some(value) if alike => format!("'{}'", shown(value)),
        Some(value) => format!("the value '{}' of type '{}'", shown(value), kind(value)),
    };
    Some((name.to_string(), said(wanted), said(there)))
}

fn shown(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        other => integer(other).map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}

fn kind(value: &AMQPValue) -> &'static str {
    match value {
        AMQPValue::LongString(_) => "longstr",
        AMQPValue::LongLongInt(_) => "long",
        AMQPValue::Boolean(_) => "bool",
        _ => "signedint",
    }
}

/// The work queue that a queue is a part of.
pub(super) fn work_queue(queue: &str) -> &str {
    queue.split_once('.').map_or(queue, |(work, _)| work)
}

/// Whether what is in a queue is not to be run now: it is a tier, or has dead letters.
pub(super) fn is_aside(queue: &str) -> bool {
    queue.contains(".retry.") || queue.ends_with(".dead")
}
