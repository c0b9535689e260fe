//! A fixed rate: `every = "10s"`.

use std::{fmt, time::Duration};

use leveret_common::{clock::UnixMillis, duration};

use super::error::ExpressionError;

/// A fixed rate. The ticks are the multiples of the period since 1970-01-01T00:00:00Z, so that all producers agree on
/// them, however often each was restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    period_ms: i64,
}

impl Every {
    /// The shortest period.
    pub const SHORTEST: Duration = Duration::from_millis(100);
    /// The longest period, ten years. What is rarer than that is a mistake.
    pub const LONGEST: Duration = Duration::from_secs(3_653 * 86_400);

    /// A tick every `period`, a whole number of milliseconds from [`Every::SHORTEST`] to [`Every::LONGEST`].
    ///
    /// # Errors
    /// [`ExpressionError::Period`] when the period is too short, too long or not whole.
    pub fn new(period: Duration) -> Result<Self, ExpressionError> {
        let fits = (Self::SHORTEST..=Self::LONGEST).contains(&period);
        match i64::try_from(period.as_millis()) {
            Ok(period_ms) if fits && period.subsec_nanos().is_multiple_of(1_000_000) => Ok(Self { period_ms }),
            _ => Err(ExpressionError::Period { period }),
        }
    }

    /// The time from one tick to the next.
    pub fn period(self) -> Duration {
        Duration::from_millis(self.period_ms.unsigned_abs())
    }

    pub(super) fn next_after(self, after: UnixMillis) -> Option<UnixMillis> {
        let ticks = after.0.max(-1).div_euclid(self.period_ms) + 1;
        ticks.checked_mul(self.period_ms).map(UnixMillis)
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::format(self.period()))
    }
}
