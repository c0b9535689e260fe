//! Writing rows of tasks: many as one statement, and only those that say something new.

use std::collections::BTreeMap;

use leveret_common::task::TaskId;
use serde::Serialize;

use super::{Task, life::Life};
use crate::centre::{
    database::{DatabaseError, Row, Transaction, Value, Wording},
    store::Store,
};

/// The columns that the whole row follows into, with their types.
macro_rules! statements {
    ($($column:literal $kind:literal),+ $(,)?) => {
        /// In the order of the ids, so that two centres never wait for each other.
        const INSERT: Wording = Wording::Each(
            concat!(
                "INSERT INTO leveret_centre_tasks (id", $(", ", $column,)+
                ") SELECT value->>'id'", $(", value->>'", $column, "'",)+
                " FROM json_each($1) WHERE true ORDER BY 1 ON CONFLICT (id) DO NOTHING RETURNING id"
            ),
            concat!(
                "INSERT INTO leveret_centre_tasks (id", $(", ", $column,)+
                ") SELECT id", $(", ", $column,)+
                " FROM json_to_recordset($1::json) AS r (id TEXT", $(", ", $column, " ", $kind,)+
                ") ORDER BY id ON CONFLICT (id) DO NOTHING RETURNING id"
            ),
        );
        const UPDATE: Wording = Wording::Each(
            concat!(
                "UPDATE leveret_centre_tasks SET id = r.id", $(", ", $column, " = r.", $column,)+
                " FROM (SELECT value->>'id' AS id", $(", value->>'", $column, "' AS ", $column,)+
                " FROM json_each($1)) AS r WHERE leveret_centre_tasks.id = r.id"
            ),
            concat!(
                "UPDATE leveret_centre_tasks SET id = r.id", $(", ", $column, " = r.", $column,)+
                " FROM json_to_recordset($1::json) AS r (id TEXT", $(", ", $column, " ", $kind,)+
                ") WHERE leveret_centre_tasks.id = r.id"
            ),
        );
    };
}

statements! {
    "namespace" "TEXT", "task" "TEXT", "queue" "TEXT", "state" "TEXT", "attempt" "BIGINT", "replays" "BIGINT",
    "worker" "TEXT", "instance" "TEXT", "schedule" "TEXT", "scheduled_at" "BIGINT", "labels" "TEXT",
    "trace_id" "TEXT", "created_at" "BIGINT", "due_at" "BIGINT", "started_at" "BIGINT", "ended_at" "BIGINT",
    "changed_at" "BIGINT", "waited_ms" "BIGINT", "ran_ms" "BIGINT", "progress" "TEXT", "result" "TEXT",
    "result_bytes" "BIGINT", "reason" "TEXT", "error_kind" "TEXT", "error" "TEXT", "history" "TEXT",
}

const LOCK: Wording = Wording::Each(
    "SELECT id, history, result FROM leveret_centre_tasks WHERE id IN (SELECT value FROM json_each($1))",
    "SELECT id, history, result FROM leveret_centre_tasks
     WHERE id IN (SELECT value FROM json_array_elements_text($1::json)) ORDER BY id FOR UPDATE",
);

/// A row as it is written: what is compound is a text of JSON.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    task: Columns<'a>,
    labels: String,
    progress: Option<String>,
    result: Option<&'a str>,
    history: String,
}

#[derive(Serialize)]
struct Columns<'a> {
    id: &'a str,
    namespace: &'a str,
    task: &'a str,
    queue: &'a str,
    state: &'static str,
    attempt: u32,
    replays: u32,
    worker: Option<&'a str>,
    instance: Option<String>,
    schedule: Option<&'a str>,
    scheduled_at: Option<i64>,
    trace_id: Option<&'a str>,
    created_at: i64,
    due_at: Option<i64>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    changed_at: i64,
    waited_ms: Option<i64>,
    ran_ms: Option<i64>,
    result_bytes: Option<i64>,
    reason: Option<&'a str>,
    error_kind: Option<&'a str>,
    error: Option<&'a str>,
}

impl Store {
    /// Joins what was learnt into the rows. The tasks of which that was something new, as in a list.
    pub(super) async fn write_tasks(
        &self,
        transaction: &mut Transaction,
        learnt: impl Iterator<Item = Life>,
    ) -> Result<Vec<Task>, DatabaseError> {
        let mut lives: BTreeMap<TaskId, Life> = BTreeMap::new();
        for life in learnt {
            match lives.get_mut(&life.id) {
                Some(known) => known.join(life),
                None => {
                    lives.insert(life.id.clone(), life);
                }
            }
        }
        if lives.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let mut changed: Vec<Task> = lives.values().map(|life| life.summary(now)).collect();
        let inserted = transaction.fetch(INSERT, [rows(lives.values(), &changed)?]).await?;
        if inserted.len() < lives.len() {
            for row in &inserted {
                if let Ok(id) = row.text("id")?.parse::<TaskId>() {
                    lives.remove(&id);
                }
            }
            changed.retain(|task| !lives.contains_key(&task.id));
            let updated = self.join_tasks(transaction, lives).await?;
            changed.extend(updated);
        }
        for task in &mut changed {
            task.result = None;
            task.attempts.clear();
        }
        Ok(changed)
    }

    /// Joins what was learnt of tasks that have a row. Those that were changed by it.
    async fn join_tasks(
        &self,
        transaction: &mut Transaction,
        mut lives: BTreeMap<TaskId, Life>,
    ) -> Result<Vec<Task>, DatabaseError> {
        let now = self.clock.now();
        let ids: Vec<_> = lives.keys().map(TaskId::as_str).collect();
        let mut news = Vec::new();
        for row in transaction.fetch(LOCK, [Value::json(&ids)?]).await? {
            let known = read(&row)?;
            if let Some(learnt) = lives.remove(&known.id) {
                let mut joined = known.clone();
                joined.join(learnt);
                if joined != known {
                    news.push(joined);
                }
            }
        }
        let changed: Vec<Task> = news.iter().map(|life| life.summary(now)).collect();
        if !news.is_empty() {
            transaction.execute(UPDATE, [rows(news.iter(), &changed)?]).await?;
        }
        Ok(changed)
    }
}

fn read(row: &Row) -> Result<Life, DatabaseError> {
    let mut life: Life = row.json("history")?;
    // It was an id when it was written.
    life.id = row.text("id")?.parse().unwrap_or(life.id);
    life.set_result(row.maybe_text("result")?);
    Ok(life)
}

fn rows<'a>(lives: impl Iterator<Item = &'a Life>, tasks: &[Task]) -> Result<Value, DatabaseError> {
    let number = |number: Option<u64>| number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
    let mut rows = Vec::with_capacity(tasks.len());
    for (life, task) in lives.zip(tasks) {
        rows.push(Written {
            labels: text(&task.labels)?,
            progress: task.progress.as_ref().map(text).transpose()?,
            result: life.result(),
            history: text(life)?,
            task: Columns {
                id: task.id.as_str(),
                namespace: &task.namespace,
                task: &task.task,
                queue: &task.queue,
                state: task.state.as_str(),
                attempt: task.attempt,
                replays: task.replays,
                worker: task.worker.as_deref(),
                instance: task.instance.map(|instance| instance.to_string()),
                schedule: task.schedule.as_deref(),
                scheduled_at: task.scheduled_at.map(|at| at.0),
                trace_id: task.trace_id.as_deref(),
                created_at: task.created_at.0,
                due_at: task.due_at.map(|at| at.0),
                started_at: task.started_at.map(|at| at.0),
                ended_at: task.ended_at.map(|at| at.0),
                changed_at: task.changed_at.0,
                waited_ms: number(task.waited_ms),
                ran_ms: number(task.ran_ms),
                result_bytes: number(task.result_bytes),
                reason: task.reason.as_deref(),
                error_kind: task.error_kind.as_deref(),
                error: task.error.as_deref(),
            },
        });
    }
    Value::json(&rows)
}

fn text(value: &impl Serialize) -> Result<String, DatabaseError> {
    serde_json::to_string(value).map_err(DatabaseError::Json)
}
