//! Which tasks are reported on.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{headers::Headers, task::TaskId, wire::header};

/// Which tasks of a queue are reported on: the setting `events` of a queue.
///
/// As text: `off`, `full`, or `sampled:0.01` for that share of the tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tracking {
    /// Only those whose header `leveret-track` says `always`.
    #[default]
    Off,
    /// This share of them, from 0 to 1, and those whose header says so. A task is in it or not by its id, through all
    /// its attempts and at every worker.
    Sampled(f64),
    /// All.
    Full,
}

impl Tracking {
    /// Whether this task is reported on. Ask once per attempt. Of a task without headers, and with tracking off, this
    /// costs a comparison.
    pub fn follows(self, id: &TaskId, headers: &Headers) -> bool {
        let by_id = match self {
            Self::Off => false,
            Self::Sampled(share) => sample(id.as_str()) < share,
            Self::Full => true,
        };
        by_id || (!headers.is_empty() && headers.get_str(header::TRACK) == Some("always"))
    }
}

/// A number from 0 to 1 that follows from the id: FNV-1a, then mixed, for its high bits alone are poor.
fn sample(id: &str) -> f64 {
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

impl fmt::Display for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Sampled(share) => write!(f, "sampled:{share}"),
            Self::Full => f.write_str("full"),
        }
    }
}

impl FromStr for Tracking {
    type Err = InvalidTracking;
    fn from_str(text: &str) -> Result<Self, InvalidTracking> {
        match text {
            "off" => Ok(Self::Off),
            "full" => Ok(Self::Full),
            _ => text
                .strip_prefix("sampled:")
                .and_then(|share| share.trim().parse().ok())
                .filter(|share| (0.0..=1.0).contains(share))
                .map(Self::Sampled)
                .ok_or_else(|| InvalidTracking(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Tracking {
    type Error = InvalidTracking;
    fn try_from(text: String) -> Result<Self, InvalidTracking> {
        text.parse()
    }
}

impl From<Tracking> for String {
    fn from(tracking: Tracking) -> Self {
        tracking.to_string()
    }
}

/// A text does not say which tasks are reported on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} does not say which tasks to report on: write \"off\", \"full\", or \"sampled:0.01\" for one in a hundred"
)]
pub struct InvalidTracking(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracking_is_read_and_sampled_by_id() {
        for text in ["off", "full", "sampled:0.01"] {
            assert_eq!(text.parse::<Tracking>().unwrap().to_string(), text);
        }
        for text in ["", "on", "sampled", "sampled:2", "sampled:-1", "sampled:NaN", "sampled:x"] {
            assert!(text.parse::<Tracking>().is_err(), "{text}");
        }
        let none = Headers::default();
        let followed = |tracking: Tracking| (0..10_000).filter(|_| tracking.follows(&TaskId::new(), &none)).count();
        assert_eq!((followed(Tracking::Off), followed(Tracking::Full)), (0, 10_000));
        let sampled = followed(Tracking::Sampled(0.1));
        assert!((800..1_200).contains(&sampled), "{sampled}");
        let mut always = Headers::default();
        always.insert(header::TRACK, "always").unwrap();
        assert!(Tracking::Off.follows(&TaskId::new(), &always));
    }
}
