//! What a centre itself knows of tasks: those that it holds, has published or has cancelled.

use std::collections::BTreeMap;

use leveret_common::{clock::UnixMillis, message::StoredMessage, task::TaskId, wire::header};
use serde::{Deserialize, Serialize};

use super::{Applied, life::Life, write::News};
use crate::centre::{
    database::{DatabaseError, Transaction},
    store::Store,
};

/// What a centre says of a task before a worker has it. In the order in which they follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordedState {
    /// It is held until it is due.
    Scheduled,
    /// The broker has it.
    Published,
    /// It was cancelled before it was published.
    Cancelled,
}

/// A task of which a centre says something.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    /// Its id.
    pub id: TaskId,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub task: String,
    /// Its queue.
    pub queue: String,
    /// What became of it.
    pub state: RecordedState,
    /// When that became of it. Of two records with one state the later counts: so a task is rescheduled.
    pub at: UnixMillis,
    /// When it was made: the same in every record of one task.
    pub created_at: UnixMillis,
    /// When it is to run.
    pub due_at: Option<UnixMillis>,
    /// The schedule that made it, and the time of the tick.
    pub schedule: Option<(String, UnixMillis)>,
    /// Names and values to find it by.
    pub labels: BTreeMap<String, String>,
    /// The trace that it belongs to, in hexadecimal.
    pub trace_id: Option<String>,
    /// Why it was cancelled, for people.
    pub reason: Option<String>,
}

impl TaskRecord {
    /// What became of it in the end, or for now.
    #[must_use]
    pub(crate) fn became(mut self, state: RecordedState, at: UnixMillis) -> Self {
        (self.state, self.at) = (state, at);
        self
    }
}

/// The labels of a message.
pub(crate) fn labels(message: &StoredMessage) -> BTreeMap<String, String> {
    let labels = message.headers.get(header::LABELS).and_then(|labels| labels.as_str());
    labels.and_then(|labels| serde_json::from_str(labels).ok()).unwrap_or_default()
}

impl Store {
    /// Notes what a centre has published, in a transaction of its own. Events of the tasks may have come before.
    ///
    /// # Errors
    /// [`DatabaseError`]; nothing is noted then.
    pub async fn record_published(&self, tasks: &[TaskRecord]) -> Result<Applied, DatabaseError> {
        if tasks.is_empty() {
            return Ok(Applied::default());
        }
        let news = self.news(tasks)?;
        let mut transaction = self.database.begin().await?;
        let changed = self.write_tasks(&mut transaction, news).await?;
        transaction.commit().await?;
        Ok(Applied { changed })
    }

    /// Notes what a centre does with tasks, together with what it does: holding, publishing or cancelling them.
    ///
    /// Events are written tasks first, ticks after: a transaction that has changed ticks already may come to wait for one
    /// that waits for it, upon which PostgreSQL ends one of the two.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn record_tasks(
        &self,
        transaction: &mut Transaction,
        tasks: &[TaskRecord],
    ) -> Result<Applied, DatabaseError> {
        let changed = self.write_tasks(transaction, self.news(tasks)?).await?;
        Ok(Applied { changed })
    }

    /// What these records say, ready to be written: that is made before the transaction begins, for others wait while it
    /// lasts.
    fn news(&self, tasks: &[TaskRecord]) -> Result<News, DatabaseError> {
        News::of(tasks.iter().map(Life::recorded), self.clock.now())
    }
}
