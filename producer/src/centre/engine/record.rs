//! Writes down that tasks are published, beside the loop: nobody waits for it but what came of those publishes.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tracing::warn;

use super::dispatch::Outcome;
use crate::centre::{
    store::{
        Store,
        tasks::{Applied, RecordedState, Task, TaskRecord},
    },
    watch::Announcer,
};

/// How long an outcome waits for others that are written together with it.
const PATIENCE: Duration = Duration::from_millis(50);
/// So many are written together, about: then whoever else writes into SQLite has a turn.
const TOGETHER: usize = 500;
/// So often it is tried to write; what cannot be is left to workers to tell.
const TRIES: u32 = 3;
/// Transactions of which followers may still have to be told. Beyond, they are not: it is in the database.
const ROOM: usize = 64;

/// Tells followers of tasks what was written about them, without waiting for it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Teller(Option<mpsc::Sender<Applied>>);

impl Teller {
    /// Tells by this announcer, in the background; without one, nobody is told.
    pub(crate) fn start(announcer: Option<Announcer>) -> Self {
        Self(announcer.map(|announcer| {
            let (sender, mut written) = mpsc::channel(ROOM);
            tokio::spawn(async move {
                while let Some(applied) = written.recv().await {
                    announcer.announce(applied).await;
                }
            });
            sender
        }))
    }

    /// Tells what a transaction has changed, once it is committed.
    pub(crate) fn tell(&self, changed: Vec<Task>) {
        if let Some(sender) = self.0.as_ref().filter(|_| !changed.is_empty()) {
            let _ = sender.try_send(Applied { changed });
        }
    }
}

/// Stands between the publishes and the loop that settles them. A task has its row before its message leaves the outbox: if
/// the centre dies in between, it is published again, and that is all.
pub(crate) struct Recorder {
    pub(crate) store: Store,
    pub(crate) teller: Teller,
    pub(crate) outcomes: mpsc::UnboundedReceiver<Vec<Outcome>>,
    pub(crate) recorded: mpsc::UnboundedSender<Vec<Outcome>>,
}

impl Recorder {
    /// Records until nobody publishes any more.
    pub(crate) async fn run(mut self) {
        while let Some(mut outcomes) = self.outcomes.recv().await {
            let deadline = Instant::now() + PATIENCE;
            while outcomes.len() < TOGETHER
                && let Ok(Some(more)) = timeout_at(deadline, self.outcomes.recv()).await
            {
                outcomes.extend(more);
            }
            self.record(&outcomes).await;
            // Whoever wanted to know has stopped waiting.
            drop(self.recorded.send(outcomes));
        }
    }

    async fn record(&self, outcomes: &[Outcome]) {
        let records: Vec<_> = outcomes.iter().filter_map(record).collect();
        for tries in 1..=TRIES {
            match self.store.record_published(&records).await {
                Ok(applied) => return self.teller.tell(applied.changed),
                Err(error) if tries == TRIES => {
                    warn!(tasks = records.len(), %error, "tasks are published, and cannot be listed until workers tell of them");
                }
                Err(_) => sleep(PATIENCE * tries).await,
            }
        }
    }
}

/// What is told of a task by what came of its publish; nothing when it fails once more.
fn record(Outcome { parcel, result, at, .. }: &Outcome) -> Option<TaskRecord> {
    let record = parcel.record.clone();
    match result {
        Ok(()) => Some(record.became(RecordedState::Published, *at)),
        Err(_) => (parcel.tries == 0).then_some(record),
    }
}
