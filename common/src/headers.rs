//! Message headers: an ordered map from names to values over the AMQP table.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::wire::{TooLong, short};

/// The headers of a message, sorted by name. Values that Leveret does not know travel through untouched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers(FieldTable);

/// A value to put into [`Headers`].
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderValue(AMQPValue);

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        Self(AMQPValue::LongString(LongString::from(text)))
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        Self(AMQPValue::LongString(LongString::from(text)))
    }
}

impl From<i64> for HeaderValue {
    fn from(number: i64) -> Self {
        Self(AMQPValue::LongLongInt(number))
    }
}

impl From<bool> for HeaderValue {
    fn from(flag: bool) -> Self {
        Self(AMQPValue::Boolean(flag))
    }
}

impl Headers {
    /// The header as text. `None` when it is absent or no UTF-8 text.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        text_of(self.0.inner().get(name)?)
    }

    /// The header as a whole number, of any AMQP integer type, a timestamp, or a decimal text: some
    /// clients (`amqp-publish` among them) can only send texts. `None` when it is absent or neither.
    pub fn get_i64(&self, name: &str) -> Option<i64> {
        integer_of(self.0.inner().get(name)?)
    }

    /// Whether the header is there, whatever its type.
    pub fn contains(&self, name: &str) -> bool {
        self.0.inner().contains_key(name)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.inner().is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.inner().len()
    }

    /// Sets a header, replacing what was there.
    ///
    /// # Errors
    /// [`TooLong`] when the name is over 255 bytes.
    pub fn insert(&mut self, name: &str, value: impl Into<HeaderValue>) -> Result<(), TooLong> {
        self.0.insert(short("header name", name)?, value.into().0);
        Ok(())
    }

    /// Sets one of Leveret's own headers, whose names are short by construction.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<HeaderValue>) {
        if let Ok(name) = ShortString::try_new(name) {
            self.0.insert(name, value.into().0);
        }
    }

    /// Takes a header away.
    pub fn remove(&mut self, name: &str) {
        if self.contains(name) {
            self.retain(|other| other != name);
        }
    }

    /// Keeps the headers whose names satisfy `keep`.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let kept = self.0.inner().iter().filter(|(name, _)| keep(name.as_str()));
        self.0 = kept.map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>().into();
    }

    /// The names and their values as JSON, in the order of the names: for people and for tools.
    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        self.0.inner().iter().map(|(name, value)| (name.to_string(), json_of(value))).collect()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.inner().keys().map(ShortString::as_str)
    }

    /// The first entry of `x-death`, the broker's record of dead-letterings: queue and reason.
    pub(crate) fn last_death(&self) -> Option<(&str, &str)> {
        let AMQPValue::FieldArray(deaths) = self.0.inner().get("x-death")? else {
            return None;
        };
        let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else {
            return None;
        };
        Some((text_of(last.inner().get("queue")?)?, text_of(last.inner().get("reason")?)?))
    }

    /// How often the broker has brought it back from the dead letters of `queue`, by `x-death`; a move of Leveret's own
    /// begins that count anew.
    pub(crate) fn replays(&self, queue: &str) -> u32 {
        let Some(AMQPValue::FieldArray(deaths)) = self.0.inner().get("x-death") else { return 0 };
        let replayed = |death: &FieldTable| {
            let text = |name| death.inner().get(name).and_then(text_of);
            text("queue").and_then(|from| from.strip_suffix(".dead")) == Some(queue)
                && text("reason") == Some("rejected")
        };
        let count = |death: &FieldTable| death.inner().get("count").and_then(integer_of).unwrap_or(1);
        let counts = deaths.as_slice().iter().map(|death| match death {
            AMQPValue::FieldTable(death) if replayed(death) => u32::try_from(count(death)).unwrap_or(1),
            _ => 0,
        });
        counts.fold(0, u32::saturating_add)
    }
}

impl From<FieldTable> for Headers {
    fn from(table: FieldTable) -> Self {
        Self(table)
    }
}

impl From<Headers> for FieldTable {
    fn from(headers: Headers) -> Self {
        headers.0
    }
}

fn text_of(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn integer_of(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(number) => Some(number.into()),
        AMQPValue::ShortShortUInt(number) => Some(number.into()),
        AMQPValue::ShortInt(number) => Some(number.into()),
        AMQPValue::ShortUInt(number) => Some(number.into()),
        AMQPValue::LongInt(number) => Some(number.into()),
        AMQPValue::LongUInt(number) => Some(number.into()),
        AMQPValue::LongLongInt(number) => Some(number),
        AMQPValue::Timestamp(seconds) => i64::try_from(seconds).ok(),
        _ => text_of(value)?.trim().parse().ok(),
    }
}

fn json_of(value: &AMQPValue) -> serde_json::Value {
    use serde_json::Value;
    match value {
        AMQPValue::Boolean(flag) => (*flag).into(),
        AMQPValue::Float(number) => (*number).into(),
        AMQPValue::Double(number) => (*number).into(),
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(json_of).collect(),
        AMQPValue::FieldTable(table) => Value::Object(Headers(table.clone()).to_json()),
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into(),
        AMQPValue::Void => Value::Null,
        other => text_of(other)
            .map(Value::from)
            .or_else(|| integer_of(other).map(Value::from))
            .unwrap_or_else(|| format!("{other:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_any_integer_type_and_from_text() {
        let mut table = FieldTable::default();
        table.insert("a".into(), AMQPValue::ShortShortUInt(7));
        table.insert("b".into(), AMQPValue::LongString("42".into()));
        table.insert("c".into(), AMQPValue::LongString("soon".into()));
        let mut headers = Headers::from(table);
        headers.insert("d", -3_i64).unwrap();
        let read = |name| headers.get_i64(name);
        assert_eq!([read("a"), read("b"), read("c"), read("d")], [Some(7), Some(42), None, Some(-3)]);
    }

    #[test]
    fn a_name_beyond_255_bytes_is_an_error() {
        assert!(Headers::default().insert(&"n".repeat(256), "v").is_err());
    }
}
