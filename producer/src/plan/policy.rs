//! What becomes of ticks that cannot run as they were meant to.

use serde::{Deserialize, Serialize};

/// What becomes of ticks that were missed: no centre ran, or none could decide, when they were due. All within the
/// schedule's catch-up window; what is older is missed whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "centre", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// None of them runs.
    Skip,
    /// The latest runs, once.
    #[default]
    Latest,
    /// All run, oldest first, up to the schedule's `missed_limit`; of more than that the latest.
    All,
}

/// What becomes of a tick whose predecessor has not ended. It is looked at over the whole cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "centre", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// It runs beside it.
    #[default]
    Allow,
    /// It is skipped.
    Skip,
    /// It waits; of several that wait only the first runs, the others are skipped.
    BufferOne,
    /// It waits, behind all that wait already.
    BufferAll,
    /// The one that runs is told to stop, by a cancel, and this one runs once it has ended.
    CancelRunning,
    /// The one that runs is told to stop, and this one runs at once.
    TerminateRunning,
}
