//! Letting go of old rows, a few at a time.

use leveret_common::clock::UnixMillis;

use super::Store;
use crate::centre::database::DatabaseError;

const OLD_TICKS: &str = "DELETE FROM leveret_centre_ticks
    WHERE (namespace, schedule, scheduled_at, kind) IN (
        SELECT namespace, schedule, scheduled_at, kind FROM leveret_centre_ticks
        WHERE decided_at < $1 AND state NOT IN ('buffered', 'pending', 'published', 'running')
        ORDER BY decided_at LIMIT $2)";
const TICKS_BEYOND: &str = "SELECT decided_at FROM leveret_centre_ticks ORDER BY decided_at DESC LIMIT 1 OFFSET $1";
const OLD_AUDIT: &str = "DELETE FROM leveret_centre_audit WHERE id IN (
    SELECT id FROM leveret_centre_audit WHERE at < $1 OR (at = $2 AND id <= $3) ORDER BY at, id LIMIT $4)";
const AUDIT_BEYOND: &str = "SELECT at, id FROM leveret_centre_audit ORDER BY at DESC, id DESC LIMIT 1 OFFSET $1";

impl Store {
    /// Lets go of at most `batch` ticks that were decided before then, or before the last `most`, and whose task is not
    /// under way. How many they were.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn retain_ticks(&self, before: UnixMillis, most: u32, batch: u32) -> Result<u64, DatabaseError> {
        let beyond = self.database.fetch(TICKS_BEYOND, [most.into()]).await?;
        let before = match beyond.first() {
            Some(row) => before.max(row.moment("decided_at")?),
            None => before,
        };
        self.database.execute(OLD_TICKS, [before.into(), batch.into()]).await
    }

    /// Lets go of at most `batch` entries of the audit log from before then, or from before the last `most`. How many they
    /// were.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn retain_audit(&self, before: UnixMillis, most: u32, batch: u32) -> Result<u64, DatabaseError> {
        let beyond = self.database.fetch(AUDIT_BEYOND, [most.into()]).await?;
        // Of those that were made at once, the last by id are kept.
        let (at, id) = match beyond.first() {
            Some(row) => (row.moment("at")?, row.text("id")?),
            None => (before, String::new()),
        };
        self.database.execute(OLD_AUDIT, [before.max(at).into(), at.into(), id.into(), batch.into()]).await
    }
}
