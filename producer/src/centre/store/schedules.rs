//! Schedules: one at a time, as a person changes them.

use leveret_common::clock::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{AuditEntry, ScheduleError, Store, held, message, shards::shard_of_schedule};
use crate::{
    centre::database::{DatabaseError, Row, Transaction, Value, Wording},
    plan::{Calendar, Definition, Facts, Plan, ScheduleName, Tick, TickKind},
};

/// Who made a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A `[schedules.<name>]` table of `leveret.toml`.
    File,
    /// REST.
    Api,
}

impl Source {
    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// What a change expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Anything, or nothing.
    Any,
    /// No schedule of this name.
    Absent,
    /// The schedule at this revision, its ETag.
    Revision(i64),
}

/// A schedule as it is in the database.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSchedule {
    /// Its name.
    pub name: ScheduleName,
    /// As it was written.
    pub definition: Definition,
    /// Raised with each change by a person, from 1 on: the ETag.
    pub revision: i64,
    /// Who made it.
    pub source: Source,
    /// Why it is paused; `None` when it is not.
    pub paused: Option<String>,
    /// The next tick; `None` while it is paused, when it has ended, or while a fixed delay waits for its run to end.
    pub next: Option<Tick>,
    /// How many ticks there have been.
    pub number: i64,
    /// How many there may still be; `None` is without end.
    pub runs_left: Option<i64>,
    /// Failures in a row.
    pub failures: i64,
    /// The last tick.
    pub last_tick_at: Option<UnixMillis>,
    /// When the task of a tick last succeeded.
    pub last_success_at: Option<UnixMillis>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When a person last changed it.
    pub changed_at: UnixMillis,
    /// Which shard it is in.
    pub shard: i64,
}

/// What a save came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The revision now.
    pub revision: i64,
    /// Whether there was none of that name.
    pub is_new: bool,
    /// Whether anything changed: what is saved as it is already stays at its revision.
    pub has_changed: bool,
    /// The next tick.
    pub next: Option<Tick>,
}

pub(crate) const COLUMNS: &str =
    "namespace, name, shard, revision, source, definition, paused, next_at, next_due, number,
    runs_left, failures, last_tick_at, last_success_at, created_at, changed_at";
const GET: &str = "SELECT namespace, name, shard, revision, source, definition, paused, next_at, next_due, number,
    runs_left, failures, last_tick_at, last_success_at, created_at, changed_at
    FROM leveret_centre_schedules WHERE namespace = $1 AND name = $2";
const LOCK: Wording = Wording::Each(
    GET,
    "SELECT namespace, name, shard, revision, source, definition, paused, next_at, next_due, number,
    runs_left, failures, last_tick_at, last_success_at, created_at, changed_at
    FROM leveret_centre_schedules WHERE namespace = $1 AND name = $2 FOR UPDATE",
);
const INSERT: &str =
    "INSERT INTO leveret_centre_schedules (namespace, name, shard, revision, source, definition, next_at,
    next_due, runs_left, created_at, changed_at) VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $9)";
const REPLACE: &str = "UPDATE leveret_centre_schedules SET shard = $3, revision = revision + 1, source = $4,
    definition = $5, next_at = $6, next_due = $7, runs_left = $8, changed_at = $9 WHERE namespace = $1 AND name = $2";
const DELETE: &str = "DELETE FROM leveret_centre_schedules WHERE namespace = $1 AND name = $2";
/// Ticks that waited for others to end wait for nothing any more.
const SKIP_WAITING: &str = "UPDATE leveret_centre_ticks SET state = 'skipped', reason = $4, ended_at = $3
    WHERE namespace = $1 AND schedule = $2 AND state = 'buffered'";
const PAUSE: &str = "UPDATE leveret_centre_schedules SET paused = $3, next_at = NULL, next_due = NULL,
    revision = revision + 1, changed_at = $4 WHERE namespace = $1 AND name = $2";
const RESUME: &str = "UPDATE leveret_centre_schedules SET paused = NULL, next_at = $3, next_due = $4, failures = 0,
    revision = revision + 1, changed_at = $5 WHERE namespace = $1 AND name = $2";
const IS_OPEN: &str =
    "SELECT 1 AS one FROM leveret_centre_ticks WHERE namespace = $1 AND schedule = $2 AND lane IS NOT NULL
    AND state IN ('buffered', 'pending', 'published', 'running') AND shard = $3 LIMIT 1";

impl Store {
    /// Makes a schedule, or replaces it. What it has done so far stays; its next tick is computed anew if any part of the
    /// definition that it follows from has changed. Its timetable is checked, and that its message could be published.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub async fn save_schedule(
        &self,
        name: &ScheduleName,
        definition: &Definition,
        calendars: &[Calendar],
        source: Source,
        expected: Expected,
        change: Option<&AuditEntry>,
    ) -> Result<Saved, ScheduleError> {
        let plan = Plan::new(name.clone(), definition.clone(), calendars)?;
        let now = self.clock.now();
        probe(&plan, now, self)?;
        let text = Value::json(definition)?;
        let mut transaction = self.database.begin().await?;
        let present = lock(&mut transaction, name).await?;
        expect(name, present.as_ref(), expected)?;
        let runs = definition.runs.map(i64::from);
        let (next, runs_left) = match &present {
            Some(old) if old.definition == *definition && old.source == source => {
                return Ok(Saved { revision: old.revision, is_new: false, has_changed: false, next: old.next });
            }
            Some(old) => {
                let runs_left = if old.definition.runs == definition.runs { old.runs_left } else { runs };
                let next = if old.paused.is_some() || runs_left == Some(0) {
                    None
                } else if has_same_timing(&old.definition, definition) {
                    old.next
                } else {
                    self.first(&mut transaction, &plan, old.shard, now).await?
                };
                (next, runs_left)
            }
            None => (first_tick(&plan, now), runs),
        };
        let mut values = key(name);
        values.extend([shard_of_schedule(name, definition).into(), source.as_str().into(), text]);
        values.extend([next.map(|tick| tick.scheduled_at).into(), next.map(|tick| tick.due_at).into()]);
        values.extend([runs_left.into(), now.into()]);
        let changed = transaction.execute(if present.is_some() { REPLACE } else { INSERT }, values).await;
        if changed.as_ref().is_err_and(DatabaseError::is_conflict) {
            // Another has made it at the same moment.
            return Err(ScheduleError::Changed { name: name.clone(), revision: None });
        }
        changed?;
        self.note(&mut transaction, change, None).await?;
        transaction.commit().await?;
        self.wake();
        let revision = present.as_ref().map_or(1, |old| old.revision + 1);
        Ok(Saved { revision, is_new: present.is_none(), has_changed: true, next })
    }

    /// A schedule.
    ///
    /// # Errors
    /// [`ScheduleError::Absent`], [`ScheduleError::Database`].
    pub async fn schedule(&self, name: &ScheduleName) -> Result<StoredSchedule, ScheduleError> {
        let rows = self.database.fetch(GET, key(name)).await?;
        rows.first().map(read).transpose()?.ok_or_else(|| ScheduleError::Absent { name: name.clone() })
    }

    /// Removes a schedule. Ticks that are to be published already still are; those that waited for others are skipped.
    ///
    /// # Errors
    /// [`ScheduleError::Absent`], [`ScheduleError::Changed`], [`ScheduleError::Database`].
    pub async fn remove_schedule(
        &self,
        name: &ScheduleName,
        expected: Expected,
        change: Option<&AuditEntry>,
    ) -> Result<(), ScheduleError> {
        let mut transaction = self.database.begin().await?;
        there(name, lock(&mut transaction, name).await?, expected)?;
        transaction.execute(DELETE, key(name)).await?;
        let (now, reason) = (self.clock.now(), "the schedule was removed");
        let called_off = held::call_off_waiting(&mut transaction, name, reason, now).await?;
        self.record_tasks(&mut transaction, &called_off).await?;
        let mut values = key(name);
        values.extend([now.into(), reason.into()]);
        transaction.execute(SKIP_WAITING, values).await?;
        self.note(&mut transaction, change, None).await?;
        Ok(transaction.commit().await?)
    }

    /// Pauses a schedule: it has no ticks until it is resumed, and those of that time are not made up for. What it was
    /// paused for before is replaced. The revision now.
    ///
    /// # Errors
    /// [`ScheduleError::Absent`], [`ScheduleError::Changed`], [`ScheduleError::Database`].
    pub async fn pause_schedule(
        &self,
        name: &ScheduleName,
        reason: &str,
        expected: Expected,
        change: Option<&AuditEntry>,
    ) -> Result<i64, ScheduleError> {
        let mut transaction = self.database.begin().await?;
        let old = there(name, lock(&mut transaction, name).await?, expected)?;
        let mut values = key(name);
        values.extend([reason.into(), self.clock.now().into()]);
        transaction.execute(PAUSE, values).await?;
        self.note(&mut transaction, change, None).await?;
        transaction.commit().await?;
        Ok(old.revision + 1)
    }

    /// Resumes a schedule; its next tick is the first after now. One that is not paused stays as it is. The revision now,
    /// and the next tick.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub async fn resume_schedule(
        &self,
        name: &ScheduleName,
        calendars: &[Calendar],
        expected: Expected,
        change: Option<&AuditEntry>,
    ) -> Result<(i64, Option<Tick>), ScheduleError> {
        let mut transaction = self.database.begin().await?;
        let old = there(name, lock(&mut transaction, name).await?, expected)?;
        if old.paused.is_none() {
            return Ok((old.revision, old.next));
        }
        let now = self.clock.now();
        let plan = Plan::new(name.clone(), old.definition.clone(), calendars)?;
        let next =
            if old.runs_left == Some(0) { None } else { self.first(&mut transaction, &plan, old.shard, now).await? };
        let mut values = key(name);
        values.extend([next.map(|tick| tick.scheduled_at).into(), next.map(|tick| tick.due_at).into(), now.into()]);
        transaction.execute(RESUME, values).await?;
        self.note(&mut transaction, change, None).await?;
        transaction.commit().await?;
        self.wake();
        Ok((old.revision + 1, next))
    }

    /// The first tick after now; of a fixed delay only when none of its runs is open: its end brings the next.
    async fn first(
        &self,
        transaction: &mut Transaction,
        plan: &Plan,
        shard: i64,
        now: UnixMillis,
    ) -> Result<Option<Tick>, DatabaseError> {
        if plan.definition().after.is_some() {
            let mut values = key(plan.name());
            values.push(shard.into());
            if !transaction.fetch(IS_OPEN, values).await?.is_empty() {
                return Ok(None);
            }
        }
        Ok(first_tick(plan, now))
    }
}

/// The first tick of a schedule that is made, or begins again, now.
pub(crate) fn first_tick(plan: &Plan, now: UnixMillis) -> Option<Tick> {
    if plan.definition().after.is_some() { plan.after_end(now) } else { plan.next_after(now) }
}

/// A message that cannot be published is to be known when the schedule is saved, not when it ticks.
fn probe(plan: &Plan, now: UnixMillis, store: &Store) -> Result<(), ScheduleError> {
    let schedule = plan.name().clone();
    let facts =
        Facts { schedule, scheduled_at: now, kind: TickKind::Tick, number: 1, last_success: None, payload: None };
    let stored = plan.message(&facts)?.to_stored(&store.clock)?;
    message::to_column(&stored)?;
    Ok(())
}

pub(crate) fn key(name: &ScheduleName) -> Vec<Value> {
    vec![name.namespace().into(), name.name().into()]
}

pub(crate) async fn lock(
    transaction: &mut Transaction,
    name: &ScheduleName,
) -> Result<Option<StoredSchedule>, DatabaseError> {
    transaction.fetch(LOCK, key(name)).await?.first().map(read).transpose()
}

fn expect(name: &ScheduleName, present: Option<&StoredSchedule>, expected: Expected) -> Result<(), ScheduleError> {
    let revision = present.map(|present| present.revision);
    let is_met = match expected {
        Expected::Any => true,
        Expected::Absent => revision.is_none(),
        Expected::Revision(expected) => revision == Some(expected),
    };
    if is_met { Ok(()) } else { Err(ScheduleError::Changed { name: name.clone(), revision }) }
}

/// The schedule, which has to be there, as it was expected.
pub(crate) fn there(
    name: &ScheduleName,
    present: Option<StoredSchedule>,
    expected: Expected,
) -> Result<StoredSchedule, ScheduleError> {
    let present = present.ok_or_else(|| ScheduleError::Absent { name: name.clone() })?;
    expect(name, Some(&present), expected)?;
    Ok(present)
}

pub(crate) fn read(row: &Row) -> Result<StoredSchedule, DatabaseError> {
    let next = row.maybe_moment("next_at")?.zip(row.maybe_moment("next_due")?);
    Ok(StoredSchedule {
        name: read_name(row, "namespace", "name")?,
        definition: row.json("definition")?,
        revision: row.number("revision")?,
        source: if row.text("source")? == Source::File.as_str() { Source::File } else { Source::Api },
        paused: row.maybe_text("paused")?,
        next: next.map(|(scheduled_at, due_at)| Tick { scheduled_at, due_at }),
        number: row.number("number")?,
        runs_left: row.maybe_number("runs_left")?,
        failures: row.number("failures")?,
        last_tick_at: row.maybe_moment("last_tick_at")?,
        last_success_at: row.maybe_moment("last_success_at")?,
        created_at: row.moment("created_at")?,
        changed_at: row.moment("changed_at")?,
        shard: row.number("shard")?,
    })
}

pub(crate) fn read_name(row: &Row, namespace: &str, name: &str) -> Result<ScheduleName, DatabaseError> {
    ScheduleName::new(&row.text(namespace)?, &row.text(name)?)
        .map_err(|error| DatabaseError::Json(serde::de::Error::custom(error)))
}

/// Whether the same ticks follow from both.
fn has_same_timing(one: &Definition, other: &Definition) -> bool {
    let timing = |of: &Definition| {
        let when = (of.cron.clone(), of.quartz.clone(), of.every, of.after, of.at.clone());
        let window = (of.starts_at.clone(), of.ends_at.clone(), of.calendars.clone(), of.jitter, of.runs);
        (when, of.timezone.clone(), of.gap, of.fold, window)
    };
    timing(one) == timing(other)
}
