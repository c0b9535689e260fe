//! What came of publishes, on its way into the database.

use leveret_common::{clock::UnixMillis, task::TaskId};
use tokio::time::Instant;

use super::ticker::Ticker;
use crate::centre::{
    database::{DatabaseError, Transaction},
    store::{held, tasks::Task, turns},
};

/// What came of publishes, to be written down.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) published: Vec<(TaskId, UnixMillis)>,
    pub(super) retried: Vec<(TaskId, UnixMillis)>,
    pub(super) given_up: Vec<(TaskId, String)>,
    pub(super) since: Option<Instant>,
}

impl Settled {
    pub(super) fn give_up(&mut self, id: TaskId, reason: String) {
        self.since.get_or_insert_with(Instant::now);
        self.given_up.push((id, reason));
    }

    pub(super) fn len(&self) -> usize {
        self.published.len() + self.retried.len() + self.given_up.len()
    }
}

impl Ticker {
    /// Writes down what came of publishes, without deciding about anything.
    pub(super) async fn settle(&mut self) -> Result<(), DatabaseError> {
        let mut transaction = self.store.database().begin().await?;
        let told = self.write_settled(&mut transaction).await?;
        transaction.commit().await?;
        self.settled_is_written();
        self.teller.tell(told);
        Ok(())
    }

    /// The tasks of which something new is written. Of those that are published it is written already.
    pub(super) async fn write_settled(&self, transaction: &mut Transaction) -> Result<Vec<Task>, DatabaseError> {
        let mut told = Vec::new();
        if !self.settled.published.is_empty() {
            turns::published(transaction, &self.settled.published).await?;
        }
        if !self.settled.retried.is_empty() {
            turns::retry(transaction, &self.settled.retried).await?;
        }
        if !self.settled.given_up.is_empty() {
            let ended = self.store.give_up(transaction, &self.settled.given_up).await?;
            let mut records = held::call_off(transaction, &self.settled.given_up, self.store.clock().now()).await?;
            // One that another centre has published meanwhile is not given up.
            records.retain(|record| ended.contains(&record.id));
            told = self.store.record_tasks(transaction, &records).await?.changed;
        }
        Ok(told)
    }

    pub(super) fn settled_is_written(&mut self) {
        let settled = std::mem::take(&mut self.settled);
        let published = settled.published.iter().map(|(id, _)| id);
        let others = settled.retried.iter().map(|(id, _)| id).chain(settled.given_up.iter().map(|(id, _)| id));
        for id in published.chain(others) {
            self.in_flight.remove(id);
        }
    }
}
