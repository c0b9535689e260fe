//! Limits on how many tasks run at once and how many begin in a time: of one worker, or of all workers together.
//!
//! | file | what is in it |
//! |---|---|
//! | `ledger.rs`, `bucket.rs` | who holds and who waits: counting, told what time it is |
//! | `reign.rs` | what the one keeper of the shared limits knows and decides |
//! | `keeper.rs` | how a worker becomes the keeper, and what goes in and out then |
//! | `share.rs`, `session.rs` | a worker's side: what it has and wants, and how it asks |
//! | `local.rs` | the limits of one worker by itself |
//! | `protocol.rs` | what goes between workers and the keeper |

mod bucket;
mod desk;
mod gate;
mod keeper;
mod ledger;
mod local;
mod protocol;
mod reign;
mod session;
mod share;
#[cfg(test)]
mod simulation;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leveret_common::{
    clock::Clock,
    control::{LimitChange, LimitReport},
    limit::{InvalidRate, InvalidTerms, LimitName, LimitSettings, Terms},
    link::{ChannelPool, Link, spawn},
    topology::{InvalidName, Topology, TopologyError, declare},
};
use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use gate::{Admission, Gate, Permit};

use desk::Desk;
use local::Local;
use session::Ground;
use share::Share;

/// How long a task waits for a permit, unless told otherwise, before it makes room for others.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(3);

/// How a worker takes part in limits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LimitOptions {
    /// How many tasks the worker runs at once, waiting ones included. A quarter of them, at least one, may wait for
    /// longer than the patience: those that are next in line. Default 16.
    pub runners: usize,
    /// How long a task waits for a permit before it is sent away, to make room for others. Default 3 s.
    pub patience: Duration,
    /// Where the time comes from that tells since when a task has waited.
    pub clock: Clock,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self { runners: crate::options::DEFAULT_CONCURRENCY, patience: DEFAULT_PATIENCE, clock: Clock::system() }
    }
}

/// The limits of a worker. Cheap to clone; when the last clone, gate and permit are gone, what it had is free.
#[derive(Clone, Debug)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: BTreeMap<LimitName, LimitSettings>,
    local: Option<Arc<Local>>,
    changed: Mutex<BTreeMap<LimitName, Terms>>,
    share: Option<Arc<Share>>,
    stop: CancellationToken,
    tasks: Mutex<Vec<leveret_common::link::JoinHandle<()>>>,
    clock: Clock,
}

impl Limits {
    /// Whether any of these is shared with other workers, so that the broker has to have their queue.
    pub fn are_shared(settings: &BTreeMap<LimitName, LimitSettings>) -> bool {
        settings.values().any(|limit| !limit.per_worker)
    }

    /// Takes part in these limits. `link` is to be the connection that the tasks come by: so a worker's share is free
    /// exactly when the broker gives its tasks to others.
    ///
    /// # Errors
    /// [`LimitsError`] when a limit makes no sense, or the queue of the limits cannot be declared.
    pub async fn start(
        link: Link,
        settings: BTreeMap<LimitName, LimitSettings>,
        options: LimitOptions,
    ) -> Result<Self, LimitsError> {
        for (name, limit) in &settings {
            limit.check().map_err(|reason| LimitsError::Terms { name: name.clone(), reason })?;
        }
        let patient = u32::try_from(options.runners / 4).unwrap_or(u32::MAX).max(1);
        let terms = |per_worker: bool| {
            let of_kind = settings.iter().filter(move |(_, limit)| limit.per_worker == per_worker);
            of_kind.map(|(name, limit)| (name.clone(), limit.terms()))
        };
        let local = terms(true).next().is_some().then(|| Local::new(terms(true), options.patience, patient));
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        let share = if Self::are_shared(&settings) {
            let topology = Topology::new(&link.settings().namespace)?.limits();
            let pool = ChannelPool::new(link.clone());
            declare(&pool, &topology).await?;
            let share = Arc::new(Share::new(terms(false).collect(), patient));
            let ground = Arc::new(Ground {
                link,
                pool,
                topology,
                id: uuid::Uuid::new_v4().simple().to_string(),
                share: share.clone(),
                stop: stop.clone(),
            });
            tasks.push(spawn(session::run(ground.clone())));
            tasks.push(spawn(keeper::run(ground, options.patience)));
            Some(share)
        } else {
            None
        };
        Ok(Self(Arc::new(Inner {
            settings,
            local,
            changed: Mutex::default(),
            share,
            stop,
            tasks: Mutex::new(tasks),
            clock: options.clock,
        })))
    }

    /// What tasks of this name from this queue have to pass; nothing if no limit is for them. To be asked for once, not
    /// for each task.
    pub fn gate(&self, queue: &str, task: &str) -> Option<Gate> {
        Gate::new(&self.0, queue, task)
    }

    /// Waits until a task may begin. The same as [`Gate::admit`] for a caller who asks once.
    pub async fn admit(&self, queue: &str, task: &str, key: Option<&str>) -> Admission {
        match self.gate(queue, task) {
            Some(gate) => gate.admit(key, None).await,
            None => Admission::Now(Permit::free()),
        }
    }

    /// Changes what a limit admits while workers run, for all workers that share it; `None` goes back to the
    /// configuration. The change is remembered as long as a worker with this limit is there. Of a limit per worker it
    /// changes this worker's alone.
    ///
    /// # Errors
    /// [`SetLimitError`].
    pub async fn set(&self, limit: &LimitName, terms: Option<Terms>) -> Result<(), SetLimitError> {
        if let Some(terms) = terms {
            terms.check()?;
        }
        let unknown = || SetLimitError::Unknown { limit: limit.clone() };
        let configured = self.0.settings.get(limit).ok_or_else(unknown)?;
        match (&self.0.local, &self.0.share) {
            (Some(local), _) if configured.per_worker => {
                local.set(limit, terms.unwrap_or(configured.terms()));
                let mut changed = self.0.changed.lock();
                match terms {
                    Some(terms) => changed.insert(limit.clone(), terms),
                    None => changed.remove(limit),
                };
                Ok(())
            }
            (_, Some(share)) => {
                let heard = share.set(limit.clone(), terms);
                match tokio::time::timeout(SET_TIMEOUT, heard).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) => Err(SetLimitError::Closed),
                    Err(_) => Err(SetLimitError::Unanswered { waited_ms: SET_TIMEOUT.as_millis() }),
                }
            }
            _ => Err(unknown()),
        }
    }

    /// Carries out a command to change a limit. What it does not say stays as it is.
    pub(crate) async fn change(&self, change: &LimitChange) -> Result<(), String> {
        let name = LimitName::new(&change.name).map_err(|error| error.to_string())?;
        let known = self.list().into_iter().find(|state| state.name == name);
        let present = known.map(|state| state.changed.unwrap_or(state.settings.terms())).unwrap_or_default();
        let rate =
            change.rate.as_deref().map(str::parse).transpose().map_err(|error: InvalidRate| error.to_string())?;
        let terms = Terms { concurrency: change.concurrency.or(present.concurrency), rate: rate.or(present.rate) };
        self.set(&name, (!change.reset).then_some(terms)).await.map_err(|error| error.to_string())
    }

    /// The limits, as this worker sees them.
    pub fn list(&self) -> Vec<LimitState> {
        let state = |(name, settings): (&LimitName, &LimitSettings)| {
            let share = self.0.share.as_ref().filter(|_| !settings.per_worker);
            let local = self.0.local.as_ref().filter(|_| settings.per_worker);
            let changed = match share {
                Some(share) => share.changed(name),
                None => self.0.changed.lock().get(name).copied(),
            };
            let counted = share.map(|share| share.count(name)).or_else(|| local.map(|local| local.count(name)));
            let (held, waiting) = counted.unwrap_or_default();
            LimitState { name: name.clone(), settings: settings.clone(), changed, held, waiting }
        };
        self.0.settings.iter().map(state).collect()
    }

    /// Admits no more tasks: those that wait, and those that still come, are told [`Admission::Closed`].
    pub fn refuse(&self) {
        let local = self.0.local.clone().map(|local| local as Arc<dyn Desk>);
        let share = self.0.share.clone().map(|share| share as Arc<dyn Desk>);
        local.into_iter().chain(share).for_each(|desk| desk.close());
    }

    /// Leaves: what this worker has is free for others, and another keeps the limits if it did. To be called when no
    /// task runs any more, and before the link is closed.
    pub async fn close(&self) {
        self.0.stop.cancel();
        let tasks = std::mem::take(&mut *self.0.tasks.lock());
        for task in tasks {
            // It ends in a panic only if the runtime itself is going down.
            let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
        }
    }
}

/// How long a change of a limit may take: the keeper may be about to change.
const SET_TIMEOUT: Duration = Duration::from_secs(30);

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A limit, as one worker sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LimitState {
    /// Its name.
    pub name: LimitName,
    /// What this worker's configuration says.
    pub settings: LimitSettings,
    /// What it was changed to while workers run.
    pub changed: Option<Terms>,
    /// Tasks of this worker that it has admitted and that run.
    pub held: usize,
    /// Tasks of this worker that wait for it.
    pub waiting: usize,
}

impl From<LimitState> for LimitReport {
    fn from(state: LimitState) -> Self {
        let LimitState { name, settings, changed, held, waiting } = state;
        let count = |tasks: usize| u64::try_from(tasks).unwrap_or(u64::MAX);
        Self {
            name,
            in_force: changed.unwrap_or(settings.terms()),
            queues: settings.queues,
            tasks: settings.tasks,
            by_key: settings.by_key,
            per_worker: settings.per_worker,
            concurrency: settings.concurrency,
            rate: settings.rate,
            held: count(held),
            waiting: count(waiting),
        }
    }
}

/// The limits could not be taken part in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// A limit admits nothing, or everything.
    #[error("limit {:?}: {reason}", .name.as_str())]
    Terms {
        /// The limit.
        name: LimitName,
        /// What is wrong with it.
        reason: InvalidTerms,
    },
    /// The namespace breaks the rules of names.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The queue of the limits could not be declared.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// A limit could not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetLimitError {
    /// This worker has no such limit.
    #[error("there is no limit {:?} here: only limits of the configuration can be changed", .limit.as_str())]
    Unknown {
        /// The limit.
        limit: LimitName,
    },
    /// It would admit nothing, or everything.
    #[error(transparent)]
    Terms(#[from] InvalidTerms),
    /// Nobody keeps the limits at present.
    #[error("nobody has confirmed the change within {waited_ms} ms: it is made as soon as the broker is there again")]
    Unanswered {
        /// How long was waited, in milliseconds.
        waited_ms: u128,
    },
    /// The worker is stopping.
    #[error("the worker is stopping")]
    Closed,
}
