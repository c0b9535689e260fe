//! Whether a failed task is tried again, and when.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::Backoff;
use crate::clock::UnixMillis;

/// Whether a failed task is tried again, and when.
///
/// A task says so with `#[task(retries = 5, backoff = "2s..1h", give_up_after = "1day")]`, a message with its headers,
/// a worker with its policy; the message goes before the task, and the task before the worker.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. Default 8.
    pub max_attempts: u32,
    /// The delays. Default `2s..1h`.
    pub backoff: Backoff,
    /// How long after its first failure a task may still be tried: an attempt that would begin later is not made.
    /// Default: as long as there are attempts.
    pub give_up_after: Option<Duration>,
    /// Kinds of failures, by their `leveret-error-kind`, after which trying again is of no use: `panic`, `timeout`,
    /// `error`. Default: none.
    pub fatal_kinds: Vec<String>,
    /// What decides where the above does not suffice. Default: nothing.
    pub decide: Option<Decide>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 8,
            backoff: Backoff::default(),
            give_up_after: None,
            fatal_kinds: Vec::new(),
            decide: None,
        }
    }
}

impl RetryPolicy {
    /// Sets how often a failed task is tried again after the first attempt.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.max_attempts = retries.saturating_add(1);
        self
    }

    /// Sets the delays between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long after its first failure a task may still be tried.
    #[must_use]
    pub fn give_up_after(mut self, limit: Duration) -> Self {
        self.give_up_after = Some(limit);
        self
    }

    /// Sets the kinds of failures after which trying again is of no use, such as `["panic", "timeout"]`.
    #[must_use]
    pub fn fatal_kinds<K: Into<String>>(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        self.fatal_kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// Lets a function decide upon each failure. The limits hold whatever it says; a function that panics decides
    /// nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use leveret_common::retry::{Retry, RetryPolicy};
    /// let policy = RetryPolicy::default().decide(|failed| match failed.error {
    ///     error if error.contains("no such mailbox") => Retry::Dead,
    ///     error if error.contains("greylisted") => Retry::After(Duration::from_secs(600)),
    ///     _ => Retry::AsUsual,
    /// });
    /// ```
    #[must_use]
    pub fn decide(mut self, decide: impl Fn(&Failed<'_>) -> Retry + Send + Sync + 'static) -> Self {
        self.decide = Some(Decide(Arc::new(decide)));
        self
    }

    /// The delay before the next attempt; `None` when there is to be none, so that the task is dead.
    pub fn next(&self, failed: &Failed<'_>) -> Option<Duration> {
        if failed.attempt >= self.max_attempts || self.fatal_kinds.iter().any(|kind| kind == failed.kind) {
            return None;
        }
        let delay = match self.decide.as_ref().map_or(Retry::AsUsual, |decide| decide.call(failed)) {
            Retry::AsUsual => failed.asked.unwrap_or_else(|| self.backoff.delay_after(failed.attempt)),
            Retry::After(delay) => delay,
            Retry::Dead => return None,
        };
        let tried = failed.at.since(failed.first_failed_at.unwrap_or(failed.at));
        match self.give_up_after {
            Some(limit) if tried.saturating_add(delay) > limit => None,
            _ => Some(delay),
        }
    }
}

/// A failed attempt, as it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed<'a> {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The kind of the failure, as in the header `leveret-error-kind`: `error`, `panic`, `timeout`.
    pub kind: &'a str,
    /// What happened, for people.
    pub error: &'a str,
    /// The delay that the error itself asks for.
    pub asked: Option<Duration>,
    /// When the task first failed; `None` when that is now.
    pub first_failed_at: Option<UnixMillis>,
    /// When this attempt failed.
    pub at: UnixMillis,
}

/// What a function decides upon a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// What would be done without the function.
    AsUsual,
    /// Try again after this time.
    After(Duration),
    /// Do not try again.
    Dead,
}

/// A function that decides upon failures; see [`RetryPolicy::decide`]. Two are equal if one is a clone of the other.
#[derive(Clone)]
pub struct Decide(Arc<dyn Fn(&Failed<'_>) -> Retry + Send + Sync>);

impl Decide {
    fn call(&self, failed: &Failed<'_>) -> Retry {
        catch_unwind(AssertUnwindSafe(|| (self.0)(failed))).unwrap_or_else(|_| {
            tracing::error!("the function that decides on retries panicked, the backoff is used");
            Retry::AsUsual
        })
    }
}

impl PartialEq for Decide {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Decide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decide")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn failed(attempt: u32, kind: &'static str, at_seconds: i64) -> Failed<'static> {
        let first_failed_at = (attempt > 1).then_some(UnixMillis(0));
        Failed { attempt, kind, error: "no such luck", asked: None, first_failed_at, at: UnixMillis(at_seconds * 1000) }
    }

    fn policy() -> RetryPolicy {
        RetryPolicy::default().retries(3).backoff(Backoff::constant(MINUTE))
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        assert_eq!([1, 3, 4, 5].map(|n| policy().next(&failed(n, "error", 0)).is_some()), [true, true, false, false]);
    }

    #[test]
    fn no_attempt_begins_after_the_time_limit() {
        let policy = policy().retries(u32::MAX).give_up_after(10 * MINUTE);
        assert_eq!(policy.next(&failed(1, "error", 1_000_000)), Some(MINUTE));
        assert_eq!(policy.next(&failed(9, "error", 540)), Some(MINUTE));
        assert_eq!(policy.next(&failed(9, "error", 541)), None);
    }

    #[test]
    fn what_an_error_asks_for_goes_before_the_backoff_but_not_beyond_the_limits() {
        let asking = |delay| Failed { asked: Some(delay), ..failed(2, "error", 60) };
        assert_eq!(policy().next(&asking(2 * MINUTE)), Some(2 * MINUTE));
        assert_eq!(policy().give_up_after(2 * MINUTE).next(&asking(2 * MINUTE)), None);
    }

    #[test]
    fn some_kinds_of_failures_are_final() {
        let policy = policy().fatal_kinds(["panic"]);
        assert_eq!(["error", "panic"].map(|kind| policy.next(&failed(1, kind, 0)).is_some()), [true, false]);
    }

    #[test]
    fn a_function_may_decide_and_a_panic_in_it_decides_nothing() {
        let policy = policy().decide(|failed| match failed.kind {
            "timeout" => Retry::Dead,
            "error" => Retry::After(Duration::from_secs(7)),
            "odd" => panic!("no"),
            _ => Retry::AsUsual,
        });
        let delays = ["timeout", "error", "odd", "panic"].map(|kind| policy.next(&failed(1, kind, 0)));
        assert_eq!(delays, [None, Some(Duration::from_secs(7)), Some(MINUTE), Some(MINUTE)]);
        assert_eq!(policy.next(&failed(4, "error", 0)), None);
        assert_eq!(policy, policy.clone());
    }
}
