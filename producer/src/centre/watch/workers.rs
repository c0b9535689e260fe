//! The workers: those that are there, as this centre hears them, and for a day those that are not any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use leveret_common::{
    clock::UnixMillis,
    registry::{About, Beat, Instance, Peer, Presence, QueueState, Registry, WorkerState},
};
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use crate::centre::{database::DatabaseError, store::Store};

/// How long a worker that is gone is known.
pub(super) const MEMORY: Duration = Duration::from_secs(86_400);
/// How long the workers have to answer a centre that begins to listen. Until then, nobody is taken to be lost.
pub(super) const ANSWERS: Duration = Duration::from_secs(5);
/// For how long a queue is not attached, in milliseconds, until its worker is deaf. One that has just started is not
/// attached yet.
const DEAF_AFTER: u64 = 5_000;

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerStatus {
    /// It takes tasks.
    Live,
    /// Each of its queues is paused.
    Paused,
    /// It beats, but for some seconds the broker has not delivered to it from a queue that is not paused.
    Deaf,
    /// It takes no more tasks, and finishes those it has.
    Draining,
    /// It is about to end.
    Stopping,
    /// Its beats are missing.
    Lost,
    /// It has ended.
    Offline,
}

impl WorkerStatus {
    /// The status in a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Paused => "paused",
            Self::Deaf => "deaf",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Lost => "lost",
            Self::Offline => "offline",
        }
    }

    fn of(presence: Presence, beat: &Beat) -> Self {
        match (presence, beat.state) {
            (Presence::Lost, _) => return Self::Lost,
            (Presence::Offline, _) => return Self::Offline,
            (Presence::Live, WorkerState::Draining) => return Self::Draining,
            (Presence::Live, WorkerState::Stopping) => return Self::Stopping,
            (Presence::Live, _) => {}
        }
        let is_deaf = |queue: &QueueState| !queue.attached && queue.paused.is_none() && queue.stalled_ms >= DEAF_AFTER;
        if beat.queues.iter().any(is_deaf) {
            Self::Deaf
        } else if !beat.queues.is_empty() && beat.queues.iter().all(|queue| queue.paused.is_some()) {
            Self::Paused
        } else {
            Self::Live
        }
    }
}

/// A worker as it was last heard of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KnownWorker {
    /// How it is.
    pub status: WorkerStatus,
    /// Its last beat: name, instance, queues.
    #[serde(flatten)]
    pub beat: Beat,
    /// What it has announced: host, version, tasks.
    #[serde(flatten)]
    pub about: Option<About>,
    /// When it was last heard.
    pub heard_at: UnixMillis,
}

/// A kind of task that workers have handlers for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskKind {
    /// Its name on the wire.
    pub name: String,
    /// The queue that it is published to by default, if the newest worker says so.
    pub queue: Option<String>,
    /// The JSON Schema of its arguments, if the newest worker has one.
    pub schema: Option<Value>,
    /// The queues of the workers that are there and have a handler for it.
    pub queues: BTreeSet<String>,
    /// How many workers that are there have one. None is left of a kind whose workers are all gone.
    pub workers: usize,
}

/// What is known of workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Workers {
    pub(super) registry: Registry,
    pub(super) store: Store,
    /// Since when this centre hears the workers without a break.
    pub(super) hears_since: watch::Receiver<Option<Instant>>,
}

impl Workers {
    /// The registry that they are known from: for those that are there, and to follow their changes.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All workers in the order in which they started: those that are there and, for a day, those that are not any more.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn all(&self) -> Result<Vec<KnownWorker>, DatabaseError> {
        let now = self.store.clock().now();
        let rows = self.store.worker_rows(now - MEMORY).await?;
        let answered = self.has_answers();
        let mut all: BTreeMap<Instance, KnownWorker> = BTreeMap::new();
        for row in rows {
            // Who has not answered us is gone, unless another centre has heard it just now.
            let deadline = row.heard_at + deadline(&row.beat);
            let presence = match row.presence {
                Presence::Live if answered && deadline <= now => Presence::Lost,
                presence => presence,
            };
            let status = WorkerStatus::of(presence, &row.beat);
            let worker = KnownWorker { status, beat: row.beat, about: row.about, heard_at: row.heard_at };
            all.insert(row.instance, worker);
        }
        for peer in self.registry.workers().iter() {
            let known = all.remove(&peer.beat.instance);
            all.insert(peer.beat.instance, heard(peer, known));
        }
        Ok(all.into_values().collect())
    }

    /// One worker.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn get(&self, instance: &Instance) -> Result<Option<KnownWorker>, DatabaseError> {
        Ok(self.all().await?.into_iter().find(|worker| worker.beat.instance == *instance))
    }

    /// The kinds of tasks that workers have, or in the last day had, handlers for, by name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn kinds(&self) -> Result<Vec<TaskKind>, DatabaseError> {
        let mut kinds: BTreeMap<String, TaskKind> = BTreeMap::new();
        // The newest come last, and have the last word.
        for worker in self.all().await? {
            let is_there = !matches!(worker.status, WorkerStatus::Lost | WorkerStatus::Offline);
            for task in worker.about.iter().flat_map(|about| &about.tasks) {
                let kind = kinds.entry(task.name.clone()).or_insert_with(|| TaskKind {
                    name: task.name.clone(),
                    queue: None,
                    schema: None,
                    queues: BTreeSet::new(),
                    workers: 0,
                });
                // Of two, one that is there knows better than one that is not.
                if is_there || kind.workers == 0 {
                    kind.queue.clone_from(&task.queue);
                    kind.schema.clone_from(&task.schema);
                }
                if is_there {
                    kind.workers += 1;
                    kind.queues.extend(worker.beat.queues.iter().map(|queue| queue.queue.to_string()));
                }
            }
        }
        Ok(kinds.into_values().collect())
    }

    fn has_answers(&self) -> bool {
        self.hears_since.borrow().is_some_and(|since| since.elapsed() >= ANSWERS)
    }
}

fn heard(peer: &Peer, known: Option<KnownWorker>) -> KnownWorker {
    KnownWorker {
        status: WorkerStatus::of(peer.presence, &peer.beat),
        beat: peer.beat.clone(),
        about: peer.about.clone().or_else(|| known.and_then(|known| known.about)),
        heard_at: peer.heard_at,
    }
}

/// How long nothing is heard of a worker that is lost: rows are written every few seconds only.
fn deadline(beat: &Beat) -> Duration {
    Duration::from_millis(beat.every_ms.clamp(100, 60_000).saturating_mul(3)) + super::keeper::WRITE_EVERY
}
