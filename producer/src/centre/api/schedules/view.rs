//! Schedules as they are answered.

use leveret_common::clock::UnixMillis;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::moment::Moment;
use crate::{
    centre::store::{Source, StoredSchedule, TickRecord},
    plan::{Definition, Plan, Tick, TickKind},
    schedule::{ClockMark, FireTime},
};

/// Who made a schedule.
#[derive(Clone, Copy, Debug, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Maker {
    /// A table of `leveret.toml`: what is changed here is changed back when that is applied again.
    File,
    /// This interface.
    Api,
}

impl From<Source> for Maker {
    fn from(source: Source) -> Self {
        if source == Source::File { Self::File } else { Self::Api }
    }
}

impl From<Maker> for Source {
    fn from(maker: Maker) -> Self {
        match maker {
            Maker::File => Self::File,
            Maker::Api => Self::Api,
        }
    }
}

/// A tick that is to come.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NextTick {
    /// The time that the expression names.
    scheduled_at: Moment,
    /// When it is due: later by its jitter.
    due_at: Moment,
}

impl From<Tick> for NextTick {
    fn from(tick: Tick) -> Self {
        Self { scheduled_at: tick.scheduled_at.into(), due_at: tick.due_at.into() }
    }
}

/// A schedule, and what it has done so far.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Schedule {
    /// Its namespace.
    namespace: String,
    /// Its name.
    name: String,
    /// As it was written.
    definition: Definition,
    /// Raised with each change by a person: the ETag.
    pub(super) revision: i64,
    /// Who made it.
    source: Maker,
    /// Why it is paused; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<String>,
    /// The next tick; absent while it is paused, when it has ended, or while a fixed delay waits for its run to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<NextTick>,
    /// How many ticks there have been.
    ticks: i64,
    /// How many there may still be; absent is without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_left: Option<i64>,
    /// Failures in a row.
    failures: i64,
    /// The last tick.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_tick_at: Option<Moment>,
    /// When the task of a tick last succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_at: Option<Moment>,
    /// When it was made.
    created_at: Moment,
    /// When a person last changed it.
    changed_at: Moment,
}

impl From<StoredSchedule> for Schedule {
    fn from(stored: StoredSchedule) -> Self {
        Self {
            namespace: stored.name.namespace().to_owned(),
            name: stored.name.name().to_owned(),
            definition: stored.definition,
            revision: stored.revision,
            source: stored.source.into(),
            paused: stored.paused,
            next: stored.next.map(Into::into),
            ticks: stored.number,
            runs_left: stored.runs_left,
            failures: stored.failures,
            last_tick_at: stored.last_tick_at.map(Into::into),
            last_success_at: stored.last_success_at.map(Into::into),
            created_at: stored.created_at.into(),
            changed_at: stored.changed_at.into(),
        }
    }
}

/// What there is to know about the clock at a time.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Clock {
    /// It was put forward since the time before in the list.
    PutForward,
    /// It was put back since the time before in the list.
    PutBack,
    /// This local time comes twice, and this is the first.
    FirstPass,
    /// This local time comes twice, and this is the second.
    SecondPass,
}

/// A time at which a schedule runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Time {
    /// The moment.
    at: Moment,
    /// The local time with its offset from UTC.
    #[schema(example = "2026-11-01T01:30:00-04:00")]
    local: String,
    /// The zone's abbreviation then.
    #[schema(example = "EDT")]
    zone: String,
    /// What there is to know about the clock; absent when that is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<Clock>,
    /// When it is due: later by its jitter.
    due_at: Moment,
}

impl From<FireTime> for Time {
    fn from(time: FireTime) -> Self {
        let clock = time.clock.map(|mark| match mark {
            ClockMark::PutForward => Clock::PutForward,
            ClockMark::PutBack => Clock::PutBack,
            ClockMark::FirstPass => Clock::FirstPass,
            ClockMark::SecondPass => Clock::SecondPass,
        });
        Self { at: time.at.into(), local: time.local, zone: time.zone, clock, due_at: time.due_at.into() }
    }
}

/// What a definition comes to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Preview {
    /// The next times.
    times: Vec<Time>,
    /// What is not wrong but should be known.
    warnings: Vec<String>,
}

impl Preview {
    pub(super) fn of(plan: &Plan, after: UnixMillis, count: u32, now: UnixMillis) -> Self {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Self { times: plan.preview(count, after).into_iter().map(Into::into).collect(), warnings: plan.warnings(now) }
    }
}

/// What a save came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SavedSchedule {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// The revision now; of a dry run, the one there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<i64>,
    /// Whether there was none of that name.
    pub(super) is_new: bool,
    /// Whether anything changed: what is saved as it is already stays at its revision.
    pub(super) has_changed: bool,
    /// Whether nothing was saved, for it was only asked what would come of it.
    pub(super) dry_run: bool,
    /// The next times.
    #[serde(flatten)]
    pub(super) preview: Preview,
}

/// What was decided about a tick, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct TickView {
    /// The time that the expression names.
    scheduled_at: Moment,
    /// Why there is a tick.
    kind: TickKind,
    /// Which tick of the schedule it is.
    number: i64,
    /// Its task, whether published or not.
    task_id: String,
    /// How far it is.
    #[schema(example = "done")]
    state: &'static str,
    /// Why it was skipped or missed, or how its task failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How many ticks this stands for, from this one on: missed ones are put together.
    count: i64,
    /// When it was decided about.
    decided_at: Moment,
    /// When the broker had its task.
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<Moment>,
    /// When its task ended, or it was not to be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Moment>,
}

impl From<TickRecord> for TickView {
    fn from(tick: TickRecord) -> Self {
        Self {
            scheduled_at: tick.scheduled_at.into(),
            kind: tick.kind,
            number: tick.number,
            task_id: tick.task_id.to_string(),
            state: tick.state.as_str(),
            reason: tick.reason,
            count: tick.count,
            decided_at: tick.decided_at.into(),
            published_at: tick.published_at.map(Into::into),
            ended_at: tick.ended_at.map(Into::into),
        }
    }
}
