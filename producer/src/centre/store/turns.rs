//! What the engine reads and writes in a turn: each function is one statement over any number of rows.

use std::collections::{BTreeMap, HashSet};

use leveret_common::{clock::UnixMillis, message::StoredMessage, task::TaskId};

use super::{Store, held, message, over_rows, schedules, tasks::TaskRecord, ticks::read_id};
use crate::{
    centre::database::{DatabaseError, Row, Transaction, Value, Wording},
    plan::{Definition, ScheduleName, Tick},
};

/// A schedule whose tick is due soon, without its definition.
#[derive(Clone, Debug)]
pub(crate) struct DueSchedule {
    pub(crate) name: ScheduleName,
    pub(crate) shard: i64,
    pub(crate) revision: i64,
    pub(crate) tick: Tick,
    pub(crate) number: i64,
    pub(crate) runs_left: Option<i64>,
    pub(crate) last_success: Option<UnixMillis>,
}

/// A schedule moves on to its next tick, if nobody has changed it meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Advance {
    pub(crate) name: ScheduleName,
    pub(crate) revision: i64,
    pub(crate) from: UnixMillis,
    pub(crate) next: Option<Tick>,
    pub(crate) runs: i64,
    pub(crate) last_tick_at: Option<UnixMillis>,
}

/// A message that the outbox has given out to be published.
#[derive(Clone, Debug)]
pub(crate) struct ClaimedMessage {
    /// What is told of its task: that it is held.
    pub(crate) record: TaskRecord,
    pub(crate) due_at: UnixMillis,
    pub(crate) tries: i64,
    pub(crate) give_up_at: Option<UnixMillis>,
    /// Of a tick: its schedule.
    pub(crate) schedule: Option<ScheduleName>,
    pub(crate) message: StoredMessage,
}

const DUE_SCHEDULES: Wording = Wording::Each(
    "SELECT namespace, name, shard, revision, next_at, next_due, number, runs_left, last_success_at
     FROM leveret_centre_schedules
     WHERE next_due <= $2 AND shard IN (SELECT value FROM json_each($1)) ORDER BY next_due LIMIT $3",
    "SELECT namespace, name, shard, revision, next_at, next_due, number, runs_left, last_success_at
     FROM leveret_centre_schedules
     WHERE next_due <= $2 AND shard = ANY (SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST($1 AS json)))
     ORDER BY next_due LIMIT $3",
);
/// Of all shards, so that those are counted that no centre holds.
const OVERDUE: &str = "SELECT count(*) AS schedules, min(next_due) AS since FROM (
    SELECT next_due FROM leveret_centre_schedules WHERE next_due <= $1 ORDER BY next_due LIMIT $2) AS overdue";
/// More are not counted, so that it takes no time when there are very many.
const MOST_OVERDUE: i64 = 10_000;
const DUE_MESSAGES: Wording = Wording::Each(
    "SELECT task_id, shard, try_at FROM leveret_centre_outbox
     WHERE try_at <= $2 AND shard IN (SELECT value FROM json_each($1)) ORDER BY try_at LIMIT $3",
    "SELECT task_id, shard, try_at FROM leveret_centre_outbox
     WHERE try_at <= $2 AND shard = ANY (SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST($1 AS json)))
     ORDER BY try_at LIMIT $3",
);
const DEFINITIONS: Wording = over_rows!(
    "SELECT namespace, name, revision, definition FROM leveret_centre_schedules JOIN",
    "ON namespace = rows.value ->> 0 AND name = rows.value ->> 1"
);
const ADVANCE: Wording = over_rows!(
    "UPDATE leveret_centre_schedules SET next_at = CAST(rows.value ->> 4 AS BIGINT),
        next_due = CAST(rows.value ->> 5 AS BIGINT), number = number + CAST(rows.value ->> 6 AS BIGINT),
        runs_left = runs_left - CAST(rows.value ->> 6 AS BIGINT), last_tick_at = coalesce(CAST(rows.value ->> 7 AS BIGINT), last_tick_at)
     FROM",
    "WHERE namespace = rows.value ->> 0 AND name = rows.value ->> 1 AND revision = CAST(rows.value ->> 2 AS BIGINT)
        AND next_at = CAST(rows.value ->> 3 AS BIGINT) AND paused IS NULL"
);
/// Whether they have moved: ticks go forward, so that one which has not is not where it was to go.
const ADVANCED: Wording = over_rows!(
    "SELECT namespace, name FROM leveret_centre_schedules JOIN",
    "ON namespace = rows.value ->> 0 AND name = rows.value ->> 1 AND revision = CAST(rows.value ->> 2 AS BIGINT)
        AND next_at IS NOT DISTINCT FROM CAST(rows.value ->> 4 AS BIGINT) AND paused IS NULL"
);
/// What has been tried, or is being tried, is tried again when nothing has been heard by then.
const CLAIM: Wording = over_rows!(
    "UPDATE leveret_centre_outbox SET claimed = 1, try_at = $2 FROM",
    "WHERE task_id = rows.value ->> 0 AND try_at <= $3
     RETURNING task_id, due_at, tries, give_up_at, namespace, schedule, scheduled_at, task, queue, message, created_at"
);
const REMOVE: Wording = Wording::Each(
    "DELETE FROM leveret_centre_outbox WHERE task_id IN (SELECT value ->> 0 FROM json_each($1))",
    "DELETE FROM leveret_centre_outbox WHERE task_id IN
        (SELECT value ->> 0 FROM json_array_elements(CAST($1 AS json)) AS rows(value))",
);
const PUBLISHED: Wording = over_rows!(
    "UPDATE leveret_centre_ticks SET published_at = CAST(rows.value ->> 1 AS BIGINT),
        state = CASE WHEN state = 'pending' THEN 'published' ELSE state END,
        lost_at = CASE WHEN lane IS NULL THEN NULL ELSE CAST(rows.value ->> 1 AS BIGINT) + lost_after END FROM",
    "WHERE task_id = rows.value ->> 0"
);
const RETRY: Wording = over_rows!(
    "UPDATE leveret_centre_outbox SET try_at = CAST(rows.value ->> 1 AS BIGINT), tries = tries + 1 FROM",
    "WHERE task_id = rows.value ->> 0"
);
const AHEAD: Wording = Wording::Each(
    "SELECT namespace, name, shard, revision, next_at, next_due, number, runs_left, last_success_at
     FROM leveret_centre_schedules WHERE next_due > $2 AND (namespace, name) > ($3, $4)
        AND shard IN (SELECT value FROM json_each($1)) ORDER BY namespace, name LIMIT $5",
    "SELECT namespace, name, shard, revision, next_at, next_due, number, runs_left, last_success_at
     FROM leveret_centre_schedules WHERE next_due > $2 AND (namespace, name) > ($3, $4)
        AND shard = ANY (SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST($1 AS json)))
     ORDER BY namespace, name LIMIT $5",
);

fn due(row: &Row) -> Result<DueSchedule, DatabaseError> {
    Ok(DueSchedule {
        name: schedules::read_name(row, "namespace", "name")?,
        shard: row.number("shard")?,
        revision: row.number("revision")?,
        tick: Tick { scheduled_at: row.moment("next_at")?, due_at: row.moment("next_due")? },
        number: row.number("number")?,
        runs_left: row.maybe_number("runs_left")?,
        last_success: row.maybe_moment("last_success_at")?,
    })
}

impl Store {
    /// Schedules of these shards that are due up to `until`, earliest first.
    pub(crate) async fn due_schedules(
        &self,
        shards: &[i64],
        until: UnixMillis,
        limit: i64,
    ) -> Result<Vec<DueSchedule>, DatabaseError> {
        let rows = self.database.fetch(DUE_SCHEDULES, [Value::json(shards)?, until.into(), limit.into()]).await?;
        rows.iter().map(due).collect()
    }

    /// How many schedules have been due since `before` and longer, of all shards and at most 10,000; and since when the first.
    pub(crate) async fn overdue(&self, before: UnixMillis) -> Result<(u64, Option<UnixMillis>), DatabaseError> {
        let rows = self.database.fetch(OVERDUE, [before.into(), MOST_OVERDUE.into()]).await?;
        let Some(row) = rows.first() else { return Ok((0, None)) };
        Ok((u64::try_from(row.number("schedules")?).unwrap_or_default(), row.maybe_moment("since")?))
    }

    /// Messages of these shards that are to be tried up to `until`, earliest first.
    pub(crate) async fn due_messages(
        &self,
        shards: &[i64],
        until: UnixMillis,
        limit: i64,
    ) -> Result<Vec<(TaskId, i64, UnixMillis)>, DatabaseError> {
        let rows = self.database.fetch(DUE_MESSAGES, [Value::json(shards)?, until.into(), limit.into()]).await?;
        rows.iter().map(|row| Ok((read_id(row)?, row.number("shard")?, row.moment("try_at")?))).collect()
    }

    /// Schedules of these shards, by their names from after `cursor` on, whose next tick is after `after`.
    pub(crate) async fn schedules_ahead(
        &self,
        shards: &[i64],
        after: UnixMillis,
        cursor: (&str, &str),
        limit: i64,
    ) -> Result<Vec<DueSchedule>, DatabaseError> {
        let values = [Value::json(shards)?, after.into(), cursor.0.into(), cursor.1.into(), limit.into()];
        self.database.fetch(AHEAD, values).await?.iter().map(due).collect()
    }

    /// The definitions of these schedules, with their revisions.
    pub(crate) async fn definitions(
        &self,
        names: impl Iterator<Item = &ScheduleName>,
    ) -> Result<Vec<(ScheduleName, i64, Definition)>, DatabaseError> {
        let rows: Vec<_> = names.map(|name| (name.namespace(), name.name())).collect();
        let rows = self.database.fetch(DEFINITIONS, [Value::json(&rows)?]).await?;
        let read = |row: &Row| {
            Ok((schedules::read_name(row, "namespace", "name")?, row.number("revision")?, row.json("definition")?))
        };
        rows.iter().map(read).collect()
    }

    /// Moves schedules on, and nothing else.
    pub(crate) async fn advance_only(&self, advances: &[Advance]) -> Result<(), DatabaseError> {
        let mut transaction = self.database.begin().await?;
        advance(&mut transaction, advances).await?;
        transaction.commit().await
    }
}

/// Moves schedules on. Those that have moved.
pub(crate) async fn advance(
    transaction: &mut Transaction,
    advances: &[Advance],
) -> Result<HashSet<(String, String)>, DatabaseError> {
    let rows = advances.iter().map(|advance| {
        let next = advance.next.map(|next| (next.scheduled_at, next.due_at)).unzip();
        let name = (advance.name.namespace(), advance.name.name());
        (name.0, name.1, advance.revision, advance.from, next.0, next.1, advance.runs, advance.last_tick_at)
    });
    let rows = Value::json(&rows.collect::<Vec<_>>())?;
    let moved = transaction.execute(ADVANCE, [rows.clone()]).await?;
    if usize::try_from(moved).is_ok_and(|moved| moved == advances.len()) {
        let name = |advance: &Advance| (advance.name.namespace().to_owned(), advance.name.name().to_owned());
        return Ok(advances.iter().map(name).collect());
    }
    let rows = transaction.fetch(ADVANCED, [rows]).await?;
    rows.iter().map(|row| Ok((row.text("namespace")?, row.text("name")?))).collect()
}

/// Gives messages out that are to be tried by `now`. Nobody else gets them before `until`.
pub(crate) async fn claim(
    transaction: &mut Transaction,
    ids: &[TaskId],
    now: UnixMillis,
    until: UnixMillis,
) -> Result<Vec<ClaimedMessage>, DatabaseError> {
    let rows: Vec<_> = ids.iter().map(|id| (id,)).collect();
    let rows = transaction.fetch(CLAIM, [Value::json(&rows)?, until.into(), now.into()]).await?;
    let read = |row: &Row| {
        let message = message::from_column(&row.text("message")?)?;
        Ok(ClaimedMessage {
            record: held::read_record(row, &message)?,
            due_at: row.moment("due_at")?,
            tries: row.number("tries")?,
            give_up_at: row.maybe_moment("give_up_at")?,
            schedule: held::read_schedule(row)?,
            message,
        })
    };
    rows.iter().map(read).collect()
}

/// The broker has these, since then.
pub(crate) async fn published(
    transaction: &mut Transaction,
    messages: &[(TaskId, UnixMillis)],
) -> Result<(), DatabaseError> {
    let rows = Value::json(messages)?;
    transaction.execute(REMOVE, [rows.clone()]).await?;
    transaction.execute(PUBLISHED, [rows]).await.map(drop)
}

/// These are tried again then.
pub(crate) async fn retry(
    transaction: &mut Transaction,
    messages: &[(TaskId, UnixMillis)],
) -> Result<(), DatabaseError> {
    transaction.execute(RETRY, [Value::json(messages)?]).await.map(drop)
}

/// Shards with their fences, as they are locked for a turn.
pub(crate) type Fences = BTreeMap<i64, i64>;
