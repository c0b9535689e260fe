//! The one clock: the system's, or one that a test holds still.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A moment as Unix time in milliseconds, the unit of every time in Leveret's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// How long from `earlier` to `self`; zero when `self` is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The moment in RFC 3339, or the bare number when no calendar reaches it.
    pub fn to_rfc3339(self) -> String {
        chrono::DateTime::from_timestamp_millis(self.0)
            .map_or_else(|| self.0.to_string(), |at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for UnixMillis {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the time comes from. Cheap to clone; all clones of a held clock move together.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Held(Arc<watch::Sender<UnixMillis>>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `at` until [`Clock::advance`] or [`Clock::set`] moves it.
    pub fn held(at: UnixMillis) -> Self {
        Self(Source::Held(Arc::new(watch::Sender::new(at))))
    }

    /// The present moment.
    pub fn now(&self) -> UnixMillis {
        match &self.0 {
            Source::System => UnixMillis(
                // A system clock before 1970 reads as 1970: wrong, but no reason to stop.
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            ),
            Source::Held(now) => *now.borrow(),
        }
    }

    /// Waits until the clock shows `at` or later.
    ///
    /// The system's clock is looked at again at least every 30 s, so that a step of the clock or a
    /// suspended machine delays the caller by no more than that.
    pub async fn sleep_until(&self, at: UnixMillis) {
        match &self.0 {
            Source::System => loop {
                let left = at.since(self.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Duration::from_secs(30))).await;
            },
            Source::Held(now) => {
                // The sender lives as long as `self`, so waiting can only end by reaching `at`.
                let _ = now.subscribe().wait_for(|now| *now >= at).await;
            }
        }
    }

    /// Moves a held clock forward; does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Held(now) = &self.0 {
            now.send_modify(|now| *now = *now + by);
        }
    }

    /// Puts a held clock to `at`, forward or back; does nothing to the system's.
    pub fn set(&self, at: UnixMillis) {
        if let Source::Held(now) = &self.0 {
            now.send_replace(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_held_clock_wakes_sleepers_only_when_moved_far_enough() {
        let clock = Clock::held(UnixMillis(1_000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(UnixMillis(3_000)).await;
                clock.now()
            }
        });
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        assert_eq!(sleeper.await.unwrap(), UnixMillis(3_000));
        clock.set(UnixMillis(500));
        assert_eq!(clock.now(), UnixMillis(500));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(UnixMillis(i64::MAX) + Duration::MAX, UnixMillis(i64::MAX));
        assert_eq!(UnixMillis(5).since(UnixMillis(9)), Duration::ZERO);
        assert_eq!(UnixMillis(0).to_rfc3339(), "1970-01-01T00:00:00.000Z");
    }
}
