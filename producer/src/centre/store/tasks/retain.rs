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
    /// How many are kept at most of those that have ended, and of those that have not; the last to change are. Those that
    /// the centre holds do not count.
    pub most: u32,
}

const OLD: Wording = Wording::Both(
    "DELETE FROM leveret_centre_tasks WHERE id IN (SELECT id FROM leveret_centre_tasks
     WHERE ended_at IS NOT NULL AND changed_at < $1 ORDER BY changed_at LIMIT $2)",
);
const SILENT: Wording = Wording::Both(
    "DELETE FROM leveret_centre_tasks WHERE id IN (SELECT id FROM leveret_centre_tasks
     WHERE ended_at IS NULL AND state <> 'scheduled' AND changed_at < $1 ORDER BY changed_at LIMIT $2)",
);
/// The first beyond the number of those that are kept, and the deletion from there on.
macro_rules! beyond {
    ($which:literal) => {
        [
            concat!(
                "SELECT changed_at, id FROM leveret_centre_tasks WHERE ",
                $which,
                " ORDER BY changed_at DESC, id DESC LIMIT 1 OFFSET $1"
            ),
            concat!(
                "DELETE FROM leveret_centre_tasks WHERE id IN (SELECT id FROM leveret_centre_tasks WHERE ",
                $which,
                " AND (changed_at, id) <= ($1, $2) ORDER BY changed_at, id LIMIT $3)"
            ),
        ]
    };
}
const BEYOND: [[&str; 2]; 2] = [beyond!("ended_at IS NOT NULL"), beyond!("ended_at IS NULL AND state <> 'scheduled'")];

impl Store {
    /// Lets go of at most `batch` tasks of each kind. How many they were of the most frequent kind: fewer than `batch`
    /// means that none is left. So that nobody waits for long, call it again and again with a small batch.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn retain_tasks(&self, retention: &TaskRetention, batch: u32) -> Result<u64, DatabaseError> {
        let mut surplus = 0;
        for [first, from_there] in BEYOND {
            if let Some(row) = self.database.fetch(first, [retention.most.into()]).await?.first() {
                let values = [row.number("changed_at")?.into(), row.text("id")?.into(), batch.into()];
                surplus = surplus.max(self.database.execute(from_there, values).await?);
            }
        }
        let ended = self.database.execute(OLD, [retention.ended_before.into(), batch.into()]).await?;
        let silent = self.database.execute(SILENT, [retention.silent_before.into(), batch.into()]).await?;
        Ok(ended.max(silent).max(surplus))
    }
}
