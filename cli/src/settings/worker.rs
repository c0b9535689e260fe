//! The `[worker]` table.

use std::{collections::BTreeMap, time::Duration};

use leveret::{
    Backoff, QueueName, RetryPolicy, TaskPolicy,
    common::{duration, registry::DEFAULT_BEAT},
    worker::{builder::DEFAULT_GRACE, options::DEFAULT_CONCURRENCY},
};
use serde::{Deserialize, Serialize};

use super::once::OnceSettings;

/// What `leveret worker` consumes from, and what holds for tasks that say nothing themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WorkerSettings {
    /// Name in logs, in the console and on dead letters. Default: host name and process id.
    pub(crate) name: Option<String>,
    /// Tasks that run at once per queue, where `queues` does not say. Default 16.
    pub(crate) concurrency: usize,
    /// Queues to consume from, and how many tasks of each run at once. Default: the queues of `[tasks]`.
    pub(crate) queues: BTreeMap<QueueName, usize>,
    /// Deliveries per queue that may be here unsettled. Default: from the concurrency.
    pub(crate) prefetch: Option<u16>,
    /// How long running tasks may go on after the worker was told to stop. Default 30 s.
    #[serde(with = "duration")]
    pub(crate) grace: Duration,
    /// How often a failed task is tried again. Default 7.
    pub(crate) retries: u32,
    /// The delays between attempts. Default `2s..1h`.
    pub(crate) backoff: Backoff,
    /// How long after its first failure a task may still be tried. Default: as long as there are attempts.
    #[serde(with = "duration::option")]
    pub(crate) give_up_after: Option<Duration>,
    /// How long one attempt may run. Default 10 min.
    #[serde(with = "duration")]
    pub(crate) timeout: Duration,
    /// Its share relative to other workers, where a queue's route is `weighted`. Default 1.
    pub(crate) weight: u32,
    /// How often it says that it is alive; it counts as lost after three. Default 2 s.
    #[serde(with = "duration")]
    pub(crate) beat: Duration,
    /// Where it is kept what is done, so that it is not done again: `memory`, `sqlite:FILE`, or the URL of a PostgreSQL or
    /// Redis. Default: nowhere.
    pub(crate) once: Option<OnceSettings>,
    /// `[worker.pools.<name>]`: queues that share their runners.
    pub(crate) pools: BTreeMap<String, PoolSettings>,
}

/// A `[worker.pools.<name>]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolSettings {
    /// Tasks of all its queues together that run at once.
    pub(crate) concurrency: usize,
    /// The queues, and their weights.
    pub(crate) queues: BTreeMap<QueueName, u32>,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        let RetryPolicy { max_attempts, backoff, give_up_after, .. } = RetryPolicy::default();
        Self {
            name: None,
            concurrency: DEFAULT_CONCURRENCY,
            queues: BTreeMap::new(),
            prefetch: None,
            grace: DEFAULT_GRACE,
            retries: max_attempts.saturating_sub(1),
            backoff,
            give_up_after,
            timeout: TaskPolicy::default().timeout,
            weight: 1,
            beat: DEFAULT_BEAT,
            once: None,
            pools: BTreeMap::new(),
        }
    }
}

impl WorkerSettings {
    /// Checks what the types cannot; an error is the path of the key and what is wrong there.
    pub(super) fn check(&self) -> Result<(), (Vec<String>, String)> {
        let wrong = |path: &[&str], text: String| Err((path.iter().map(ToString::to_string).collect(), text));
        let fits = |concurrency| (1..=usize::from(u16::MAX)).contains(&concurrency);
        if !fits(self.concurrency) {
            return wrong(
                &["concurrency"],
                format!("{} tasks at once cannot be run: write 1 to 65535", self.concurrency),
            );
        }
        if let Some((name, concurrency)) = self.queues.iter().find(|(_, concurrency)| !fits(**concurrency)) {
            let text = format!("{concurrency} tasks at once cannot be run: write 1 to 65535");
            return wrong(&["queues", name.as_str()], text);
        }
        for (name, pool) in &self.pools {
            if !fits(pool.concurrency) {
                let text = format!("{} tasks at once cannot be run: write 1 to 65535", pool.concurrency);
                return wrong(&["pools", name, "concurrency"], text);
            }
            if pool.queues.is_empty() {
                return wrong(&["pools", name, "queues"], "a pool has at least one queue: name it".to_owned());
            }
        }
        if self.beat.is_zero() {
            return wrong(&["beat"], "a worker cannot beat all the time: write a length such as \"2s\"".to_owned());
        }
        if self.prefetch == Some(0) {
            let text = "a prefetch of 0 means no limit to the broker: write 1 to 65535, or remove it";
            return wrong(&["prefetch"], text.to_owned());
        }
        if self.timeout.is_zero() {
            return wrong(
                &["timeout"],
                "a timeout of zero leaves a task no time: write a length such as \"10m\"".to_owned(),
            );
        }
        Ok(())
    }

    /// What holds for tasks that say nothing themselves.
    pub(crate) fn policy(&self) -> TaskPolicy {
        let mut retry = RetryPolicy::default().retries(self.retries).backoff(self.backoff);
        retry.give_up_after = self.give_up_after;
        TaskPolicy::default().retry(retry).timeout(self.timeout)
    }
}
