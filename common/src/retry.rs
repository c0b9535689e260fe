//! When a failed task runs again, and the tiers of queues that any delay is made of.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::duration;

/// How often a task is tried, and how long it waits in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. Default 8.
    pub max_attempts: u32,
    /// The delays. Default `2s..1h`.
    pub backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 8, backoff: Backoff::default() }
    }
}

/// Delays between attempts that double from `first` up to `cap`, each drawn anew between zero and that
/// bound (full jitter, so that tasks which failed together do not come back together).
///
/// As text: `2s..1h`, or `30s` for the same delay each time, which is not jittered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(2), cap: Duration::from_secs(3_600) }
    }
}

impl Backoff {
    /// Delays that double from `first` to `cap`, with full jitter.
    ///
    /// # Errors
    /// [`InvalidBackoff`] when `cap` is under `first`.
    pub fn exponential(first: Duration, cap: Duration) -> Result<Self, InvalidBackoff> {
        let backoff = Self { first, cap };
        if cap < first {
            return Err(InvalidBackoff(backoff.to_string()));
        }
        Ok(backoff)
    }

    /// The same delay each time.
    pub const fn constant(delay: Duration) -> Self {
        Self { first: delay, cap: delay }
    }

    /// The delay after attempt number `attempt` (from 1) has failed.
    pub fn delay_after(&self, attempt: u32) -> Duration {
        if self.first == self.cap {
            return self.cap;
        }
        self.bound_after(attempt).mul_f64(fastrand::f64())
    }

    /// The most that [`delay_after`](Self::delay_after) can give.
    pub fn bound_after(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.cap)
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::format(self.first))?;
        if self.first != self.cap {
            write!(f, "..{}", duration::format(self.cap))?;
        }
        Ok(())
    }
}

impl FromStr for Backoff {
    type Err = InvalidBackoff;
    fn from_str(text: &str) -> Result<Self, InvalidBackoff> {
        let invalid = |_| InvalidBackoff(text.to_owned());
        match text.split_once("..") {
            None => Ok(Self::constant(duration::parse(text).map_err(invalid)?)),
            Some((first, cap)) => {
                Self::exponential(duration::parse(first).map_err(invalid)?, duration::parse(cap).map_err(invalid)?)
            }
        }
    }
}

impl TryFrom<String> for Backoff {
    type Error = InvalidBackoff;
    fn try_from(text: String) -> Result<Self, InvalidBackoff> {
        text.parse()
    }
}

impl From<Backoff> for String {
    fn from(backoff: Backoff) -> Self {
        backoff.to_string()
    }
}

/// The text is no backoff.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no backoff: write the first and the longest delay, such as \"2s..1h\", or one delay, such as \"30s\""
)]
pub struct InvalidBackoff(pub String);

/// The delays that have a queue of their own, shortest first. Any delay is made of them, so that no
/// message waits behind one with a longer delay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Tiers(Vec<Duration>);

impl Default for Tiers {
    fn default() -> Self {
        Self([1, 5, 30, 120, 600, 3_600].map(Duration::from_secs).into())
    }
}

impl Tiers {
    /// Tiers of these delays.
    ///
    /// # Errors
    /// [`InvalidTiers`] when there is none, one is zero, over 20 days, or not longer than the one before.
    pub fn new(delays: Vec<Duration>) -> Result<Self, InvalidTiers> {
        let longest = Duration::from_secs(20 * 86_400);
        let rising = delays.windows(2).all(|pair| pair[0] < pair[1]);
        if delays.is_empty() || !rising || delays.iter().any(|delay| delay.is_zero() || *delay > longest) {
            return Err(InvalidTiers);
        }
        Ok(Self(delays))
    }

    /// The delays, shortest first.
    pub fn iter(&self) -> impl Iterator<Item = Duration> + '_ {
        self.0.iter().copied()
    }

    /// The tier for the next step of a delay with `left` to go: the longest that is not beyond it, or the
    /// shortest there is.
    ///
    /// A tier may be beyond it by a twentieth, at most a second: a delay of an hour of which a millisecond has gone
    /// by takes the tier of an hour, instead of a dozen steps to be on time to the millisecond.
    pub fn step(&self, left: Duration) -> Duration {
        let reach = left + (left / 20).min(Duration::from_secs(1));
        let fitting = self.0.iter().rev().find(|tier| **tier <= reach);
        fitting.or(self.0.first()).copied().unwrap_or_default()
    }
}

impl TryFrom<Vec<String>> for Tiers {
    type Error = String;
    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        let delays = texts.iter().map(|text| duration::parse(text)).collect::<Result<_, _>>();
        Self::new(delays.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    }
}

impl From<Tiers> for Vec<String> {
    fn from(tiers: Tiers) -> Self {
        tiers.iter().map(duration::format).collect()
    }
}

/// The delays do not make tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "retry tiers must be at least one delay, each longer than the one before and at most 20 days, such as [\"1s\", \"30s\", \"10m\"]"
)]
pub struct InvalidTiers;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let backoff: Backoff = "2s..10s".parse().unwrap();
        assert_eq!([1, 2, 3, 4, 99].map(|n| backoff.bound_after(n).as_secs()), [2, 4, 8, 10, 10]);
        assert_eq!(backoff.to_string(), "2s..10s");
        assert_eq!("30s".parse::<Backoff>().unwrap().delay_after(5), Duration::from_secs(30));
        assert!("10s..2s".parse::<Backoff>().is_err());
    }

    proptest! {
        #[test]
        fn any_delay_is_made_of_a_few_tiers_and_never_cut_short(seconds in 0_u64..100_000) {
            let tiers = Tiers::default();
            let mut left = Duration::from_secs(seconds);
            let mut hops = 0;
            while !left.is_zero() {
                left = left.saturating_sub(tiers.step(left));
                hops += 1;
            }
            prop_assert!(hops <= 28 + 5 + 4 + 3 + 5 + 4);
        }

        #[test]
        fn jitter_stays_within_the_bound(attempt in 1_u32..200) {
            let backoff = Backoff::default();
            prop_assert!(backoff.delay_after(attempt) <= backoff.bound_after(attempt));
        }
    }

    #[test]
    fn a_delay_of_a_tier_of_which_a_little_has_gone_by_is_one_step() {
        let step = |left_ms| Tiers::default().step(Duration::from_millis(left_ms)).as_secs();
        assert_eq!([3_599_990, 3_598_000, 4_900, 4_500, 10].map(step), [3_600, 600, 5, 1, 1]);
    }

    #[test]
    fn tiers_must_rise() {
        assert!(Tiers::try_from(vec!["5s".to_owned(), "1s".to_owned()]).is_err());
        assert!(Tiers::try_from(Vec::new()).is_err());
    }
}
