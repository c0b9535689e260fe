//! What holds for one kind of task at a worker.

use std::time::Duration;

use leveret_common::retry::{Backoff, RetryPolicy};

/// What holds for one kind of task at a worker, unless a message says otherwise.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskPolicy {
    /// How often it is tried, and how long it waits in between. Default: eight attempts, `2s..1h`.
    pub retry: RetryPolicy,
    /// How long one attempt may run; then its future is dropped, or its command killed with all its children.
    /// Default 10 min.
    pub timeout: Duration,
    /// After how long the attempt's cancellation token is cancelled, so that the handler can tidy up before the
    /// timeout. Default: none, the timeout comes unannounced.
    pub soft_timeout: Option<Duration>,
    /// How long an attempt may go without [`heartbeat`](crate::context::Context::heartbeat) or progress before it is
    /// taken to hang, and is ended as if out of time. Default: for ever.
    pub heartbeat: Option<Duration>,
    /// Whether it may run for longer than the broker leaves a delivery unacknowledged. Its message is then held by a
    /// lease that is renewed while it runs. Default false.
    pub long: bool,
}

impl Default for TaskPolicy {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(600),
            soft_timeout: None,
            heartbeat: None,
            long: false,
        }
    }
}

impl TaskPolicy {
    /// Sets how often a failed task is tried again after the first attempt.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retry.max_attempts = retries.saturating_add(1);
        self
    }

    /// Sets the delays between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.retry.backoff = backoff;
        self
    }

    /// Sets how often it is tried, how long it waits in between and when it is given up.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how long one attempt may run.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets after how long the handler is told to come to an end. Under the timeout, or it has no effect.
    #[must_use]
    pub fn soft_timeout(mut self, soft_timeout: Duration) -> Self {
        self.soft_timeout = Some(soft_timeout);
        self
    }

    /// Sets how long an attempt may go without a heartbeat.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// Sets whether it may run for longer than the broker leaves a delivery unacknowledged.
    #[must_use]
    pub fn long(mut self, long: bool) -> Self {
        self.long = long;
        self
    }
}
