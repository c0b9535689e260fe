//! What one centre does for all.

use std::time::Duration;

use super::Store;
use crate::centre::database::DatabaseError;

const TAKE: &str = "INSERT INTO leveret_centre_duties (duty, holder, ends_at) VALUES ($1, $2, $3)
    ON CONFLICT (duty) DO UPDATE SET holder = excluded.holder, ends_at = excluded.ends_at
    WHERE leveret_centre_duties.holder = excluded.holder OR leveret_centre_duties.ends_at <= $4";
const LEAVE: &str = "DELETE FROM leveret_centre_duties WHERE duty = $1 AND holder = $2";

impl Store {
    /// Whether `holder` has the duty from now on and for so long: it has it already, or nobody has.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(crate) async fn take_duty(&self, duty: &str, holder: &str, lasts: Duration) -> Result<bool, DatabaseError> {
        let now = self.clock.now();
        let values = [duty.into(), holder.into(), (now + lasts).into(), now.into()];
        Ok(self.database.execute(TAKE, values).await? > 0)
    }

    /// Leaves a duty to the next.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(crate) async fn leave_duty(&self, duty: &str, holder: &str) -> Result<(), DatabaseError> {
        self.database.execute(LEAVE, [duty.into(), holder.into()]).await.map(drop)
    }
}
