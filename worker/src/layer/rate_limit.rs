use std::time::Duration;

use futures_util::future::BoxFuture;
use leveret_common::limit::Rate;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::{Layer, Next};
use crate::{context::Context, outcome::Ended};

/// At most so many attempts in a time at this worker, evenly spread. An attempt waits for its turn; if that is more
/// than five seconds away, the task is snoozed until then, and its runner is free for others.
///
/// For a rate across all workers, or by key, see [`WorkerBuilder::limit`](crate::builder::WorkerBuilder::limit).
///
/// ```
/// use leveret_worker::layer::RateLimit;
///
/// let layer = RateLimit::new("100/s burst 20".parse()?);
/// # let _ = layer;
/// # Ok::<(), leveret_common::limit::InvalidRate>(())
/// ```
#[derive(Debug)]
pub struct RateLimit {
    /// From one attempt to the next.
    interval: Duration,
    /// How far ahead of an even pace attempts may be.
    ahead: Duration,
    /// When the next attempt would be due at an even pace.
    next: Mutex<Option<Instant>>,
}

/// The longest that an attempt waits here for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

impl RateLimit {
    /// At most so many attempts in a time.
    pub fn new(rate: Rate) -> Self {
        let ahead = rate.interval().saturating_mul(rate.most_at_once().saturating_sub(1));
        Self { interval: rate.interval(), ahead, next: Mutex::default() }
    }

    /// When the next attempt may begin; it is then taken to. `None` when that is too far away to wait for, with the
    /// time to come back after.
    fn turn(&self, now: Instant) -> Result<Instant, Duration> {
        let mut next = self.next.lock();
        let even = next.filter(|next| *next > now).unwrap_or(now);
        let due = even.checked_sub(self.ahead).map_or(now, |due| due.max(now));
        let wait = due.saturating_duration_since(now);
        if wait > PATIENCE {
            return Err(wait);
        }
        *next = Some(even + self.interval);
        Ok(due)
    }
}

impl Layer for RateLimit {
    fn around<'a>(&'a self, context: &'a Context, next: Next<'a>) -> BoxFuture<'a, Ended> {
        Box::pin(async move {
            match self.turn(Instant::now()) {
                Ok(due) => {
                    sleep_until(due).await;
                    next.run(context).await
                }
                Err(later) => Ok(crate::outcome::Outcome::Snooze(later)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rate: &str) -> RateLimit {
        RateLimit::new(rate.parse().unwrap())
    }

    fn waits(limit: &RateLimit, now: Instant, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| match limit.turn(now) {
                Ok(due) => due.saturating_duration_since(now).as_millis() as u64,
                Err(later) => 100_000 + later.as_millis() as u64,
            })
            .collect()
    }

    #[test]
    fn attempts_are_spread_evenly() {
        let now = Instant::now();
        let limit = limit("10/s");
        assert_eq!(waits(&limit, now, 4), [0, 100, 200, 300]);
        assert_eq!(waits(&limit, now + Duration::from_secs(9), 2), [0, 100]);
    }

    #[test]
    fn a_burst_goes_through_after_a_pause_and_no_more_than_that() {
        let now = Instant::now() + Duration::from_secs(60);
        let limit = limit("10/s burst 3");
        assert_eq!(waits(&limit, now, 5), [0, 0, 0, 100, 200]);
        assert_eq!(waits(&limit, now + Duration::from_secs(60), 4), [0, 0, 0, 100]);
    }

    #[test]
    fn what_would_wait_long_is_to_come_back() {
        let now = Instant::now();
        let limit = limit("1/4s");
        assert_eq!(waits(&limit, now, 4), [0, 4_000, 108_000, 108_000]);
    }
}
