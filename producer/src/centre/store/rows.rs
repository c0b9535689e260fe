//! Ticks and messages on their way into the tables, many at once.

use std::collections::{BTreeMap, HashSet};

use leveret_common::{clock::UnixMillis, message::StoredMessage, task::TaskId};

use super::{TickState, message, tasks};
use crate::{
    centre::database::{DatabaseError, Transaction, Value, Wording},
    plan::{Facts, Overlap, Plan, ScheduleName, TickKind},
};

/// A statement over rows that come in as `$1`, a JSON array of arrays. A value is `rows.value ->> <its place>`, which
/// has to be cast where it is to be a number.
macro_rules! over_rows {
    ($before:literal, $after:literal) => {
        $crate::centre::database::Wording::Each(
            concat!($before, " json_each($1) AS rows ", $after),
            concat!($before, " jsonb_array_elements(CAST($1 AS jsonb)) AS rows(value) ", $after),
        )
    };
}
pub(crate) use over_rows;

/// A new row of the ticks.
#[derive(Clone, Debug)]
pub(crate) struct NewTick {
    pub(crate) schedule: ScheduleName,
    pub(crate) scheduled_at: UnixMillis,
    pub(crate) kind: TickKind,
    pub(crate) shard: i64,
    pub(crate) lane: Option<String>,
    pub(crate) priority: i64,
    pub(crate) cancels: bool,
    pub(crate) number: i64,
    pub(crate) task_id: TaskId,
    pub(crate) queue: String,
    pub(crate) state: TickState,
    pub(crate) reason: Option<String>,
    pub(crate) count: i64,
    pub(crate) decided_at: UnixMillis,
    pub(crate) lost_after: i64,
}

/// A new row of the outbox.
#[derive(Clone, Debug)]
pub(crate) struct NewMessage {
    pub(crate) task_id: TaskId,
    pub(crate) shard: i64,
    pub(crate) due_at: UnixMillis,
    pub(crate) try_at: Option<UnixMillis>,
    pub(crate) claimed: bool,
    pub(crate) give_up_at: Option<UnixMillis>,
    pub(crate) namespace: String,
    /// Of a tick: its schedule, the time it is scheduled for, and its kind.
    pub(crate) tick: Option<(String, UnixMillis, TickKind)>,
    pub(crate) task: String,
    pub(crate) queue: String,
    pub(crate) message: String,
    pub(crate) created_at: UnixMillis,
    /// Names and values by which its task is found, which are in the message as well.
    pub(crate) labels: BTreeMap<String, String>,
}

const INSERT_TICKS: Wording = over_rows!(
    "INSERT INTO leveret_centre_ticks (namespace, schedule, scheduled_at, kind, shard, lane, priority, cancels, number,
        task_id, queue, state, reason, count, decided_at, lost_after, ended_at)
     SELECT rows.value ->> 0, rows.value ->> 1, CAST(rows.value ->> 2 AS BIGINT), rows.value ->> 3,
        CAST(rows.value ->> 4 AS BIGINT), rows.value ->> 5, CAST(rows.value ->> 6 AS BIGINT),
        CAST(rows.value ->> 7 AS BIGINT), CAST(rows.value ->> 8 AS BIGINT), rows.value ->> 9, rows.value ->> 10,
        rows.value ->> 11, rows.value ->> 12, CAST(rows.value ->> 13 AS BIGINT), CAST(rows.value ->> 14 AS BIGINT),
        CAST(rows.value ->> 15 AS BIGINT), CAST(rows.value ->> 16 AS BIGINT)
     FROM",
    "WHERE true ON CONFLICT (namespace, schedule, scheduled_at, kind) DO NOTHING"
);
const KNOWN_TICKS: Wording = over_rows!(
    "SELECT task_id FROM leveret_centre_ticks JOIN",
    "ON namespace = rows.value ->> 0 AND schedule = rows.value ->> 1
        AND scheduled_at = CAST(rows.value ->> 2 AS BIGINT) AND kind = rows.value ->> 3"
);

const INSERT_MESSAGES: Wording = over_rows!(
    "INSERT INTO leveret_centre_outbox (task_id, shard, due_at, try_at, claimed, give_up_at, namespace, schedule,
        scheduled_at, kind, task, queue, message, created_at)
     SELECT rows.value ->> 0, CAST(rows.value ->> 1 AS BIGINT), CAST(rows.value ->> 2 AS BIGINT),
        CAST(rows.value ->> 3 AS BIGINT), CAST(rows.value ->> 4 AS BIGINT), CAST(rows.value ->> 5 AS BIGINT),
        rows.value ->> 6, rows.value ->> 7, CAST(rows.value ->> 8 AS BIGINT), rows.value ->> 9, rows.value ->> 10,
        rows.value ->> 11, rows.value ->> 12, CAST(rows.value ->> 13 AS BIGINT)
     FROM",
    "WHERE true ON CONFLICT (task_id) DO NOTHING"
);

impl NewMessage {
    /// The message of a tick. What is not published once the schedule's catch-up window is over is given up.
    pub(crate) fn of_tick(
        tick: &NewTick,
        due_at: UnixMillis,
        plan: &Plan,
        stored: &StoredMessage,
    ) -> Result<Self, DatabaseError> {
        let waits = tick.state == TickState::Buffered;
        let from = if tick.kind == TickKind::Tick { due_at } else { tick.decided_at };
        Ok(Self {
            task_id: tick.task_id.clone(),
            shard: tick.shard,
            due_at,
            try_at: (!waits).then_some(tick.decided_at),
            claimed: false,
            // One that waits for others may wait for as long as they take.
            give_up_at: (!waits).then(|| from + plan.definition().catch_up),
            namespace: tick.schedule.namespace().to_owned(),
            tick: Some((tick.schedule.name().to_owned(), tick.scheduled_at, tick.kind)),
            task: stored.task.clone(),
            queue: stored.queue.clone(),
            message: message::to_column(stored)?,
            created_at: tick.decided_at,
            labels: tasks::labels(stored),
        })
    }
}

/// Writes ticks down. The task ids of those that are new: what was decided before stays as it was decided.
pub(crate) async fn insert_ticks(
    transaction: &mut Transaction,
    ticks: &[NewTick],
) -> Result<HashSet<String>, DatabaseError> {
    if ticks.is_empty() {
        return Ok(HashSet::new());
    }
    let ended = |tick: &NewTick| tick.state.is_end().then_some(tick.decided_at);
    // Too many for a tuple.
    let rows = ticks.iter().map(|tick| {
        serde_json::json!([
            tick.schedule.namespace(),
            tick.schedule.name(),
            tick.scheduled_at,
            tick.kind.as_str(),
            tick.shard,
            tick.lane,
            tick.priority,
            i64::from(tick.cancels),
            tick.number,
            tick.task_id,
            tick.queue,
            tick.state.as_str(),
            tick.reason,
            tick.count,
            tick.decided_at,
            tick.lost_after,
            ended(tick),
        ])
    });
    // A row that comes back costs more than one that goes in: those come back that were there, which is hardly any.
    let keys = ticks
        .iter()
        .map(|tick| (tick.schedule.namespace(), tick.schedule.name(), tick.scheduled_at, tick.kind.as_str()));
    let known = transaction.fetch(KNOWN_TICKS, [Value::json(&keys.collect::<Vec<_>>())?]).await?;
    let mut new: HashSet<_> = ticks.iter().map(|tick| tick.task_id.to_string()).collect();
    for row in known {
        new.remove(&row.text("task_id")?);
    }
    transaction.execute(INSERT_TICKS, [Value::json(&rows.collect::<Vec<_>>())?]).await?;
    Ok(new)
}

/// Writes messages down, unless they are there.
pub(crate) async fn insert_messages<'a>(
    transaction: &mut Transaction,
    messages: impl IntoIterator<Item = &'a NewMessage>,
) -> Result<(), DatabaseError> {
    let rows = messages.into_iter().map(|message| {
        let (schedule, scheduled_at, kind) = match &message.tick {
            Some((schedule, at, kind)) => (Some(schedule), Some(at), Some(kind.as_str())),
            None => (None, None, None),
        };
        (
            &message.task_id,
            message.shard,
            message.due_at,
            message.try_at,
            i64::from(message.claimed),
            message.give_up_at,
            &message.namespace,
            schedule,
            scheduled_at,
            kind,
            &message.task,
            &message.queue,
            &message.message,
            message.created_at,
        )
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    transaction.execute(INSERT_MESSAGES, [Value::json(&rows)?]).await.map(drop)
}

/// A tick that is to be published, unless its state is changed.
pub(crate) fn new_tick(plan: &Plan, facts: &Facts, shard: i64, decided_at: UnixMillis) -> NewTick {
    let definition = plan.definition();
    NewTick {
        schedule: facts.schedule.clone(),
        scheduled_at: facts.scheduled_at,
        kind: facts.kind,
        shard,
        lane: super::lane(plan.name(), definition),
        priority: definition.priority.unwrap_or_default().into(),
        cancels: definition.overlap == Overlap::CancelRunning,
        number: facts.number,
        task_id: facts.task_id(),
        queue: definition.queue.clone(),
        state: TickState::Pending,
        reason: None,
        count: 1,
        decided_at,
        lost_after: i64::try_from(definition.lost_after.as_millis()).unwrap_or(i64::MAX),
    }
}
