//! What becomes of local times that do not exist or exist twice, and how the clock stands at a moment.

use serde::{Deserialize, Serialize};

/// What becomes of a local time that does not exist, for the clock leaps over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "centre", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Gap {
    /// It runs right after the leap; several within one leap are one run. The default of fixed times.
    RunAfter,
    /// It does not run. The default of intervals.
    Skip,
}

/// What becomes of a local time that comes twice, for the clock is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "centre", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Fold {
    /// It runs the first time. The default of fixed times.
    First,
    /// It runs both times. The default of intervals.
    Both,
}

/// What is to be known about the clock on the wall at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockMark {
    /// It was put forward since the moment before in the list.
    #[serde(rename = "put forward")]
    PutForward,
    /// It was put back since the moment before in the list.
    #[serde(rename = "put back")]
    PutBack,
    /// The local time comes twice, and this is the first of the two.
    #[serde(rename = "first pass")]
    FirstPass,
    /// The local time comes twice, and this is the second of the two.
    #[serde(rename = "second pass")]
    SecondPass,
}

impl ClockMark {
    /// In words, as it is serialized.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PutForward => "put forward",
            Self::PutBack => "put back",
            Self::FirstPass => "first pass",
            Self::SecondPass => "second pass",
        }
    }
}
