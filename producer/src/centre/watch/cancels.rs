//! Telling workers which tasks are to be cancelled: those that were asked for and have not ended.
//!
//! Workers are told when it is asked for, by whoever takes the request. Here they are told what they may have missed: a
//! worker that comes, what is open for its queues; one that has begun such a task all the same, to end it. Every centre does
//! that, for to be told twice does no harm.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leveret_common::{
    control::{Command, Control, ControlError, Target},
    link::Attachment,
    registry::{Change, Peer, Registry},
    task::TaskId,
};
use tokio::{
    sync::{Semaphore, broadcast::error::RecvError, mpsc},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::events::chain;
use crate::centre::{
    database::DatabaseError,
    store::{
        Store,
        tasks::{OpenCancel, Task},
    },
};

/// For how long a worker remembers a task that it was told to cancel. One that it has forgotten by then it begins, and is
/// told again.
const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);
/// Tasks that a worker that comes is told of, of each of its queues, the latest first: no more than it can remember.
const MOST: usize = 10_000;
/// Tasks in one command, which has 1 MiB at most.
const BATCH: u32 = 1_000;
/// Workers that are told at once.
const AT_ONCE: usize = 16;
/// How long a worker has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// A worker announces itself, and begins tasks, a moment before it hears commands: for how long it is tried, and how far apart.
const LONGEST: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(250);

/// What tells workers to cancel tasks, and to begin none of them. All are in the same life.
pub(crate) fn command(ids: Vec<TaskId>, replays: u32, reason: Option<String>) -> Command {
    let remember_ms = u64::try_from(REMEMBERED.as_millis()).ok();
    Command::Cancel { ids, reason, remember_ms, replays: Some(replays) }
}

/// Tells workers what they may have missed.
pub(super) struct Canceller {
    pub(super) registry: Registry,
    pub(super) teller: Teller,
    /// Tasks that were begun although they are to be cancelled.
    pub(super) begun: mpsc::UnboundedReceiver<Task>,
    pub(super) stop: CancellationToken,
}

/// Tells one worker. Cheap to clone.
#[derive(Clone)]
pub(super) struct Teller {
    store: Store,
    control: Control,
    places: Arc<Semaphore>,
}

impl Canceller {
    pub(super) async fn run(mut self) {
        let mut changes = self.registry.changes();
        let mut listening = self.registry.listening();
        // What is being told; it ends with this.
        let mut telling = JoinSet::new();
        loop {
            let mut came: Vec<Arc<Peer>> = Vec::new();
            tokio::select! {
                () = self.stop.cancelled() => return,
                Some(_) = telling.join_next() => {}
                Some(task) = self.begun.recv() => drop(telling.spawn(self.teller.clone().end(task))),
                change = changes.recv() => match change {
                    Ok(Change::Online(peer)) => came.push(peer),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => came.extend(self.registry.workers().live().cloned()),
                    Err(RecvError::Closed) => return,
                },
                changed = listening.changed() => match changed {
                    // What was to be told meanwhile may be lost.
                    Ok(()) if *listening.borrow_and_update() == Attachment::Attached => {
                        came.extend(self.registry.workers().live().cloned());
                    }
                    Ok(()) => {}
                    Err(_) => return,
                },
            }
            for peer in came {
                telling.spawn(self.teller.clone().greet(peer));
            }
        }
    }
}

impl Teller {
    pub(super) fn new(store: Store, control: Control) -> Self {
        Self { store, control, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Tells a worker that has come what is open for its queues.
    async fn greet(self, peer: Arc<Peer>) {
        let Ok(_place) = self.places.acquire().await else { return };
        for queue in &peer.beat.queues {
            if let Err(error) = self.tell_of(&peer, queue.queue.as_str()).await {
                let worker = &peer.beat.worker;
                warn!(worker, %queue.queue, "cannot tell it which tasks are to be cancelled: {}", chain(&error));
            }
        }
    }

    async fn tell_of(&self, peer: &Peer, queue: &str) -> Result<(), DatabaseError> {
        let mut told = 0;
        let mut last: Option<OpenCancel> = None;
        while told < MOST {
            let page = self.store.open_cancels(queue, last.as_ref(), BATCH).await?;
            let Some(end) = page.last() else { break };
            last = Some(end.clone());
            told += page.len();
            // Those that have a reason and a life in common go together.
            let mut alike: BTreeMap<_, Vec<TaskId>> = BTreeMap::new();
            for open in page {
                alike.entry((open.replays, open.reason)).or_default().push(open.id);
            }
            for ((replays, reason), ids) in alike {
                self.tell(&Target::Instance(peer.beat.instance), command(ids, replays, reason)).await;
            }
        }
        Ok(())
    }

    /// Tells the worker that has begun a task to end it.
    async fn end(self, task: Task) {
        let Ok(_place) = self.places.acquire().await else { return };
        if let Some(instance) = task.instance {
            self.tell(&Target::Instance(instance), command(vec![task.id], task.replays, task.cancel_reason)).await;
        }
    }

    async fn tell(&self, target: &Target, command: Command) {
        let give_up = Instant::now() + LONGEST;
        while Instant::now() < give_up {
            match self.control.send(target, &command, PATIENCE).await {
                Ok(replies) if !replies.is_empty() => return,
                Ok(_) | Err(ControlError::Nobody { .. } | ControlError::NoExchange { .. }) => {}
                // Once the broker is back, all workers are told.
                Err(error) => return warn!("a worker cannot be told which tasks are to be cancelled: {error}"),
            }
            sleep(AGAIN).await;
        }
        debug!("{target} has not heard which tasks are to be cancelled");
    }
}
