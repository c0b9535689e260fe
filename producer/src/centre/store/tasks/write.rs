//! Writing rows of tasks: many as one statement, and only those that say something new.

use std::collections::BTreeMap;

use leveret_common::{clock::UnixMillis, registry::Instance, task::TaskId};
use serde::{Serialize, Serializer, ser::SerializeSeq};

use super::{Task, life::Life};
use crate::centre::{
    database::{DatabaseError, Row, Transaction, Value, Wording},
    store::Store,
};

/// A row as it is written: what is compound is a text of JSON. It goes in as an array, which both databases read faster than
/// an object.
macro_rules! written {
    ($($place:literal $column:ident $kind:literal: $type:ty,)+) => {
        struct Written<'a> {
            id: &'a str,
            $($column: $type,)+
        }

        impl Serialize for Written<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut row = serializer.serialize_seq(None)?;
                row.serialize_element(self.id)?;
                $(row.serialize_element(&self.$column)?;)+
                row.end()
            }
        }

        /// In the order of the ids, so that two centres never wait for each other.
        const INSERT: Wording = statement!(
            concat!(
                "INSERT INTO leveret_centre_tasks (id", $(", ", stringify!($column),)+
                ") SELECT rows.value ->> 0", $(", CAST(rows.value ->> ", $place, " AS ", $kind, ")",)+ " FROM"
            ),
            "WHERE true ORDER BY 1 ON CONFLICT (id) DO NOTHING RETURNING id"
        );
        const UPDATE: Wording = statement!(
            concat!(
                "UPDATE leveret_centre_tasks SET id = r.id", $(", ", stringify!($column), " = r.", stringify!($column),)+
                " FROM (SELECT rows.value ->> 0 AS id",
                $(", CAST(rows.value ->> ", $place, " AS ", $kind, ") AS ", stringify!($column),)+ " FROM"
            ),
            ") AS r WHERE leveret_centre_tasks.id = r.id"
        );
    };
}

macro_rules! statement {
    ($before:expr, $after:literal) => {
        Wording::Each(
            concat!($before, " json_each($1) AS rows ", $after),
            concat!($before, " jsonb_array_elements(CAST($1 AS jsonb)) AS rows(value) ", $after),
        )
    };
}

written! {
    1 namespace "TEXT": &'a str,
    2 task "TEXT": &'a str,
    3 queue "TEXT": &'a str,
    4 state "TEXT": &'static str,
    5 attempt "BIGINT": u32,
    6 replays "BIGINT": u32,
    7 worker "TEXT": Option<&'a str>,
    8 instance "TEXT": Option<Instance>,
    9 schedule "TEXT": Option<&'a str>,
    10 scheduled_at "BIGINT": Option<UnixMillis>,
    11 labels "TEXT": String,
    12 trace_id "TEXT": Option<&'a str>,
    13 created_at "BIGINT": UnixMillis,
    14 due_at "BIGINT": Option<UnixMillis>,
    15 started_at "BIGINT": Option<UnixMillis>,
    16 ended_at "BIGINT": Option<UnixMillis>,
    17 changed_at "BIGINT": UnixMillis,
    18 waited_ms "BIGINT": Option<i64>,
    19 ran_ms "BIGINT": Option<i64>,
    20 progress "TEXT": Option<String>,
    21 result "TEXT": Option<&'a str>,
    22 result_bytes "BIGINT": Option<i64>,
    23 reason "TEXT": Option<&'a str>,
    24 error_kind "TEXT": Option<&'a str>,
    25 error "TEXT": Option<&'a str>,
    26 cancel_requested_at "BIGINT": Option<UnixMillis>,
    27 cancel_reason "TEXT": Option<&'a str>,
    28 history "TEXT": String,
}

const LOCK: Wording = Wording::Each(
    "SELECT id, history, result FROM leveret_centre_tasks WHERE id IN (SELECT value FROM json_each($1))",
    "SELECT id, history, result FROM leveret_centre_tasks
     WHERE id IN (SELECT value FROM json_array_elements_text($1::json)) ORDER BY id FOR UPDATE",
);

/// What was learnt of tasks, each once.
pub(super) type Lives = BTreeMap<TaskId, Life>;

/// New rows, made before the transaction begins, for others wait while it lasts.
pub(super) struct News {
    lives: Lives,
    tasks: Vec<Task>,
    rows: Value,
}

impl News {
    /// Joins what was learnt of each task.
    pub(super) fn of(learnt: impl Iterator<Item = Life>, now: UnixMillis) -> Result<Self, DatabaseError> {
        let mut lives = Lives::new();
        for life in learnt {
            match lives.get_mut(&life.id) {
                Some(known) => known.join(life),
                None => {
                    lives.insert(life.id.clone(), life);
                }
            }
        }
        let new = || lives.values().filter(|life| !life.only_known);
        let tasks: Vec<Task> = new().map(|life| life.summary(now)).collect();
        let rows = rows(new(), &tasks)?;
        Ok(Self { lives, tasks, rows })
    }
}

impl Store {
    /// Joins what was learnt into the rows. The tasks of which that was something new, as in a list.
    pub(super) async fn write_tasks(
        &self,
        transaction: &mut Transaction,
        news: News,
    ) -> Result<Vec<Task>, DatabaseError> {
        let News { mut lives, tasks: mut changed, rows } = news;
        if lives.is_empty() {
            return Ok(Vec::new());
        }
        let inserted = transaction.fetch(INSERT, [rows]).await?;
        if inserted.len() < lives.len() {
            for row in &inserted {
                if let Ok(id) = row.text("id")?.parse::<TaskId>() {
                    lives.remove(&id);
                }
            }
            changed.retain(|task| !lives.contains_key(&task.id));
            changed.extend(self.join_tasks(transaction, lives).await?);
        }
        for task in &mut changed {
            task.result = None;
            task.attempts.clear();
        }
        Ok(changed)
    }

    /// Joins what was learnt of tasks that have a row. Those that were changed by it.
    async fn join_tasks(&self, transaction: &mut Transaction, mut lives: Lives) -> Result<Vec<Task>, DatabaseError> {
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
            id: task.id.as_str(),
            namespace: &task.namespace,
            task: &task.task,
            queue: &task.queue,
            state: task.state.as_str(),
            attempt: task.attempt,
            replays: task.replays,
            worker: task.worker.as_deref(),
            instance: task.instance,
            schedule: task.schedule.as_deref(),
            scheduled_at: task.scheduled_at,
            labels: text(&task.labels)?,
            trace_id: task.trace_id.as_deref(),
            created_at: task.created_at,
            due_at: task.due_at,
            started_at: task.started_at,
            ended_at: task.ended_at,
            changed_at: task.changed_at,
            waited_ms: number(task.waited_ms),
            ran_ms: number(task.ran_ms),
            progress: task.progress.as_ref().map(text).transpose()?,
            result: life.result(),
            result_bytes: number(task.result_bytes),
            reason: task.reason.as_deref(),
            error_kind: task.error_kind.as_deref(),
            error: task.error.as_deref(),
            cancel_requested_at: task.cancel_requested_at,
            cancel_reason: task.cancel_reason.as_deref(),
            history: text(life)?,
        });
    }
    Value::json(&rows)
}

fn text(value: &impl Serialize) -> Result<String, DatabaseError> {
    serde_json::to_string(value).map_err(DatabaseError::Json)
}
