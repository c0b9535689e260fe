//! Limits on how many tasks run at once and how many begin in a time: the `[limits.<name>]` tables of `leveret.toml`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    duration,
    topology::{InvalidName, QueueName, check_name},
};

/// The name of a limit: 1 to 100 letters, digits, `-` and `_`. Workers that share a limit share its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LimitName(String);

impl LimitName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] when it breaks the rules.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        check_name("limit", name).map(Self)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LimitName {
    type Err = InvalidName;
    fn from_str(name: &str) -> Result<Self, InvalidName> {
        Self::new(name)
    }
}

impl TryFrom<String> for LimitName {
    type Error = InvalidName;
    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(&name)
    }
}

impl From<LimitName> for String {
    fn from(name: LimitName) -> Self {
        name.0
    }
}

/// Which tasks a limit is for, and how much it admits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// The queues whose tasks it is for. Default: all.
    pub queues: Vec<QueueName>,
    /// The names of the tasks that it is for. Default: all.
    pub tasks: Vec<String>,
    /// Whether each `leveret-key` is counted by itself; tasks without a key are then not limited. Default: all
    /// together.
    pub by_key: bool,
    /// How many may run at once. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How many may begin in a time. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Whether each worker counts by itself, without asking anyone. Default: all workers together.
    pub per_worker: bool,
}

impl LimitSettings {
    /// So many at once.
    pub fn concurrency(concurrency: u32) -> Self {
        Self { concurrency: Some(concurrency), ..Self::default() }
    }

    /// So many in a time.
    pub fn rate(rate: Rate) -> Self {
        Self { rate: Some(rate), ..Self::default() }
    }

    /// How much it admits.
    pub fn terms(&self) -> Terms {
        Terms { concurrency: self.concurrency, rate: self.rate }
    }

    /// Whether it is for tasks of this name from this queue.
    pub fn covers(&self, queue: &str, task: &str) -> bool {
        (self.queues.is_empty() || self.queues.iter().any(|name| name.as_str() == queue))
            && (self.tasks.is_empty() || self.tasks.iter().any(|name| name == task))
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`InvalidTerms`].
    pub fn check(&self) -> Result<(), InvalidTerms> {
        self.terms().check()
    }
}

/// How much a limit admits: what can be changed while workers run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// How many may run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How many may begin in a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl Terms {
    /// The stricter of both, in each respect.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        let rate = match (self.rate, other.rate) {
            (Some(one), Some(another)) => Some(if one.interval() >= another.interval() { one } else { another }),
            (one, another) => one.or(another),
        };
        let concurrency = self.concurrency.into_iter().chain(other.concurrency).min();
        Self { concurrency, rate }
    }

    /// Refuses what limits nothing, and what admits nothing.
    ///
    /// # Errors
    /// [`InvalidTerms`] with the fix.
    pub fn check(&self) -> Result<(), InvalidTerms> {
        match self {
            Self { concurrency: None, rate: None } => Err(InvalidTerms("set `concurrency`, `rate` or both")),
            Self { concurrency: Some(0), .. } => {
                Err(InvalidTerms("`concurrency` must be at least 1; to run nothing at all, pause the queue"))
            }
            _ => Ok(()),
        }
    }
}

/// A limit would admit nothing, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTerms(pub &'static str);

/// How many tasks may begin in a time, spread evenly over it.
///
/// As text: `100/s`, `10/min`, `500/h`, `20/day`, `3/10s`, and `100/s burst 20` for up to 20 in one instant after a
/// pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    count: u32,
    per: Duration,
    burst: u32,
}

const UNITS: [(&str, Duration); 4] = [
    ("s", Duration::from_secs(1)),
    ("min", Duration::from_secs(60)),
    ("h", Duration::from_secs(3_600)),
    ("day", Duration::from_secs(86_400)),
];

impl Rate {
    /// So many in each `per`, and no burst.
    ///
    /// # Errors
    /// [`InvalidRate`] unless it is 1 to 1,000,000 in 1 ms to 30 days, and at most 1,000,000 in a second.
    pub fn new(count: u32, per: Duration) -> Result<Self, InvalidRate> {
        Self { count, per, burst: 1 }.checked()
    }

    /// Sets how many may begin in one instant after a pause.
    ///
    /// # Errors
    /// [`InvalidRate`] unless it is 1 to 1,000,000.
    pub fn burst(self, burst: u32) -> Result<Self, InvalidRate> {
        Self { burst, ..self }.checked()
    }

    /// The time from one to the next.
    pub fn interval(&self) -> Duration {
        self.per / self.count.max(1)
    }

    /// How many may begin in one instant after a pause. Default 1.
    pub fn most_at_once(&self) -> u32 {
        self.burst
    }

    fn checked(self) -> Result<Self, InvalidRate> {
        let counts = 1..=1_000_000;
        let sane = counts.contains(&self.count)
            && counts.contains(&self.burst)
            && (Duration::from_millis(1)..=Duration::from_secs(30 * 86_400)).contains(&self.per)
            && self.interval() >= Duration::from_micros(1);
        if sane { Ok(self) } else { Err(InvalidRate(self.to_string())) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, length)| *length == self.per);
        match unit {
            Some((unit, _)) => write!(f, "{}/{unit}", self.count)?,
            None => write!(f, "{}/{}", self.count, duration::format(self.per))?,
        }
        if self.burst != 1 {
            write!(f, " burst {}", self.burst)?;
        }
        Ok(())
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;
    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let invalid = || InvalidRate(text.to_owned());
        let (rate, burst) = match text.split_once("burst") {
            Some((rate, burst)) => (rate, burst.trim().parse().map_err(|_| invalid())?),
            None => (text, 1),
        };
        let (count, per) = rate.split_once('/').ok_or_else(invalid)?;
        let per = per.trim();
        let unit = UNITS.iter().find(|(unit, _)| *unit == per);
        let per = match unit {
            Some((_, length)) => *length,
            // `m` alone would be minutes, and `M` months: `min` says which. A number before the unit is a length of
            // time like any other.
            None if per.starts_with(|c: char| c.is_ascii_digit()) => duration::parse(per).map_err(|_| invalid())?,
            None => return Err(invalid()),
        };
        let count = count.trim().parse().map_err(|_| invalid())?;
        Self { count, per, burst }.checked().map_err(|_| invalid())
    }
}

impl TryFrom<String> for Rate {
    type Error = InvalidRate;
    fn try_from(text: String) -> Result<Self, InvalidRate> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

/// The text is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no rate: write how many in which time, such as \"100/s\", \"10/min\", \"3/10s\" or \"100/s burst 20\"; \
     at most 1000000 a second"
)]
pub struct InvalidRate(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written_as_people_do() {
        for text in ["100/s", "10/min", "500/h", "20/day", "3/10s", "100/s burst 20", "1/1h30m"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!(" 100 / s burst 5".parse::<Rate>().unwrap().to_string(), "100/s burst 5");
        assert_eq!("100/s".parse::<Rate>().unwrap().interval(), Duration::from_millis(10));
        for text in ["100", "0/s", "100/m", "1/0s", "-1/s", "2000000/s", "1/s burst 0", "1/40days", "1/s burst"] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("\"10/min\""), "{error}");
        }
    }

    #[test]
    fn a_limit_covers_what_it_names_or_everything() {
        let all = LimitSettings::concurrency(5);
        assert!(all.covers("mail", "send") && all.check().is_ok());
        let some = LimitSettings {
            queues: vec![QueueName::new("mail").unwrap()],
            tasks: vec!["send".to_owned()],
            ..LimitSettings::rate("1/s".parse().unwrap())
        };
        assert!(some.covers("mail", "send") && !some.covers("mail", "fetch") && !some.covers("bulk", "send"));
        assert!(LimitSettings::default().check().is_err() && LimitSettings::concurrency(0).check().is_err());
    }

    #[test]
    fn of_two_terms_the_stricter_holds() {
        let terms = |concurrency, rate: &str| Terms { concurrency, rate: rate.parse().ok() };
        let strict = terms(Some(5), "10/s").min(terms(Some(3), "1/min"));
        assert_eq!(strict, terms(Some(3), "1/min"));
        assert_eq!(terms(None, "10/s").min(terms(Some(3), "")), terms(Some(3), "10/s"));
    }
}
