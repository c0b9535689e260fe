//! Lengths of time as people write them: `250ms`, `30s`, `1h 30m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Reads `250ms`, `30s`, `10m`, `1h 30m`, `2days`.
///
/// # Errors
/// [`InvalidDuration`] when the text is no length of time.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    humantime::parse_duration(text.trim()).map_err(|_| InvalidDuration(text.to_owned()))
}

/// Writes a length of time so that [`parse`] reads it back, without spaces: `1h30m`.
pub fn format(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// The text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length of time: write a number with a unit, such as \"250ms\", \"30s\" or \"1h 30m\"")]
pub struct InvalidDuration(pub String);

/// For `#[serde(with = "leveret_common::duration")]`.
///
/// # Errors
/// The serializer's own.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with = "leveret_common::duration")]`.
///
/// # Errors
/// When the value is no text or no length of time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The same for an optional length of time: `#[serde(default, with = "leveret_common::duration::option")]`.
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Error, Serializer};

    /// Writes nothing for `None`.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a missing value as `None`.
    ///
    /// # Errors
    /// When the value is no text or no length of time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| super::parse(&text).map_err(D::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["250ms", "1s", "30s", "2m", "1h", "1h30m", "1day"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert!(parse("soon").unwrap_err().to_string().contains("\"30s\""));
        assert!(parse("30").is_err());
    }
}
