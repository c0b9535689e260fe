//! Lanes: ticks that look at each other, those that run and those that wait.

use std::collections::{HashMap, HashSet};

use leveret_common::{clock::UnixMillis, task::TaskId};

use super::{
    Store, held, over_rows,
    tasks::TaskRecord,
    ticks::{read_id, read_kind},
};
use crate::{
    centre::database::{DatabaseError, Transaction, Value, Wording},
    plan::TickKind,
};

/// A tick that has not ended, in its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenTick {
    pub(crate) schedule: String,
    pub(crate) scheduled_at: UnixMillis,
    pub(crate) kind: TickKind,
    pub(crate) cancels: bool,
    pub(crate) task_id: TaskId,
    pub(crate) queue: String,
}

/// What is open in a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Those that are published, or will be at once.
    pub(crate) running: Vec<OpenTick>,
    /// Those that wait, the next one first. Of very many only the first.
    pub(crate) waiting: Vec<OpenTick>,
}

/// A lane: its shard, namespace and name.
pub(crate) type LaneKey = (i64, String, String);

const LANES: Wording = over_rows!(
    "SELECT namespace, lane, schedule, scheduled_at, kind, cancels, task_id, queue, state FROM (
        SELECT ticks.*, row_number() OVER (PARTITION BY ticks.namespace, ticks.lane, ticks.state
            ORDER BY ticks.priority DESC, ticks.scheduled_at, ticks.decided_at) AS place
        FROM leveret_centre_ticks AS ticks JOIN",
    "ON ticks.shard = CAST(rows.value ->> 0 AS BIGINT) AND ticks.namespace = rows.value ->> 1
            AND ticks.lane = rows.value ->> 2
        WHERE ticks.lane IS NOT NULL AND ticks.state IN ('buffered', 'pending', 'published', 'running')
     ) AS open WHERE state <> 'buffered' OR place <= 50 ORDER BY place"
);
/// Lanes in which something may have to be done: nobody runs, or those that run have to be told to stop.
const WAITING: Wording = Wording::Each(
    "SELECT DISTINCT shard, namespace, lane FROM leveret_centre_ticks AS waiting
     WHERE state = 'buffered' AND shard IN (SELECT value FROM json_each($1)) AND (cancels = 1 OR NOT EXISTS (
        SELECT 1 FROM leveret_centre_ticks AS open WHERE open.shard = waiting.shard
            AND open.namespace = waiting.namespace AND open.lane = waiting.lane AND open.lane IS NOT NULL
            AND open.state IN ('buffered', 'pending', 'published', 'running') AND open.state <> 'buffered'))",
    "SELECT DISTINCT shard, namespace, lane FROM leveret_centre_ticks AS waiting
     WHERE state = 'buffered'
        AND shard = ANY (SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST($1 AS json)))
        AND (cancels = 1 OR NOT EXISTS (
        SELECT 1 FROM leveret_centre_ticks AS open WHERE open.shard = waiting.shard
            AND open.namespace = waiting.namespace AND open.lane = waiting.lane AND open.lane IS NOT NULL
            AND open.state IN ('buffered', 'pending', 'published', 'running') AND open.state <> 'buffered'))",
);
const LET_GO: Wording = over_rows!(
    "UPDATE leveret_centre_ticks SET state = 'pending' FROM",
    "WHERE task_id = rows.value ->> 0 AND state = 'buffered' RETURNING task_id"
);
const LET_GO_MESSAGE: Wording = over_rows!(
    "UPDATE leveret_centre_outbox SET try_at = $2 FROM",
    "WHERE task_id = rows.value ->> 0 AND try_at IS NULL"
);
const SKIP: Wording = over_rows!(
    "UPDATE leveret_centre_ticks SET state = 'skipped', reason = rows.value ->> 1, ended_at = $2 FROM",
    "WHERE task_id = rows.value ->> 0 AND state = 'buffered' RETURNING task_id"
);
impl Store {
    /// Lanes of these shards in which something may have to be done about those that wait.
    pub(crate) async fn waiting_lanes(&self, shards: &[i64]) -> Result<Vec<LaneKey>, DatabaseError> {
        let rows = self.database.fetch(WAITING, [Value::json(shards)?]).await?;
        rows.iter().map(|row| Ok((row.number("shard")?, row.text("namespace")?, row.text("lane")?))).collect()
    }
}

/// What is open in these lanes.
pub(crate) async fn open(
    transaction: &mut Transaction,
    keys: &HashSet<LaneKey>,
) -> Result<HashMap<(String, String), Lane>, DatabaseError> {
    let mut lanes: HashMap<_, Lane> = HashMap::new();
    for row in transaction.fetch(LANES, [Value::json(keys)?]).await? {
        let tick = OpenTick {
            schedule: row.text("schedule")?,
            scheduled_at: row.moment("scheduled_at")?,
            kind: read_kind(&row, "kind")?,
            cancels: row.flag("cancels")?,
            task_id: read_id(&row)?,
            queue: row.text("queue")?,
        };
        let lane = lanes.entry((row.text("namespace")?, row.text("lane")?)).or_default();
        if row.text("state")? == "buffered" { lane.waiting.push(tick) } else { lane.running.push(tick) }
    }
    Ok(lanes)
}

/// Lets ticks go that waited.
pub(crate) async fn let_go(
    transaction: &mut Transaction,
    ids: &[TaskId],
    now: UnixMillis,
) -> Result<(), DatabaseError> {
    let rows: Vec<_> = ids.iter().map(|id| (id,)).collect();
    let rows = Value::json(&rows)?;
    transaction.fetch(LET_GO, [rows.clone()]).await?;
    transaction.execute(LET_GO_MESSAGE, [rows, now.into()]).await.map(drop)
}

/// Skips ticks that waited, for these reasons. What is to be told of their tasks.
pub(crate) async fn skip(
    transaction: &mut Transaction,
    ticks: &[(TaskId, String)],
    now: UnixMillis,
) -> Result<Vec<TaskRecord>, DatabaseError> {
    let rows = transaction.fetch(SKIP, [Value::json(ticks)?, now.into()]).await?;
    let skipped = rows.iter().map(read_id).collect::<Result<HashSet<_>, _>>()?;
    let skipped: Vec<_> = ticks.iter().filter(|(id, _)| skipped.contains(id)).cloned().collect();
    held::call_off(transaction, &skipped, now).await
}
