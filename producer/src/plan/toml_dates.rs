//! Dates of TOML, which JSON does not know, as texts.

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected},
};
use serde_json::Value;

/// How the `toml` crate hands a date to a format that has none.
const DATE: &str = "$__toml_private_datetime";

/// Reads any value.
pub(super) fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let mut value = Value::deserialize(deserializer)?;
    dates_to_text(&mut value);
    Ok(value)
}

/// Reads a text or a date.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let unexpected = match value(deserializer)? {
        Value::Null => return Ok(None),
        Value::String(text) => return Ok(Some(text)),
        Value::Bool(flag) => Unexpected::Bool(flag),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Unexpected::Signed(number),
            None => Unexpected::Float(number.as_f64().unwrap_or_default()),
        },
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    };
    Err(D::Error::invalid_type(unexpected, &"a string"))
}

fn dates_to_text(value: &mut Value) {
    match value {
        Value::Object(map) => match map.remove(DATE) {
            Some(date) => *value = date,
            None => map.values_mut().for_each(dates_to_text),
        },
        Value::Array(values) => values.iter_mut().for_each(dates_to_text),
        _ => {}
    }
}
