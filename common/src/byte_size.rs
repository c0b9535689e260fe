//! Sizes as people write them: `65536`, `"64KiB"`, `"1 MB"`.

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// For `#[serde(deserialize_with = "leveret_common::byte_size::deserialize")]`: a number of bytes, or a text with a
/// unit.
///
/// # Errors
/// When the value is neither, or more than can be counted.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    struct Size;
    impl Visitor<'_> for Size {
        type Value = usize;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a number of bytes, such as 65536, or a size, such as \"64KiB\" or \"1MB\"")
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<usize, E> {
            usize::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
        }

        fn visit_u64<E: Error>(self, bytes: u64) -> Result<usize, E> {
            usize::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Unsigned(bytes), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<usize, E> {
            parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_any(Size)
}

/// The same for an optional size: `#[serde(default, deserialize_with = "leveret_common::byte_size::option")]`.
///
/// # Errors
/// When a value is there that is no size.
pub fn option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    struct Size(usize);
    impl<'de> Deserialize<'de> for Size {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserialize(deserializer).map(Self)
        }
    }
    Ok(Option::<Size>::deserialize(deserializer)?.map(|size| size.0))
}

fn parse(text: &str) -> Option<usize> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    usize::try_from(number.parse::<u64>().ok()?.checked_mul(*factor)?).ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        assert_eq!(parse("64KiB"), Some(65_536));
        assert_eq!(parse("64 kib"), Some(65_536));
        assert_eq!(parse("1MB"), Some(1_000_000));
        assert_eq!(parse("512"), Some(512));
        for wrong in ["", "KiB", "-1", "1.5MiB", "64 K", "99999999999GiB"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
