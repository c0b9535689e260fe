//! Tasks that are to be cancelled and have not ended.

use leveret_common::{clock::UnixMillis, task::TaskId};

use super::{Applied, Task, life::Life, write::News};
use crate::centre::{
    database::{DatabaseError, Value},
    store::{AuditEntry, Store},
};

/// A task that is to be cancelled and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCancel {
    /// Its id.
    pub id: TaskId,
    /// How often it was brought back from the dead letters: the life that is to end.
    pub replays: u32,
    /// When that was asked for.
    pub requested_at: UnixMillis,
    /// Why, for people.
    pub reason: Option<String>,
}

impl Store {
    /// Notes that a task is to be cancelled in the life that it has. That holds until it ends; if it has ended meanwhile,
    /// its row says so, and the change is not written into the audit log.
    ///
    /// # Errors
    /// [`DatabaseError`]; nothing is noted then.
    pub async fn request_cancel(
        &self,
        task: &Task,
        reason: Option<&str>,
        change: Option<&AuditEntry>,
    ) -> Result<Applied, DatabaseError> {
        let now = self.clock.now();
        let news = News::of(std::iter::once(Life::to_be_cancelled(task, reason, now)), now)?;
        let mut transaction = self.database.begin().await?;
        let changed = self.write_tasks(&mut transaction, news).await?;
        if !changed.iter().any(|task| task.state.is_ended()) {
            self.note(&mut transaction, change, None).await?;
        }
        transaction.commit().await?;
        Ok(Applied { changed })
    }

    /// A page of the tasks of a queue that are to be cancelled and have not ended, the latest request first, from behind
    /// the one that is given.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn open_cancels(
        &self,
        queue: &str,
        behind: Option<&OpenCancel>,
        limit: u32,
    ) -> Result<Vec<OpenCancel>, DatabaseError> {
        const OPEN: &str = "SELECT id, replays, cancel_requested_at, cancel_reason FROM leveret_centre_tasks
            WHERE queue = $1 AND cancel_requested_at IS NOT NULL AND (cancel_requested_at, id) < ($2, $3)
            ORDER BY cancel_requested_at DESC, id DESC LIMIT $4";
        let (at, id): (Value, Value) = match behind {
            Some(last) => (last.requested_at.into(), last.id.as_str().into()),
            None => (UnixMillis(i64::MAX).into(), "".into()),
        };
        let rows = self.database.fetch(OPEN, [queue.into(), at, id, limit.into()]).await?;
        let mut open = Vec::with_capacity(rows.len());
        for row in rows {
            // What is no id was none when it was written.
            let Ok(id) = row.text("id")?.parse() else { continue };
            open.push(OpenCancel {
                id,
                replays: u32::try_from(row.number("replays")?).unwrap_or(u32::MAX),
                requested_at: row.moment("cancel_requested_at")?,
                reason: row.maybe_text("cancel_reason")?,
            });
        }
        Ok(open)
    }
}
