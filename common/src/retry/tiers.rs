//! The tiers of queues that any delay is made of.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;

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
