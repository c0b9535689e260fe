//! Letting go of what is old, by one centre at a time and a little at a time.

use std::time::Duration;

use leveret_common::duration;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{events::chain, workers::MEMORY};
use crate::centre::{
    database::DatabaseError,
    store::{Store, tasks::TaskRetention},
};

/// The duty's name.
const DUTY: &str = "retention";
/// Rows that go in one statement, and the pause after it.
const BATCH: u32 = 500;
const PAUSE: Duration = Duration::from_millis(50);

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Tasks that have ended. Default 7 days.
    #[serde(with = "duration")]
    pub tasks: Duration,
    /// How many of them at most, and how many of those that have not ended and are published; the last to change are kept.
    /// Default 1,000,000.
    pub most_tasks: u32,
    /// Tasks that have not ended and of which nothing is heard any more. Default 30 days.
    #[serde(with = "duration")]
    pub silent_tasks: Duration,
    /// Ticks of schedules that have ended. Default 30 days.
    #[serde(with = "duration")]
    pub ticks: Duration,
    /// How many of them at most. Default 1,000,000.
    pub most_ticks: u32,
    /// The audit log. Default 365 days.
    #[serde(with = "duration")]
    pub audit: Duration,
    /// How many entries of it at most. Default 1,000,000.
    pub most_audit: u32,
    /// How often it is looked for what is too old. Default 1 min.
    #[serde(with = "duration")]
    pub every: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self {
            tasks: days(7),
            most_tasks: 1_000_000,
            silent_tasks: days(30),
            ticks: days(30),
            most_ticks: 1_000_000,
            audit: days(365),
            most_audit: 1_000_000,
            every: Duration::from_secs(60),
        }
    }
}

pub(super) struct Keeping {
    pub(super) store: Store,
    pub(super) retention: Retention,
    /// This centre, as the holder of the duty.
    pub(super) centre: String,
    pub(super) stop: CancellationToken,
}

impl Keeping {
    pub(super) async fn run(self) {
        let mut regularly = interval(self.retention.every.max(Duration::from_millis(100)));
        regularly.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = regularly.tick() => {}
            }
            match self.let_go().await {
                Ok(0) => {}
                Ok(rows) => debug!(rows, "let go of what was too old"),
                Err(error) => warn!("what is too old cannot be let go of: {}", chain(&error)),
            }
        }
        let _ = self.store.leave_duty(DUTY, &self.centre).await;
    }

    /// Lets go of all that is too old, if it is this centre's turn. How many rows that were.
    async fn let_go(&self) -> Result<u64, DatabaseError> {
        let mut gone = 0;
        loop {
            // Longer than a round takes, and looked at again after each.
            let lasts = self.retention.every.saturating_mul(2).max(Duration::from_secs(30));
            if self.stop.is_cancelled() || !self.store.take_duty(DUTY, &self.centre, lasts).await? {
                return Ok(gone);
            }
            let (rows, most) = self.round().await?;
            gone += rows;
            if most < u64::from(BATCH) {
                return Ok(gone);
            }
            sleep(PAUSE).await;
        }
    }

    /// At most a batch of each kind. How many rows in all, and of the most frequent kind.
    async fn round(&self) -> Result<(u64, u64), DatabaseError> {
        let (store, keep, now) = (&self.store, &self.retention, self.store.clock().now());
        let tasks = TaskRetention {
            ended_before: now - keep.tasks,
            silent_before: now - keep.silent_tasks,
            most: keep.most_tasks,
        };
        let counts = [
            store.retain_tasks(&tasks, BATCH).await?,
            store.retain_ticks(now - keep.ticks, keep.most_ticks, BATCH).await?,
            store.retain_audit(now - keep.audit, keep.most_audit, BATCH).await?,
            store.forget_workers(now - MEMORY, BATCH).await?,
        ];
        Ok((counts.iter().sum(), counts.into_iter().max().unwrap_or_default()))
    }
}
