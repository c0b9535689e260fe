//! The arguments that say which dead letters are meant.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use leveret::{
    UnixMillis,
    common::{dead_letters::Selection, duration},
};

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
    /// Whether no condition is given.
    pub(super) fn is_empty(&self) -> bool {
        self.selection().is_all()
    }

    /// The ids that are asked for.
    pub(super) fn ids(&self) -> &[String] {
        &self.id
    }

    pub(super) fn selection(&self) -> Selection {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = UnixMillis(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX));
        let mut selection = self.id.iter().fold(Selection::all(), |selection, id| selection.id(id));
        if let Some(reason) = &self.reason {
            selection = selection.reason(reason);
        }
        if let Some(task) = &self.task {
            selection = selection.task(task);
        }
        if let Some(error) = &self.error {
            selection = selection.error(error);
        }
        if let Some(age) = self.older_than {
            selection = selection.failed_before(now - age);
        }
        if let Some(age) = self.newer_than {
            selection = selection.failed_after(now - age);
        }
        selection
    }
}
