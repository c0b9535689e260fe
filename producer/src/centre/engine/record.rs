//! Writes down that tasks are published, beside the loop: nobody waits for it.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tracing::warn;

use crate::centre::{
    store::{
        Store,
        tasks::{Applied, Task, TaskRecord},
    },
    watch::Announcer,
};

/// How long a record waits for others that are written together with it, while they are few.
const PATIENCE: Duration = Duration::from_millis(200);
const FEW: usize = 50;
/// And when they are many: in SQLite decisions wait for each commit, which is dear.
const PATIENCE_WITH_MANY: Duration = Duration::from_secs(1);
/// So many are written together, about: then whoever else writes has a turn.
const TOGETHER: usize = 1_000;
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

/// Writes what is told of tasks. If the centre is killed before, workers tell of them.
#[derive(Debug)]
pub(crate) struct Recorder {
    store: Store,
    teller: Teller,
    records: mpsc::UnboundedReceiver<Vec<TaskRecord>>,
}

impl Recorder {
    /// With where to put the records.
    pub(crate) fn new(store: Store, teller: Teller) -> (Self, mpsc::UnboundedSender<Vec<TaskRecord>>) {
        let (sender, records) = mpsc::unbounded_channel();
        (Self { store, teller, records }, sender)
    }

    /// Writes until the loop has ended, and then what is left.
    pub(crate) async fn run(mut self) {
        while let Some(mut records) = self.records.recv().await {
            let begun = Instant::now();
            while records.len() < TOGETHER {
                let patience = if records.len() < FEW { PATIENCE } else { PATIENCE_WITH_MANY };
                let Ok(Some(more)) = timeout_at(begun + patience, self.records.recv()).await else { break };
                records.extend(more);
            }
            self.record(&records).await;
        }
    }

    async fn record(&self, records: &[TaskRecord]) {
        for tries in 1..=TRIES {
            match self.store.record_published(records).await {
                Ok(applied) => return self.teller.tell(applied.changed),
                Err(_) if tries < TRIES => sleep(PATIENCE * tries).await,
                Err(error) => {
                    warn!(tasks = records.len(), %error, "tasks that are published are listed once workers tell of them");
                }
            }
        }
    }
}
