//! The work queues that tasks and schedules name.

use std::collections::BTreeSet;

use leveret_common::topology::QueueName;

use crate::centre::{
    database::{DatabaseError, Wording},
    store::Store,
};

/// From one name to the next in the index: there are few of them, and many tasks.
const OF_TASKS: Wording = Wording::Both(
    "WITH RECURSIVE names(queue) AS (
         SELECT min(queue) FROM leveret_centre_tasks
         UNION ALL
         SELECT (SELECT min(queue) FROM leveret_centre_tasks WHERE queue > names.queue) FROM names
         WHERE names.queue IS NOT NULL)
     SELECT queue FROM names WHERE queue IS NOT NULL LIMIT 10000",
);
const OF_SCHEDULES: Wording = Wording::Each(
    "SELECT DISTINCT definition ->> '$.queue' AS queue FROM leveret_centre_schedules",
    "SELECT DISTINCT CAST(definition AS json) ->> 'queue' AS queue FROM leveret_centre_schedules",
);

impl Store {
    /// The queues of the tasks that are known, and of all schedules.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(crate) async fn work_queues(&self) -> Result<BTreeSet<QueueName>, DatabaseError> {
        let mut queues = BTreeSet::new();
        for wording in [OF_TASKS, OF_SCHEDULES] {
            for row in self.database.fetch(wording, []).await? {
                // An event of a stranger may name anything.
                queues.extend(row.maybe_text("queue")?.and_then(|queue| queue.parse().ok()));
            }
        }
        Ok(queues)
    }
}
