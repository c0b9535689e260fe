//! What a failed attempt does to the tasks behind it.

use std::time::Duration;

/// The longest that a shard with an order waits for a task that failed.
pub const HOLD_AT_MOST: Duration = Duration::from_secs(30);

/// What becomes of a task that failed and is to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// It stays where it is, unacknowledged, and so does all that is behind it in its shard; after this time it runs
    /// again. The number of its attempt is kept in this worker alone: when the worker is lost, the task begins anew with
    /// the attempt that its message says.
    Hold(Duration),
    /// It goes to a tier, and its place is lost: tasks of its key that come after it may run before it.
    Move,
}

/// Decides it: a short backoff is waited for where there is an order to keep.
pub fn after_failure(ordered: bool, backoff: Duration) -> AfterFailure {
    if ordered && backoff <= HOLD_AT_MOST { AfterFailure::Hold(backoff) } else { AfterFailure::Move }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_backoff_holds_a_shard_and_only_one_with_an_order() {
        assert_eq!(after_failure(true, HOLD_AT_MOST), AfterFailure::Hold(HOLD_AT_MOST));
        assert_eq!(after_failure(true, HOLD_AT_MOST + Duration::from_millis(1)), AfterFailure::Move);
        assert_eq!(after_failure(false, Duration::ZERO), AfterFailure::Move);
    }
}
