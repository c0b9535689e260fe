//! Finding tasks.

use std::{collections::BTreeMap, fmt, str::FromStr};

use leveret_common::{clock::UnixMillis, registry::Instance, task::TaskId};

use super::{Task, TaskAttempt, TaskState, life::Life};
use crate::centre::{
    database::{DatabaseError, Row, Value},
    store::{Page, Store},
};

const COLUMNS: &str = "id, namespace, task, queue, state, attempt, replays, worker, instance, schedule, scheduled_at, \
    labels, trace_id, created_at, due_at, started_at, ended_at, changed_at, waited_ms, ran_ms, progress, result_bytes, \
    reason, error_kind, error, cancel_requested_at, cancel_reason";
/// The largest page.
const MOST: u32 = 1_000;

/// Which tasks are asked for; what is not set allows any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskFilter {
    /// Of one of these namespaces; of any if there is none.
    pub namespaces: Vec<String>,
    /// In one of these states; in any if there is none.
    pub states: Vec<TaskState>,
    /// Of this name.
    pub task: Option<String>,
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this schedule, with its namespace unless that is the default one.
    pub schedule: Option<String>,
    /// Last run by a worker of this name, or by this instance.
    pub worker: Option<String>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
    /// With this in the text of its error, whatever the case of the letters.
    pub error: Option<String>,
    /// Made at this time or later.
    pub created_from: Option<UnixMillis>,
    /// Made before this time.
    pub created_before: Option<UnixMillis>,
    /// Changed at this time or later, by the centres' clocks.
    pub changed_from: Option<UnixMillis>,
    /// Changed before this time.
    pub changed_before: Option<UnixMillis>,
}

/// Where the next page begins. As a text it is for the one who asks to give back as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    created_at: UnixMillis,
    id: TaskId,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.created_at, self.id)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (at, id) = text.split_once('_').ok_or(InvalidCursor)?;
        let created_at = UnixMillis(at.parse().map_err(|_| InvalidCursor)?);
        Ok(Self { created_at, id: id.parse().map_err(|_| InvalidCursor)? })
    }
}

/// A text is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor: give back what the last page had as its next, or none for the first page")]
pub struct InvalidCursor;

/// Tasks by their state.
pub type Tally = BTreeMap<TaskState, u64>;

/// A condition with its values, put together from fixed parts.
struct Conditions {
    shared: bool,
    text: String,
    values: Vec<Value>,
}

impl Conditions {
    fn of(filter: &TaskFilter, shared: bool) -> Result<Self, DatabaseError> {
        let mut all = Self { shared, text: "1 = 1".to_owned(), values: Vec::new() };
        if !filter.namespaces.is_empty() {
            all.one_of("namespace", &Value::json(&filter.namespaces)?);
        }
        // Of a single state, the index has them in the order of the page.
        match filter.states.as_slice() {
            [] => {}
            [state] => all.compare("state =", state.as_str()),
            states => all.one_of("state", &Value::json(states)?),
        }
        for (column, wanted) in [("task =", &filter.task), ("queue =", &filter.queue), ("schedule =", &filter.schedule)]
        {
            if let Some(wanted) = wanted {
                all.compare(column, wanted.as_str());
            }
        }
        if let Some(worker) = &filter.worker {
            match worker.parse::<Instance>() {
                Ok(instance) => all.compare("instance =", instance.to_string()),
                Err(_) => all.compare("worker =", worker.as_str()),
            }
        }
        for (name, value) in &filter.labels {
            let label = BTreeMap::from([(name, value)]);
            let number = all.value(Value::json(&label)?);
            all.text.push_str(&if shared {
                format!(" AND labels::jsonb @> ${number}::jsonb")
            } else {
                format!(
                    " AND EXISTS (SELECT 1 FROM json_each(labels) AS has, json_each(${number}) AS wanted
                       WHERE has.key = wanted.key AND has.value = wanted.value)"
                )
            });
        }
        if let Some(error) = &filter.error {
            let escaped = error.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            let number = all.value(format!("%{escaped}%"));
            all.text.push_str(&format!(" AND lower(error) LIKE ${number} ESCAPE '\\'"));
        }
        let times = [
            ("created_at >=", filter.created_from),
            ("created_at <", filter.created_before),
            ("changed_at >=", filter.changed_from),
            ("changed_at <", filter.changed_before),
        ];
        for (comparison, time) in times {
            if let Some(time) = time {
                all.compare(comparison, time);
            }
        }
        Ok(all)
    }

    fn value(&mut self, value: impl Into<Value>) -> usize {
        self.values.push(value.into());
        self.values.len()
    }

    fn compare(&mut self, comparison: &'static str, value: impl Into<Value>) {
        let number = self.value(value);
        self.text.push_str(&format!(" AND {comparison} ${number}"));
    }

    fn one_of(&mut self, column: &'static str, list: &Value) {
        let number = self.value(list.clone());
        self.text.push_str(&if self.shared {
            format!(" AND {column} IN (SELECT value FROM json_array_elements_text(${number}::json))")
        } else {
            format!(" AND {column} IN (SELECT value FROM json_each(${number}))")
        });
    }
}

impl Store {
    /// A task with its result and its attempts, if it is known.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn task(&self, id: &TaskId) -> Result<Option<Task>, DatabaseError> {
        const TASK: &str = "SELECT history, result, changed_at FROM leveret_centre_tasks WHERE id = $1";
        let rows = self.database.fetch(TASK, [id.as_str().into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let mut life: Life = row.json("history")?;
        life.id = id.clone();
        life.set_result(row.maybe_text("result")?);
        Ok(Some(life.summary(row.moment("changed_at")?)))
    }

    /// The attempts at a task; none if it is not known.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn attempts(&self, id: &TaskId) -> Result<Vec<TaskAttempt>, DatabaseError> {
        Ok(self.task(id).await?.map(|task| task.attempts).unwrap_or_default())
    }

    /// A page of tasks, the newest first, without results and attempts; `limit` is at most 1,000. What the page has as
    /// its next is the text of a [`Cursor`].
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn search(
        &self,
        filter: &TaskFilter,
        cursor: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<Task>, DatabaseError> {
        let limit = limit.clamp(1, MOST);
        let mut conditions = Conditions::of(filter, self.database.is_shared())?;
        if let Some(cursor) = cursor {
            let (at, id) = (conditions.value(cursor.created_at), conditions.value(cursor.id.as_str()));
            conditions.text.push_str(&format!(" AND (created_at, id) < (${at}, ${id})"));
        }
        let number = conditions.value(limit + 1);
        let statement = format!(
            "SELECT {COLUMNS} FROM leveret_centre_tasks WHERE {} ORDER BY created_at DESC, id DESC LIMIT ${number}",
            conditions.text
        );
        let rows = self.database.search(statement, conditions.values).await?;
        let tasks = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let cursor = |last: &Task| Cursor { created_at: last.created_at, id: last.id.clone() }.to_string();
        Ok(Page::of(tasks, limit, cursor))
    }

    /// How many tasks there are in each state that has some.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn count_by_state(&self, filter: &TaskFilter) -> Result<Tally, DatabaseError> {
        let conditions = Conditions::of(filter, self.database.is_shared())?;
        let statement = format!(
            "SELECT state, count(*) AS tasks FROM leveret_centre_tasks WHERE {} GROUP BY state",
            conditions.text
        );
        let mut tally = Tally::new();
        for row in self.database.search(statement, conditions.values).await? {
            // A state of a later version is none that this one can name.
            if let Ok(state) = row.text("state")?.parse() {
                tally.insert(state, u64::try_from(row.number("tasks")?).unwrap_or_default());
            }
        }
        Ok(tally)
    }
}

fn read(row: &Row) -> Result<Task, DatabaseError> {
    let number =
        |column: &str| -> Result<u32, DatabaseError> { Ok(u32::try_from(row.number(column)?).unwrap_or(u32::MAX)) };
    let length = |column: &str| -> Result<Option<u64>, DatabaseError> {
        Ok(row.maybe_number(column)?.and_then(|number| u64::try_from(number).ok()))
    };
    let unreadable = |error: &dyn fmt::Display| DatabaseError::Json(serde::de::Error::custom(error));
    Ok(Task {
        id: row.text("id")?.parse().map_err(|error| unreadable(&error))?,
        namespace: row.text("namespace")?,
        task: row.text("task")?,
        queue: row.text("queue")?,
        state: row.text("state")?.parse().map_err(|error| unreadable(&error))?,
        attempt: number("attempt")?,
        replays: number("replays")?,
        worker: row.maybe_text("worker")?,
        instance: row.maybe_text("instance")?.and_then(|instance| instance.parse().ok()),
        schedule: row.maybe_text("schedule")?,
        scheduled_at: row.maybe_moment("scheduled_at")?,
        labels: row.json("labels")?,
        trace_id: row.maybe_text("trace_id")?,
        created_at: row.moment("created_at")?,
        due_at: row.maybe_moment("due_at")?,
        started_at: row.maybe_moment("started_at")?,
        ended_at: row.maybe_moment("ended_at")?,
        changed_at: row.moment("changed_at")?,
        waited_ms: length("waited_ms")?,
        ran_ms: length("ran_ms")?,
        progress: row.maybe_json("progress")?,
        result: None,
        result_bytes: length("result_bytes")?,
        reason: row.maybe_text("reason")?,
        error_kind: row.maybe_text("error_kind")?,
        error: row.maybe_text("error")?,
        cancel_requested_at: row.maybe_moment("cancel_requested_at")?,
        cancel_reason: row.maybe_text("cancel_reason")?,
        attempts: Vec::new(),
    })
}
