//! The delays between the attempts of a task.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The delays between the attempts of a task: which bound each has, and how it is drawn below that bound.
///
/// As text, in `leveret.toml`, in `#[task(backoff = "…")]` and in the header `leveret-backoff`:
///
/// | text | delays | drawn |
/// |---|---|---|
/// | `2s..1h` | 2 s, then twice the one before, up to 1 h | between zero and the bound |
/// | `2s..1h x3` | 2 s, then three times the one before, up to 1 h | between zero and the bound |
/// | `linear 10s..5m` | 10 s, 20 s, 30 s and so on, up to 5 min | between zero and the bound |
/// | `1s,5s,30s` | these, and from then on the last | not at all |
/// | `30s` | the same each time | not at all |
///
/// `full`, `equal` or `none` at the end chooses the [`Jitter`]: `2s..1h equal`, `30s full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Backoff {
    pub(super) delays: Delays,
    pub(super) jitter: Jitter,
}

/// How a delay is drawn below its bound, so that tasks which failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Between zero and the bound.
    Full,
    /// Between half of the bound and the bound.
    Equal,
    /// The bound itself.
    None,
}

/// The bounds of the delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delays {
    Constant(Duration),
    Exponential { first: Duration, cap: Duration, factor: u8 },
    Linear { first: Duration, cap: Duration },
    List(List),
}

/// Delays one after another, in milliseconds. It has its place in the value itself, so that a backoff can be copied
/// and be a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    length: u8,
    milliseconds: [u32; Backoff::MOST_IN_LIST],
}

impl List {
    pub(super) fn iter(&self) -> impl Iterator<Item = Duration> + '_ {
        let used = self.milliseconds.get(..self.length.into()).unwrap_or_default();
        used.iter().map(|milliseconds| Duration::from_millis((*milliseconds).into()))
    }
}

impl Default for Backoff {
    /// `2s..1h`.
    fn default() -> Self {
        Self::exponential(Duration::from_secs(2), Duration::from_secs(3_600))
    }
}

impl Backoff {
    /// The most delays that a list has.
    pub const MOST_IN_LIST: usize = 16;
    /// The longest delay in a list: 30 days.
    pub const LONGEST_IN_LIST: Duration = Duration::from_secs(30 * 86_400);
    /// The largest factor by which delays grow.
    pub const LARGEST_FACTOR: u8 = 100;

    /// Delays that double from `first` up to `cap`, with full jitter. A `cap` that is not beyond `first` gives the
    /// same delay each time, without jitter.
    #[must_use]
    pub const fn exponential(first: Duration, cap: Duration) -> Self {
        if cap.as_nanos() <= first.as_nanos() {
            return Self::constant(first);
        }
        Self { delays: Delays::Exponential { first, cap, factor: 2 }, jitter: Jitter::Full }
    }

    /// Delays that grow by `first` each time, up to `cap`, with full jitter. A `cap` that is not beyond `first` gives
    /// the same delay each time, without jitter.
    #[must_use]
    pub const fn linear(first: Duration, cap: Duration) -> Self {
        if cap.as_nanos() <= first.as_nanos() {
            return Self::constant(first);
        }
        Self { delays: Delays::Linear { first, cap }, jitter: Jitter::Full }
    }

    /// The same delay each time, without jitter.
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self { delays: Delays::Constant(delay), jitter: Jitter::None }
    }

    /// These delays, and from then on the last, without jitter. There are 1 to 16, which the compiler checks. Each is
    /// rounded up to a millisecond, and is 30 days if it was longer.
    #[must_use]
    pub const fn list<const N: usize>(delays: [Duration; N]) -> Self {
        const { assert!(N >= 1 && N <= Self::MOST_IN_LIST, "a backoff has a list of 1 to 16 delays") };
        Self::of_slice(&delays)
    }

    /// The first delays of a slice, as many as there is room for.
    pub(super) const fn of_slice(delays: &[Duration]) -> Self {
        let mut list = List { length: 0, milliseconds: [0; Self::MOST_IN_LIST] };
        while (list.length as usize) < delays.len() && (list.length as usize) < Self::MOST_IN_LIST {
            let delay = delays[list.length as usize];
            let rounded = delay.as_nanos().div_ceil(1_000_000);
            let longest = Self::LONGEST_IN_LIST.as_millis();
            list.milliseconds[list.length as usize] = if rounded < longest { rounded as u32 } else { longest as u32 };
            list.length += 1;
        }
        if list.length <= 1 {
            return Self::constant(Duration::from_millis(list.milliseconds[0] as u64));
        }
        Self { delays: Delays::List(list), jitter: Jitter::None }
    }

    /// Sets by how much exponential delays grow each time, from 2 to 100. Default 2. Others stay as they are.
    #[must_use]
    pub const fn factor(mut self, factor: u8) -> Self {
        if let Delays::Exponential { first, cap, .. } = self.delays {
            let factor = match factor {
                0..=2 => 2,
                factor if factor > Self::LARGEST_FACTOR => Self::LARGEST_FACTOR,
                factor => factor,
            };
            self.delays = Delays::Exponential { first, cap, factor };
        }
        self
    }

    /// Sets how a delay is drawn below its bound. Default: full where delays grow, none where they are given.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The delay after attempt number `attempt` (from 1) has failed.
    pub fn delay_after(&self, attempt: u32) -> Duration {
        let bound = self.bound_after(attempt);
        match self.jitter {
            Jitter::Full => bound.mul_f64(fastrand::f64()),
            Jitter::Equal => {
                let half = bound / 2;
                half.saturating_add(half.mul_f64(fastrand::f64())).min(bound)
            }
            Jitter::None => bound,
        }
    }

    /// The most that [`delay_after`](Self::delay_after) can give.
    pub fn bound_after(&self, attempt: u32) -> Duration {
        let failures = attempt.saturating_sub(1);
        match self.delays {
            Delays::Constant(delay) => delay,
            Delays::Exponential { first, cap, factor } => {
                grown(first, u128::from(factor).saturating_pow(failures), cap)
            }
            Delays::Linear { first, cap } => grown(first, u128::from(failures).saturating_add(1), cap),
            Delays::List(list) => {
                let at =
                    usize::try_from(failures).unwrap_or(usize::MAX).min(usize::from(list.length).saturating_sub(1));
                list.iter().nth(at).unwrap_or_default()
            }
        }
    }
}

/// So many times as long, at most `cap`.
fn grown(first: Duration, times: u128, cap: Duration) -> Duration {
    let nanoseconds = first.as_nanos().saturating_mul(times).min(cap.as_nanos());
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::from_secs(seconds) + Duration::from_nanos((nanoseconds % 1_000_000_000) as u64)
}

impl Delays {
    /// The jitter where none is named.
    pub(super) const fn jitter(&self) -> Jitter {
        match self {
            Self::Exponential { .. } | Self::Linear { .. } => Jitter::Full,
            Self::Constant(_) | Self::List(_) => Jitter::None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bounds(text: &str) -> [u64; 6] {
        let backoff: Backoff = text.parse().unwrap();
        [0, 1, 2, 3, 4, u32::MAX].map(|attempt| backoff.bound_after(attempt).as_secs())
    }

    #[test]
    fn each_shape_has_its_bounds() {
        assert_eq!(bounds("2s..10s"), [2, 2, 4, 8, 10, 10]);
        assert_eq!(bounds("2s..1h x3"), [2, 2, 6, 18, 54, 3_600]);
        assert_eq!(bounds("linear 10s..35s"), [10, 10, 20, 30, 35, 35]);
        assert_eq!(bounds("1s,5s,30s"), [1, 1, 5, 30, 30, 30]);
        assert_eq!(bounds("30s"), [30; 6]);
        // However short the first delay is, it doubles until the cap is reached.
        assert_eq!("1ns..1h".parse::<Backoff>().unwrap().bound_after(43).as_secs(), 3_600);
    }

    #[test]
    fn a_backoff_can_be_a_constant() {
        const SECONDS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
        const LIST: Backoff = Backoff::list(SECONDS).jitter(Jitter::Equal);
        const CUBE: Backoff = Backoff::exponential(SECONDS[0], SECONDS[2]).factor(3);
        assert_eq!((LIST.to_string().as_str(), CUBE.to_string().as_str()), ("1s,5s,30s equal", "1s..30s x3"));
        // It is a part of every message that is read.
        assert_eq!(size_of::<Option<Backoff>>(), 80);
        assert_eq!(Backoff::list([Duration::from_micros(1), Duration::MAX]).to_string(), "1ms,30days");
        assert_eq!(Backoff::list([Duration::from_secs(1)]), Backoff::constant(Duration::from_secs(1)));
        assert_eq!(Backoff::exponential(SECONDS[2], SECONDS[0]), Backoff::constant(SECONDS[2]));
    }

    /// Any backoff that there can be.
    pub(crate) fn any_backoff() -> impl Strategy<Value = Backoff> {
        let length = || any::<(u64, u32)>().prop_map(|(seconds, nanos)| Duration::new(seconds >> (nanos % 64), nanos));
        let shape = prop_oneof![
            length().prop_map(Backoff::constant),
            (length(), length(), any::<u8>()).prop_map(|(a, b, factor)| Backoff::exponential(a, b).factor(factor)),
            (length(), length()).prop_map(|(a, b)| Backoff::linear(a, b)),
            proptest::collection::vec(length(), 1..20).prop_map(|delays| Backoff::of_slice(&delays)),
        ];
        let jitter = prop_oneof![Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::None)];
        (shape, proptest::option::of(jitter)).prop_map(|(backoff, jitter)| match jitter {
            Some(jitter) => backoff.jitter(jitter),
            None => backoff,
        })
    }

    proptest! {
        #[test]
        fn a_delay_is_drawn_between_its_bounds(backoff in any_backoff(), attempt in prop_oneof![0_u32..200, any::<u32>()]) {
            let (delay, bound) = (backoff.delay_after(attempt), backoff.bound_after(attempt));
            let least = match backoff.jitter {
                Jitter::Full => Duration::ZERO,
                Jitter::Equal => bound / 2,
                Jitter::None => bound,
            };
            prop_assert!(least <= delay && delay <= bound, "{} after {}: {:?} of {:?}", backoff, attempt, delay, bound);
        }

        #[test]
        fn bounds_of_delays_that_grow_never_shrink(backoff in any_backoff(), attempt in 1_u32..u32::MAX) {
            if !matches!(backoff.delays, Delays::List(_)) {
                prop_assert!(backoff.bound_after(attempt) <= backoff.bound_after(attempt + 1));
            }
        }

        #[test]
        fn a_backoff_is_read_as_it_was_written(backoff in any_backoff()) {
            prop_assert_eq!(backoff.to_string().parse::<Backoff>(), Ok(backoff));
        }
    }
}
