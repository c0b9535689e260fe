//! Letting go of tasks, a few at a time.

use leveret_common::clock::UnixMillis;

use crate::centre::{
    database::{DatabaseError, Wording},
    store::Store,
};

/// Which tasks are let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRetention {
    /// Those that have ended, and have not changed since.
    pub ended_before: UnixMillis,
    /// Those of which nothing was heard since, though they have not ended.
    pub silent_before: UnixMillis,
    /// How many that have ended are kept at most; the last to change are.
    pub most_ended: u32,
}

const OLD: Wording = Wording::Both(
    "DELETE FROM leveret_centre_tasks WHERE id IN (SELECT id FROM leveret_centre_tasks
     WHERE ended_at IS NOT NULL AND changed_at < $1 ORDER BY changed_at LIMIT $2)",
);
const SILENT: Wording = Wording::Both(
    "DELETE FROM leveret_centre_tasks WHERE id IN (SELECT id FROM leveret_centre_tasks
     WHERE ended_at IS NULL AND state <> 'scheduled' AND changed_at < $1 ORDER BY changed_at LIMIT $2)",
);
const BEYOND: Wording = Wording::Both(
    "SELECT changed_at, id FROM leveret_centre_tasks WHERE ended_at IS NOT NULL
     ORDER BY changed_at DESC, id DESC LIMIT 1 OFFSET $1",
);
const FROM_THERE: Wording = Wording::Both(
    "DELETE FROM leveret_centre_tasks WHERE id IN (SELECT id FROM leveret_centre_tasks
     WHERE ended_at IS NOT NULL AND (changed_at, id) <= ($1, $2) ORDER BY changed_at, id LIMIT $3)",
);

impl Store {
    /// Lets go of at most `batch` tasks of each kind. How many they were of the most frequent kind: fewer than `batch`
    /// means that none is left. So that nobody waits for long, call it again and again with a small batch.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn retain_tasks(&self, retention: &TaskRetention, batch: u32) -> Result<u64, DatabaseError> {
        let beyond = self.database.fetch(BEYOND, [retention.most_ended.into()]).await?;
        let surplus = match beyond.first() {
            Some(row) => {
                let first = [row.number("changed_at")?.into(), row.text("id")?.into(), batch.into()];
                self.database.execute(FROM_THERE, first).await?
            }
            None => 0,
        };
        let ended = self.database.execute(OLD, [retention.ended_before.into(), batch.into()]).await?;
        let silent = self.database.execute(SILENT, [retention.silent_before.into(), batch.into()]).await?;
        Ok(ended.max(silent).max(surplus))
    }
}
