//! Ticks: what was decided about each, and those that a person asks for.

use leveret_common::{clock::UnixMillis, task::TaskId};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    AuditEntry, Expected, Page, ScheduleError, Store, StoredSchedule,
    rows::{self, NewMessage, NewTick},
    schedules,
};
use crate::{
    centre::database::{DatabaseError, Row},
    plan::{Calendar, Facts, Overlap, Plan, ScheduleName, TickKind},
};

/// How far a tick is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TickState {
    /// It waits until others have ended.
    Buffered,
    /// It is to be published.
    Pending,
    /// The broker has its task.
    Published,
    /// A worker was seen running it.
    Running,
    /// Its task is done.
    Done,
    /// Its task is a dead letter.
    Dead,
    /// Its task was cancelled.
    Cancelled,
    /// Nothing was heard of its task for too long.
    Lost,
    /// It was not run, for another had not ended.
    Skipped,
    /// It was not run, for nobody could decide or publish it in time.
    Missed,
}

impl TickState {
    const ALL: [Self; 10] = [
        Self::Buffered,
        Self::Pending,
        Self::Published,
        Self::Running,
        Self::Done,
        Self::Dead,
        Self::Cancelled,
        Self::Lost,
        Self::Skipped,
        Self::Missed,
    ];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Pending => "pending",
            Self::Published => "published",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
        }
    }

    /// Whether nothing becomes of it any more.
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Buffered | Self::Pending | Self::Published | Self::Running)
    }

    pub(crate) fn read(row: &Row, column: &str) -> Result<Self, DatabaseError> {
        let text = row.text(column)?;
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| DatabaseError::Json(serde::de::Error::custom(format!("{text:?} is no state of a tick"))))
    }
}

/// What was decided about a tick, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickRecord {
    /// The schedule.
    pub schedule: ScheduleName,
    /// The time that the expression names.
    pub scheduled_at: UnixMillis,
    /// Why there is a tick.
    pub kind: TickKind,
    /// Which tick of the schedule it is.
    pub number: i64,
    /// Its task, whether published or not.
    pub task_id: TaskId,
    /// How far it is.
    pub state: TickState,
    /// Why it was skipped or missed, or how its task failed.
    pub reason: Option<String>,
    /// How many ticks this stands for, from this one on: missed ones are put together.
    pub count: i64,
    /// When it was decided about.
    pub decided_at: UnixMillis,
    /// When the broker had its task.
    pub published_at: Option<UnixMillis>,
    /// When its task ended, or it was not to be run.
    pub ended_at: Option<UnixMillis>,
}

impl TickRecord {
    fn read(row: &Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            schedule: schedules::read_name(row, "namespace", "schedule")?,
            scheduled_at: row.moment("scheduled_at")?,
            kind: read_kind(row, "kind")?,
            number: row.number("number")?,
            task_id: read_id(row)?,
            state: TickState::read(row, "state")?,
            reason: row.maybe_text("reason")?,
            count: row.number("count")?,
            decided_at: row.moment("decided_at")?,
            published_at: row.maybe_moment("published_at")?,
            ended_at: row.maybe_moment("ended_at")?,
        })
    }
}

pub(crate) fn read_kind(row: &Row, column: &str) -> Result<TickKind, DatabaseError> {
    Ok(match row.text(column)?.as_str() {
        "now" => TickKind::Now,
        "backfill" => TickKind::Backfill,
        _ => TickKind::Tick,
    })
}

const HISTORY: &str =
    "SELECT namespace, schedule, scheduled_at, kind, number, task_id, state, reason, count, decided_at,
    published_at, ended_at FROM leveret_centre_ticks
    WHERE namespace = $1 AND schedule = $2 AND (scheduled_at, kind) < ($3, $4)
    ORDER BY scheduled_at DESC, kind DESC LIMIT $5";
/// By the index that old rows are forgotten by.
const SINCE: &str = "SELECT namespace, schedule, scheduled_at, kind, number, task_id, state, reason, count, decided_at,
    published_at, ended_at FROM leveret_centre_ticks WHERE decided_at >= $1 ORDER BY decided_at DESC LIMIT $2";
/// A backfill takes no more ticks than this at once.
const MOST_BACKFILLED: u32 = 10_000;

impl Store {
    /// The ticks of a schedule, latest first, from `cursor` on, at most `limit`. They outlive the schedule.
    ///
    /// # Errors
    /// [`ScheduleError::Cursor`], [`ScheduleError::Database`].
    pub async fn ticks(
        &self,
        name: &ScheduleName,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<TickRecord>, ScheduleError> {
        let wrong = |cursor: &str| ScheduleError::Cursor { cursor: cursor.to_owned() };
        let (at, kind) = match cursor {
            None => (i64::MAX, ""),
            Some(cursor) => {
                let (at, kind) = cursor.split_once(':').ok_or_else(|| wrong(cursor))?;
                (at.parse().map_err(|_| wrong(cursor))?, kind)
            }
        };
        let mut values = schedules::key(name);
        values.extend([at.into(), kind.into(), (i64::from(limit) + 1).into()]);
        let rows = self.database.fetch(HISTORY, values).await?;
        let items = rows.iter().map(TickRecord::read).collect::<Result<_, DatabaseError>>()?;
        Ok(Page::of(items, limit, |last: &TickRecord| format!("{}:{}", last.scheduled_at, last.kind.as_str())))
    }

    /// The ticks of all schedules that were decided about from `since` on, at most `limit`, the latest first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn ticks_since(&self, since: UnixMillis, limit: u32) -> Result<Vec<TickRecord>, DatabaseError> {
        let rows = self.database.fetch(SINCE, [since.into(), limit.into()]).await?;
        rows.iter().map(TickRecord::read).collect()
    }

    /// Runs a schedule now, paused or not, with other arguments if some are given. Where its runs may not overlap it waits
    /// for those that have not ended; it is never skipped. Its own ticks stay as they are. The task's id, which the change
    /// is written down with.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub async fn run_schedule_now(
        &self,
        name: &ScheduleName,
        payload: Option<Json>,
        calendars: &[Calendar],
        change: Option<&AuditEntry>,
    ) -> Result<TaskId, ScheduleError> {
        payload.as_ref().map(Plan::check_payload).transpose()?;
        let mut transaction = self.database.begin().await?;
        let schedule = schedules::there(name, schedules::lock(&mut transaction, name).await?, Expected::Any)?;
        let plan = Plan::new(name.clone(), schedule.definition.clone(), calendars)?;
        let now = self.clock.now();
        let mut at = now;
        loop {
            let facts = facts(&schedule, at, TickKind::Now, payload.clone());
            let (tick, message) = self.asked_for(&plan, &schedule, &facts, now)?;
            if !rows::insert_ticks(&mut transaction, std::slice::from_ref(&tick)).await?.is_empty() {
                rows::insert_messages(&mut transaction, [&message]).await?;
                self.record_tasks(&mut transaction, &[message.record()]).await?;
                let result = ("task_id", tick.task_id.as_str().into());
                self.note(&mut transaction, change, Some(result)).await?;
                transaction.commit().await?;
                self.wake();
                return Ok(tick.task_id);
            }
            // It has been asked for twice within a millisecond.
            at = at + std::time::Duration::from_millis(1);
        }
    }

    /// Runs the ticks from `from` up to `until` that the schedule names, oldest first and at most `limit` (and 10,000),
    /// whether they ran at their time or not. Where its runs may not overlap they run one after another; none is skipped.
    /// How many there are, which the change is written down with; those that were backfilled before do not count.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub async fn backfill_schedule(
        &self,
        name: &ScheduleName,
        from: UnixMillis,
        until: UnixMillis,
        limit: u32,
        calendars: &[Calendar],
        change: Option<&AuditEntry>,
    ) -> Result<usize, ScheduleError> {
        let mut transaction = self.database.begin().await?;
        let schedule = schedules::there(name, schedules::lock(&mut transaction, name).await?, Expected::Any)?;
        let plan = Plan::new(name.clone(), schedule.definition.clone(), calendars)?;
        let now = self.clock.now();
        let (mut ticks, mut messages) = (Vec::new(), Vec::new());
        let mut after = from - std::time::Duration::from_millis(1);
        while ticks.len() < usize::try_from(limit.min(MOST_BACKFILLED)).unwrap_or(usize::MAX)
            && let Some(next) = plan.next_after(after).filter(|next| next.scheduled_at <= until)
        {
            after = next.scheduled_at;
            let facts = facts(&schedule, next.scheduled_at, TickKind::Backfill, None);
            let (tick, message) = self.asked_for(&plan, &schedule, &facts, now)?;
            ticks.push(tick);
            messages.push(message);
        }
        let new = rows::insert_ticks(&mut transaction, &ticks).await?;
        messages.retain(|message| new.contains(message.task_id.as_str()));
        rows::insert_messages(&mut transaction, &messages).await?;
        let records: Vec<_> = messages.iter().map(NewMessage::record).collect();
        self.record_tasks(&mut transaction, &records).await?;
        self.note(&mut transaction, change, Some(("ticks", messages.len().into()))).await?;
        transaction.commit().await?;
        self.wake();
        Ok(messages.len())
    }

    /// A tick that a person asks for. Where others have to be looked at it waits for the centre that holds the shard to
    /// let it go.
    fn asked_for(
        &self,
        plan: &Plan,
        schedule: &StoredSchedule,
        facts: &Facts,
        now: UnixMillis,
    ) -> Result<(NewTick, NewMessage), ScheduleError> {
        let stored = plan.message(facts)?.to_stored(&self.clock)?;
        let mut tick = rows::new_tick(plan, facts, schedule.shard, now);
        if tick.lane.is_some() && plan.definition().overlap != Overlap::Allow {
            tick.state = TickState::Buffered;
            tick.cancels = plan.definition().overlap == Overlap::TerminateRunning || tick.cancels;
        }
        let message = NewMessage::of_tick(&tick, now, plan, &stored)?;
        Ok((tick, message))
    }
}

/// What the message of a tick that a person asks for is made of.
pub(crate) fn facts(
    schedule: &StoredSchedule,
    scheduled_at: UnixMillis,
    kind: TickKind,
    payload: Option<Json>,
) -> Facts {
    let (number, last_success) = (schedule.number + 1, schedule.last_success_at);
    Facts { schedule: schedule.name.clone(), scheduled_at, kind, number, last_success, payload }
}

pub(crate) fn read_id(row: &Row) -> Result<TaskId, DatabaseError> {
    let id = row.text("task_id")?;
    id.parse().map_err(|error: leveret_common::wire::TooLong| DatabaseError::Json(serde::de::Error::custom(error)))
}
