//! The arguments that say which dead letters are meant.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use leveret::{
    QueueName, Rate, UnixMillis,
    common::duration,
    producer::centre::operations::{self, Request},
};

use crate::failure::{Exit, Failure};

/// Conditions on dead letters; all that are given must hold.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which ones")]
pub(super) struct Conditions {
    /// With this task id; may be given several times
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// Dead for this reason: exhausted, timeout, rejected, undecodable, unknown-task, expired, delivery-limit
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Of the task with this name
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// With this text in the error, capital letters or not
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// That failed at least so long ago
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    older_than: Option<Duration>,
    /// That failed no longer ago
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    newer_than: Option<Duration>,
}

impl Conditions {
    /// As a centre takes them, with moments in place of ages.
    pub(super) fn meant(&self) -> operations::Conditions {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = UnixMillis(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX));
        operations::Conditions {
            ids: self.id.iter().cloned().collect(),
            reason: self.reason.clone(),
            task: self.task.clone(),
            error: self.error.clone(),
            failed_before: self.older_than.map(|age| now - age),
            failed_after: self.newer_than.map(|age| now - age),
        }
    }
}

/// Which ones, and in which queue: said outright, for this changes something.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Queue whose dead letters are meant
    #[arg(long, value_name = "NAME", required_unless_present = "lost")]
    pub(super) queue: Option<QueueName>,
    /// The messages that no queue took
    #[arg(long, conflicts_with = "queue")]
    lost: bool,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    conditions: Conditions,
    /// At most this many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Target {
    /// What is asked for.
    pub(super) fn request(&self, rate: Option<Rate>) -> Result<Request, Failure> {
        let only = self.conditions.meant();
        let text = match (self.all, only.is_empty()) {
            (true, true) | (false, false) => return Ok(Request { only, all: self.all, limit: self.limit, rate }),
            (false, true) => "say which are meant: --all, or conditions such as --id, --reason or --task",
            (true, false) => "--all leaves nothing to choose: give --all or conditions, not both",
        };
        Err(Failure::new(Exit::Usage, text))
    }
}
