//! What became of the tasks of ticks.

use std::collections::{BTreeMap, HashSet};

use leveret_common::{clock::UnixMillis, task::TaskId};

use super::{Store, TickState, over_rows, schedules, shards, ticks::read_id};
use crate::{
    centre::database::{DatabaseError, Row, Transaction, Value, Wording},
    plan::{Calendar, Definition, Plan, ScheduleName},
};

/// The task of a tick, perhaps: something became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnded {
    /// The task.
    pub task_id: TaskId,
    /// What became of it.
    pub end: RunEnd,
    /// When.
    pub at: UnixMillis,
}

/// What became of a task in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// It is done.
    Done,
    /// It is dead, with this error.
    Dead(String),
    /// It was cancelled.
    Cancelled,
}

/// The longest error that is kept with a tick, in characters.
const LONGEST_REASON: usize = 1_000;

const END: Wording = over_rows!(
    "UPDATE leveret_centre_ticks SET state = rows.value ->> 1, reason = rows.value ->> 2,
        ended_at = CAST(rows.value ->> 3 AS BIGINT) FROM",
    "WHERE task_id = rows.value ->> 0 AND state IN ('pending', 'published', 'running')
     RETURNING namespace, schedule, kind, task_id, state, reason, ended_at"
);
const HEARD: Wording = over_rows!(
    "UPDATE leveret_centre_ticks SET state = CASE WHEN state = 'published' THEN 'running' ELSE state END,
        lost_at = CAST(rows.value ->> 1 AS BIGINT) + lost_after FROM",
    "WHERE task_id = rows.value ->> 0 AND lane IS NOT NULL AND state IN ('published', 'running')"
);
const LOST: Wording = Wording::Each(
    "UPDATE leveret_centre_ticks SET state = 'lost', reason = 'nothing was heard of its task for too long', ended_at = $2
     WHERE lane IS NOT NULL AND state IN ('published', 'running') AND lost_at <= $2
        AND shard IN (SELECT value FROM json_each($1))
     RETURNING namespace, schedule, kind, task_id, state, reason, ended_at",
    "UPDATE leveret_centre_ticks SET state = 'lost', reason = 'nothing was heard of its task for too long', ended_at = $2
     WHERE lane IS NOT NULL AND state IN ('published', 'running') AND lost_at <= $2
        AND shard = ANY (SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST($1 AS json)))
     RETURNING namespace, schedule, kind, task_id, state, reason, ended_at",
);
const GIVE_UP: Wording = over_rows!(
    "UPDATE leveret_centre_ticks SET state = 'missed', reason = rows.value ->> 1, ended_at = $2 FROM",
    "WHERE task_id = rows.value ->> 0 AND state = 'pending'
     RETURNING namespace, schedule, kind, task_id, state, reason, ended_at"
);
const COUNT: Wording = over_rows!(
    "UPDATE leveret_centre_schedules SET
        failures = CASE WHEN rows.value ->> 2 = '1' THEN 0 ELSE failures END + CAST(rows.value ->> 3 AS BIGINT),
        last_success_at = CASE WHEN CAST(rows.value ->> 4 AS BIGINT) > coalesce(last_success_at, 0)
            THEN CAST(rows.value ->> 4 AS BIGINT) ELSE last_success_at END FROM",
    "WHERE namespace = rows.value ->> 0 AND name = rows.value ->> 1
     RETURNING namespace, name, failures, definition, paused, next_at, runs_left"
);
const PAUSE: &str = "UPDATE leveret_centre_schedules SET paused = $3, next_at = NULL, next_due = NULL,
    revision = revision + 1, changed_at = $4 WHERE namespace = $1 AND name = $2 AND paused IS NULL";
const SET_NEXT: &str = "UPDATE leveret_centre_schedules SET next_at = $3, next_due = $4
    WHERE namespace = $1 AND name = $2 AND next_at IS NULL AND paused IS NULL";

/// What became of the runs of one schedule, put together.
#[derive(Debug, Default)]
struct Tally {
    /// Whether one of them succeeded, and so ended a row of failures.
    succeeded: bool,
    /// Failures in a row at the end.
    failures: i64,
    last_success: Option<UnixMillis>,
    last_error: Option<String>,
    /// When the last run of the schedule's own ticks ended.
    tick_ended: Option<UnixMillis>,
}

impl Store {
    /// Notes what became of tasks that may be those of ticks; others are ignored. What waits for them is due from then
    /// on: call [`wake`](Store::wake) once the transaction is committed, so that it is noticed at once. Told twice is
    /// told once.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn runs_ended(&self, transaction: &mut Transaction, runs: &[RunEnded]) -> Result<(), DatabaseError> {
        if runs.is_empty() {
            return Ok(());
        }
        let rows = runs.iter().map(|run| {
            let (state, reason) = match &run.end {
                RunEnd::Done => (TickState::Done, None),
                RunEnd::Dead(error) => (TickState::Dead, Some(error.chars().take(LONGEST_REASON).collect::<String>())),
                RunEnd::Cancelled => (TickState::Cancelled, None),
            };
            (&run.task_id, state.as_str(), reason, run.at)
        });
        let ids: Vec<_> = runs.iter().map(|run| run.task_id.as_str()).collect();
        shards::lock_of_tasks(self, transaction, &ids).await?;
        let ended = transaction.fetch(END, [Value::json(&rows.collect::<Vec<_>>())?]).await?;
        self.follow(transaction, &ended).await
    }

    /// Notes that these tasks were heard of then: they are being run. Others are ignored than those of ticks that others
    /// may have to wait for.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn runs_heard(
        &self,
        transaction: &mut Transaction,
        runs: &[(TaskId, UnixMillis)],
    ) -> Result<(), DatabaseError> {
        if runs.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = runs.iter().map(|(id, _)| id.as_str()).collect();
        shards::lock_of_tasks(self, transaction, &ids).await?;
        transaction.execute(HEARD, [Value::json(runs)?]).await.map(drop)
    }

    /// Ends runs that nothing has been heard of for too long. How many there were.
    pub(crate) async fn end_lost_runs(&self, held: &[i64]) -> Result<usize, DatabaseError> {
        let mut transaction = self.database.begin().await?;
        shards::lock(self, &mut transaction, held).await?;
        let lost = transaction.fetch(LOST, [Value::json(held)?, self.clock.now().into()]).await?;
        self.follow(&mut transaction, &lost).await?;
        transaction.commit().await?;
        Ok(lost.len())
    }

    /// Gives up ticks that could not be published, for these reasons. Those that have been.
    pub(crate) async fn give_up(
        &self,
        transaction: &mut Transaction,
        ticks: &[(TaskId, String)],
    ) -> Result<HashSet<TaskId>, DatabaseError> {
        let rows = transaction.fetch(GIVE_UP, [Value::json(ticks)?, self.clock.now().into()]).await?;
        self.follow(transaction, &rows).await?;
        rows.iter().map(read_id).collect()
    }

    /// What follows for the schedules of ticks that have ended.
    async fn follow(&self, transaction: &mut Transaction, ended: &[Row]) -> Result<(), DatabaseError> {
        let mut tallies: BTreeMap<(String, String), Tally> = BTreeMap::new();
        let mut ends = Vec::with_capacity(ended.len());
        for row in ended {
            ends.push((row.moment("ended_at")?, row));
        }
        ends.sort_by_key(|(at, _)| *at);
        for (at, row) in ends {
            let tally = tallies.entry((row.text("namespace")?, row.text("schedule")?)).or_default();
            match TickState::read(row, "state")? {
                TickState::Done => {
                    (tally.succeeded, tally.failures, tally.last_success) = (true, 0, Some(at));
                }
                TickState::Dead => {
                    tally.failures += 1;
                    tally.last_error = row.maybe_text("reason")?;
                }
                _ => {}
            }
            if row.text("kind")? == "tick" {
                tally.tick_ended = Some(at);
            }
        }
        if tallies.is_empty() {
            return Ok(());
        }
        let rows = tallies.iter().map(|((namespace, name), tally)| {
            (namespace, name, if tally.succeeded { "1" } else { "0" }, tally.failures, tally.last_success)
        });
        let counted = transaction.fetch(COUNT, [Value::json(&rows.collect::<Vec<_>>())?]).await?;
        for row in counted {
            let name = schedules::read_name(&row, "namespace", "name")?;
            if let Some(tally) = tallies.get(&(name.namespace().to_owned(), name.name().to_owned())) {
                self.follow_one(transaction, &name, &row, tally).await?;
            }
        }
        self.wake();
        Ok(())
    }

    /// Pauses a schedule that has failed too often, and sets the next tick of a fixed delay.
    async fn follow_one(
        &self,
        transaction: &mut Transaction,
        name: &ScheduleName,
        row: &Row,
        tally: &Tally,
    ) -> Result<(), DatabaseError> {
        let text = row.text("definition")?;
        // Most definitions have neither and need not be read.
        if !(text.contains("\"pause_after\"") || text.contains("\"after\"")) || row.maybe_text("paused")?.is_some() {
            return Ok(());
        }
        let definition: Definition = serde_json::from_str(&text).map_err(DatabaseError::Json)?;
        let failures = row.number("failures")?;
        if tally.failures > 0 && definition.pause_after.is_some_and(|most| failures >= i64::from(most)) {
            let error = tally.last_error.as_deref().unwrap_or("no error was given");
            let reason = format!("failed {failures} times in a row, at last with: {error}");
            let mut values = schedules::key(name);
            values.extend([reason.into(), self.clock.now().into()]);
            transaction.execute(PAUSE, values).await?;
            return Ok(());
        }
        let waits = row.maybe_number("next_at")?.is_none() && row.maybe_number("runs_left")? != Some(0);
        if let Some(ended) = tally.tick_ended.filter(|_| definition.after.is_some() && waits) {
            let calendars = self.calendars_of([&definition]).await?;
            // A calendar that it names may be gone; then it has no next tick until it is saved again.
            let next = Plan::new(name.clone(), definition, &calendars).ok().and_then(|plan| plan.after_end(ended));
            let mut values = schedules::key(name);
            values.extend([next.map(|tick| tick.scheduled_at).into(), next.map(|tick| tick.due_at).into()]);
            transaction.execute(SET_NEXT, values).await?;
        }
        Ok(())
    }

    /// The calendars that these definitions name.
    pub(crate) async fn calendars_of<'a>(
        &self,
        definitions: impl IntoIterator<Item = &'a Definition>,
    ) -> Result<Vec<Calendar>, DatabaseError> {
        let mut names: Vec<_> = definitions.into_iter().flat_map(|definition| definition.calendars.clone()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(self.calendars_named(&names).await?.into_iter().map(|stored| stored.calendar).collect())
    }
}
