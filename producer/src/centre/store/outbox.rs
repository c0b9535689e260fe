//! Tasks that are put off: they are kept here until they are due, and can be listed, called off and put off again.

use leveret_common::{
    clock::UnixMillis,
    message::{Message, StoredMessage},
    task::TaskId,
};

use super::{
    AuditEntry, Page, ScheduleError, Store, message,
    rows::{self, NewMessage},
    shards::shard_of,
    tasks::labels,
    ticks::read_id,
};
use crate::centre::database::{DatabaseError, Row, Value};

/// A task that is put off.
#[derive(Clone, Debug, PartialEq)]
pub struct DelayedTask {
    /// Its id.
    pub task_id: TaskId,
    /// When it is published.
    pub due_at: UnixMillis,
    /// Its namespace.
    pub namespace: String,
    /// What is published then.
    pub message: StoredMessage,
    /// When it was put here.
    pub created_at: UnixMillis,
}

const LIST: &str = "SELECT task_id, due_at, namespace, message, created_at FROM leveret_centre_outbox
    WHERE schedule IS NULL AND (due_at, task_id) > ($1, $2) AND ($3 = '' OR namespace = $3)
    ORDER BY due_at, task_id LIMIT $4";
const GET: &str = "SELECT task_id, due_at, namespace, message, created_at FROM leveret_centre_outbox
    WHERE schedule IS NULL AND task_id = $1";
const CANCEL: &str = "DELETE FROM leveret_centre_outbox WHERE task_id = $1 AND schedule IS NULL AND claimed = 0";
const RESCHEDULE: &str = "UPDATE leveret_centre_outbox SET due_at = $2, try_at = $2
    WHERE task_id = $1 AND schedule IS NULL AND claimed = 0";

impl Store {
    /// Keeps a message until `due_at`, and publishes it then. The task's id. The same id again changes nothing while the
    /// first is kept.
    ///
    /// # Errors
    /// [`ScheduleError::Message`] for what could never be published, [`ScheduleError::Database`].
    pub async fn publish_later(
        &self,
        stored: StoredMessage,
        due_at: UnixMillis,
        namespace: &str,
        change: Option<&AuditEntry>,
    ) -> Result<TaskId, ScheduleError> {
        let ids = self.publish_many_later(vec![(stored, due_at)], namespace, change).await?;
        ids.into_iter().next().ok_or_else(|| DatabaseError::Json(serde::de::Error::custom("no message")).into())
    }

    /// Keeps many messages, all or none.
    ///
    /// # Errors
    /// As [`publish_later`](Self::publish_later).
    pub async fn publish_many_later(
        &self,
        messages: Vec<(StoredMessage, UnixMillis)>,
        namespace: &str,
        change: Option<&AuditEntry>,
    ) -> Result<Vec<TaskId>, ScheduleError> {
        let now = self.clock.now();
        let mut new = Vec::with_capacity(messages.len());
        for (stored, due_at) in messages {
            let text = message::to_column(&stored)?;
            let (task, queue, labels) = (stored.task.clone(), stored.queue.clone(), labels(&stored));
            let task_id = Message::try_from(stored)?.task_id().clone();
            new.push(NewMessage {
                shard: shard_of(&[task_id.as_str()]),
                task_id,
                due_at,
                try_at: Some(due_at),
                claimed: false,
                give_up_at: None,
                namespace: namespace.to_owned(),
                tick: None,
                task,
                queue,
                message: text,
                created_at: now,
                labels,
            });
        }
        let mut transaction = self.database.begin().await?;
        rows::insert_messages(&mut transaction, &new).await?;
        self.note(&mut transaction, change, None).await?;
        transaction.commit().await?;
        self.wake();
        Ok(new.into_iter().map(|new| new.task_id).collect())
    }

    /// Tasks that are put off, in the order in which they are due, from `cursor` on, at most `limit`.
    ///
    /// # Errors
    /// [`ScheduleError::Cursor`], [`ScheduleError::Database`].
    pub async fn delayed(
        &self,
        namespace: Option<&str>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<DelayedTask>, ScheduleError> {
        let wrong = |cursor: &str| ScheduleError::Cursor { cursor: cursor.to_owned() };
        let (at, id) = match cursor {
            None => (i64::MIN, ""),
            Some(cursor) => {
                let (at, id) = cursor.split_once(':').ok_or_else(|| wrong(cursor))?;
                (at.parse().map_err(|_| wrong(cursor))?, id)
            }
        };
        let values: [Value; 4] =
            [at.into(), id.into(), namespace.unwrap_or_default().into(), (i64::from(limit) + 1).into()];
        let rows = self.database.fetch(LIST, values).await?;
        let items = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Page::of(items, limit, |last: &DelayedTask| format!("{}:{}", last.due_at, last.task_id)))
    }

    /// A task that is put off; `None` when it is not, or not any more.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn delayed_task(&self, id: &TaskId) -> Result<Option<DelayedTask>, DatabaseError> {
        self.database.fetch(GET, [id.as_str().into()]).await?.first().map(read).transpose()
    }

    /// Calls a task off that is put off. `false` when it is not there, or is being published: then it is too late.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn cancel_delayed(&self, id: &TaskId, change: Option<&AuditEntry>) -> Result<bool, DatabaseError> {
        self.change_one(CANCEL, [id.as_str().into()], change).await
    }

    /// Puts a task off to another time. `false` when it is not there, or is being published: then it is too late.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn reschedule(
        &self,
        id: &TaskId,
        due_at: UnixMillis,
        change: Option<&AuditEntry>,
    ) -> Result<bool, DatabaseError> {
        let changed = self.change_one(RESCHEDULE, [id.as_str().into(), due_at.into()], change).await?;
        self.wake();
        Ok(changed)
    }
}

fn read(row: &Row) -> Result<DelayedTask, DatabaseError> {
    Ok(DelayedTask {
        task_id: read_id(row)?,
        due_at: row.moment("due_at")?,
        namespace: row.text("namespace")?,
        message: message::from_column(&row.text("message")?)?,
        created_at: row.moment("created_at")?,
    })
}
