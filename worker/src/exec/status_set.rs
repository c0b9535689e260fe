use std::{fmt, ops::RangeInclusive};

use serde::{Deserialize, de::Error};

/// A set of HTTP statuses, in TOML a list of numbers and ranges: `[200, "300-399"]`.
#[derive(Clone, PartialEq, Eq)]
pub struct StatusSet(Vec<RangeInclusive<u16>>);

impl StatusSet {
    /// 200 to 299.
    pub fn success() -> Self {
        Self(vec![200..=299])
    }

    /// What a later attempt can mend: 408 request timeout, 425 too early, 429 too many requests and 500 to 599.
    pub fn retry() -> Self {
        Self(vec![408..=408, 425..=425, 429..=429, 500..=599])
    }

    /// Whether the status is in the set.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl FromIterator<RangeInclusive<u16>> for StatusSet {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u16>>>(ranges: I) -> Self {
        Self(ranges.into_iter().collect())
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.0).finish()
    }
}

impl<'de> Deserialize<'de> for StatusSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a status, such as 204, or a range, such as \"200-299\"")]
        enum Entry {
            One(u16),
            Text(String),
        }
        Vec::<Entry>::deserialize(deserializer)?
            .into_iter()
            .map(|entry| match entry {
                Entry::One(status) => range(status, status).ok_or_else(|| status.to_string()),
                Entry::Text(text) => parse(&text).ok_or(text),
            })
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(|wrong| {
                D::Error::custom(format!(
                    "{wrong:?} is no HTTP status and no range of them: write 204 or \"200-299\", between 100 and 599"
                ))
            })
    }
}

fn parse(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    range(first.trim().parse().ok()?, last.trim().parse().ok()?)
}

fn range(first: u16, last: u16) -> Option<RangeInclusive<u16>> {
    (100 <= first && first <= last && last <= 599).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_one_by_one_and_as_ranges() {
        let set: StatusSet = serde_json::from_str(r#"[204, "300-399", "404"]"#).unwrap();
        for (status, inside) in [(204, true), (300, true), (399, true), (404, true), (200, false), (400, false)] {
            assert_eq!(set.contains(status), inside, "{status}");
        }
        for wrong in [r#"["299-200"]"#, "[42]", r#"["2xx"]"#] {
            let message = serde_json::from_str::<StatusSet>(wrong).unwrap_err().to_string();
            assert!(message.contains("200-299"), "{message}");
        }
    }
}
