//! What is told of tasks whose messages are in the outbox: that they are held there, or that they were called off.

use std::collections::HashMap;

use leveret_common::{clock::UnixMillis, message::StoredMessage, task::TaskId};

use super::{
    message, over_rows,
    rows::NewMessage,
    schedules,
    tasks::{self, RecordedState, TaskRecord},
    ticks::read_id,
};
use crate::{
    centre::database::{DatabaseError, Row, Transaction, Value, Wording},
    plan::ScheduleName,
};

const CALL_OFF: Wording = over_rows!(
    "DELETE FROM leveret_centre_outbox WHERE task_id IN (SELECT rows.value ->> 0 FROM",
    ") RETURNING task_id, due_at, namespace, schedule, scheduled_at, task, queue, message, created_at"
);
const CALL_OFF_WAITING: &str =
    "DELETE FROM leveret_centre_outbox WHERE namespace = $1 AND schedule = $2 AND try_at IS NULL
     RETURNING task_id, due_at, namespace, schedule, scheduled_at, task, queue, message, created_at";

impl NewMessage {
    /// The schedule of which it is a tick.
    pub(crate) fn schedule(&self) -> Option<ScheduleName> {
        let (schedule, _, _) = self.tick.as_ref()?;
        ScheduleName::new(&self.namespace, schedule).ok()
    }

    /// That the outbox holds it.
    pub(crate) fn record(&self) -> TaskRecord {
        let scheduled_at = self.tick.as_ref().map(|(_, at, _)| *at);
        TaskRecord {
            id: self.task_id.clone(),
            namespace: self.namespace.clone(),
            task: self.task.clone(),
            queue: self.queue.clone(),
            state: RecordedState::Scheduled,
            at: self.created_at,
            created_at: self.created_at,
            due_at: Some(self.due_at),
            schedule: self.schedule().map(|schedule| schedule.to_string()).zip(scheduled_at),
            labels: self.labels.clone(),
            trace_id: None,
            reason: None,
        }
    }
}

/// The schedule of a row of the outbox.
pub(crate) fn read_schedule(row: &Row) -> Result<Option<ScheduleName>, DatabaseError> {
    let schedule = row.maybe_text("schedule")?;
    schedule.map(|_| schedules::read_name(row, "namespace", "schedule")).transpose()
}

/// That the outbox holds what is in this row of it, with its message.
pub(crate) fn read_record(row: &Row, message: &StoredMessage) -> Result<TaskRecord, DatabaseError> {
    let created_at = row.moment("created_at")?;
    Ok(TaskRecord {
        id: read_id(row)?,
        namespace: row.text("namespace")?,
        task: row.text("task")?,
        queue: row.text("queue")?,
        state: RecordedState::Scheduled,
        at: created_at,
        created_at,
        due_at: Some(row.moment("due_at")?),
        schedule: read_schedule(row)?.map(|name| name.to_string()).zip(row.maybe_moment("scheduled_at")?),
        labels: tasks::labels(message),
        trace_id: None,
        reason: None,
    })
}

/// Takes messages out that are not to be published, for these reasons. What is to be told of their tasks.
pub(crate) async fn call_off(
    transaction: &mut Transaction,
    messages: &[(TaskId, String)],
    now: UnixMillis,
) -> Result<Vec<TaskRecord>, DatabaseError> {
    let rows = transaction.fetch(CALL_OFF, [Value::json(messages)?]).await?;
    let reasons: HashMap<_, _> = messages.iter().map(|(id, reason)| (id, reason)).collect();
    rows.iter().map(|row| called_off(row, now, |id| reasons.get(id).map(|reason| (*reason).clone()))).collect()
}

/// The same, for those of a schedule that wait for others to end.
pub(crate) async fn call_off_waiting(
    transaction: &mut Transaction,
    name: &ScheduleName,
    reason: &str,
    now: UnixMillis,
) -> Result<Vec<TaskRecord>, DatabaseError> {
    let rows = transaction.fetch(CALL_OFF_WAITING, schedules::key(name)).await?;
    rows.iter().map(|row| called_off(row, now, |_| Some(reason.to_owned()))).collect()
}

fn called_off(
    row: &Row,
    now: UnixMillis,
    reason: impl Fn(&TaskId) -> Option<String>,
) -> Result<TaskRecord, DatabaseError> {
    let record = read_record(row, &message::from_column(&row.text("message")?)?)?;
    let reason = reason(&record.id);
    Ok(TaskRecord { reason, ..record.became(RecordedState::Cancelled, now) })
}
