//! One run of a schedule.

use leveret_common::{clock::UnixMillis, task::TaskId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ScheduleName;

/// One run of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick {
    /// The time that the expression names. With the schedule's name it is the tick's identity.
    pub scheduled_at: UnixMillis,
    /// When it is due: later by its jitter.
    pub due_at: UnixMillis,
}

/// Why there is a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "centre", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TickKind {
    /// The schedule named it.
    #[default]
    Tick,
    /// A person wanted it now.
    Now,
    /// A person asked for the ticks of a past range.
    Backfill,
}

impl TickKind {
    /// As it is stored, and part of a task's id.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Now => "now",
            Self::Backfill => "backfill",
        }
    }
}

/// What the message of a tick is made of besides the definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The schedule.
    pub schedule: ScheduleName,
    /// The time that the expression names.
    pub scheduled_at: UnixMillis,
    /// Why there is a tick.
    pub kind: TickKind,
    /// Which tick of the schedule it is, from 1 on.
    pub number: i64,
    /// When the task of a tick last succeeded.
    pub last_success: Option<UnixMillis>,
    /// Arguments in place of the definition's.
    pub payload: Option<Value>,
}

impl Facts {
    /// The id of the task: it follows from schedule, time and kind, so that a tick that is published twice can be told.
    /// A [tick](TickKind::Tick) in the default namespace has the id that the cron producer without a store gives it.
    pub fn task_id(&self) -> TaskId {
        let (name, at) = (self.schedule.to_string(), self.scheduled_at.to_string());
        match self.kind {
            TickKind::Tick => TaskId::derived(&["schedule", &name, &at]),
            kind => TaskId::derived(&["schedule", &name, &at, kind.as_str()]),
        }
    }
}
