//! Runs what lasts. Each operation is a row that its centre beats; one that falls silent goes to another centre.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leveret_common::{
    dead_letters::{DeadLettersError, Tally},
    link::Link,
    task::TaskId,
    topology::QueueName,
};
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{OperationError, Place, Request, chain};
use crate::centre::{
    database::DatabaseError,
    store::{AuditEntry, Operation, OperationKind, OperationState, Progress, Store},
};

/// How often progress is written.
const BEAT: Duration = Duration::from_millis(500);
/// How often it is looked for operations whose centre has died.
const LOOK: Duration = Duration::from_secs(5);
/// How long an operation may be silent before it goes to another centre.
const SILENCE: Duration = Duration::from_secs(15);
/// How many centres may die over one before it is left alone: it might be what kills them.
const MOST_DEATHS: i64 = 3;
/// How often it is tried again after the broker ended it, and the pause before.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(2);
/// How long ended ones are kept.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Begins, runs, calls off and takes over operations. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Operations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    link: Link,
    centre: String,
    /// Those at work here, with what stops them.
    at_work: Mutex<BTreeMap<String, CancellationToken>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Operations {
    /// Begins to work as `centre`, whose id no other has, on the broker behind `link`; takes over what dead centres left.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(store: Store, link: Link, centre: &str) -> Self {
        let operations = Self(Arc::new(Inner {
            store,
            link,
            centre: centre.to_owned(),
            at_work: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }));
        let (looking, stop) = (operations.clone(), operations.0.stop.clone());
        operations.0.tasks.spawn(stop.run_until_cancelled_owned(async move { looking.look_after_orphans().await }));
        operations
    }

    /// The link to the broker.
    pub fn link(&self) -> &Link {
        &self.0.link
    }

    /// Ends with this centre's work.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.0.stop.child_token()
    }

    /// Begins an operation, and writes `change` into the audit log; it goes on in the background.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn begin(
        &self,
        kind: OperationKind,
        place: &Place,
        request: Request,
        started_by: Option<String>,
        change: Option<&AuditEntry>,
    ) -> Result<Operation, OperationError> {
        request.check().map_err(OperationError::Invalid)?;
        if self.0.stop.is_cancelled() {
            return Err(OperationError::Stopping);
        }
        // A queue that is not there is told at once.
        place.open(&self.0.link)?.depth().await?;
        let operation = Operation {
            id: TaskId::new().to_string(),
            kind,
            queue: place.queue().map(str::to_owned),
            request,
            state: OperationState::Running,
            progress: Progress::default(),
            error: None,
            cancelling: false,
            started_by,
            centre: self.0.centre.clone(),
            deaths: 0,
            created_at: self.0.store.clock().now(),
            ended_at: None,
        };
        if !self.0.store.begin_operation(&operation, change).await? {
            let other = self.0.store.operation_on(place.queue()).await?;
            return Err(OperationError::Busy { id: other.map(|other| other.id).unwrap_or_default() });
        }
        self.spawn(operation.clone());
        Ok(operation)
    }

    /// Asks for an operation to be called off, wherever it runs; it ends within about a second. `false` when there is none
    /// that runs.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn cancel(&self, id: &str, change: Option<&AuditEntry>) -> Result<bool, DatabaseError> {
        let cancelled = self.0.store.cancel_operation(id, change).await?;
        if cancelled && let Some(stop) = self.0.at_work.lock().get(id) {
            stop.cancel();
        }
        Ok(cancelled)
    }

    /// Begins nothing more, and leaves what runs to whichever centre looks next.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn spawn(&self, operation: Operation) {
        let (operations, stop) = (self.clone(), CancellationToken::new());
        self.0.at_work.lock().insert(operation.id.clone(), stop.clone());
        self.0.tasks.spawn(async move {
            let id = operation.id.clone();
            if let Err(failed) = operations.run(operation, &stop).await {
                // Its row falls silent, so that it is taken over once the database answers.
                error!(operation = id, why = %failed, "what became of an operation could not be noted");
            }
            operations.0.at_work.lock().remove(&id);
        });
    }

    async fn run(&self, operation: Operation, stop: &CancellationToken) -> Result<(), DatabaseError> {
        let Operation { id, kind, queue, request, mut progress, mut cancelling, .. } = operation;
        info!(operation = id, kind = kind.as_str(), queue, "an operation begins");
        let mut tries = 0;
        let (state, error) = loop {
            if cancelling {
                break (OperationState::Cancelled, None);
            }
            let base = progress;
            let walk = self.walk(kind, queue.as_deref(), &request, base, stop, &id, &mut progress, &mut cancelling);
            match walk.await? {
                Walked::NotOurs => return Ok(()),
                Walked::Ended(Ok(tally)) if !tally.stopped => break (OperationState::Done, None),
                Walked::Ended(Err(error)) if !is_passing(&error) || tries == TRIES => {
                    break (OperationState::Failed, Some(chain(&error)));
                }
                Walked::Ended(_) if cancelling => {}
                Walked::Ended(_) if self.0.stop.is_cancelled() => {
                    return self.0.store.release_operation(&id, &self.0.centre, progress).await;
                }
                Walked::Ended(Ok(_)) => {}
                Walked::Ended(Err(error)) => {
                    tries += 1;
                    warn!(operation = id, why = chain(&error), "the broker ended it, it goes on soon");
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = stop.cancelled() => cancelling = true,
                        () = self.0.stop.cancelled() => {}
                    }
                }
            }
        };
        info!(operation = id, state = state.as_str(), done = progress.done, "an operation has ended");
        self.0.store.end_operation(&id, &self.0.centre, progress, state, error).await.map(drop)
    }

    /// One walk through the queue, with its progress written down now and then.
    #[expect(clippy::too_many_arguments, reason = "what it reports goes out through the last two")]
    async fn walk(
        &self,
        kind: OperationKind,
        queue: Option<&str>,
        request: &Request,
        base: Progress,
        cancel: &CancellationToken,
        id: &str,
        progress: &mut Progress,
        cancelling: &mut bool,
    ) -> Result<Walked, DatabaseError> {
        let place = match queue.map(QueueName::new).transpose() {
            Ok(queue) => queue.map_or(Place::Lost, Place::Queue),
            Err(error) => return Ok(Walked::Ended(Err(error.into()))),
        };
        let letters = match place.open(&self.0.link) {
            Ok(letters) => letters,
            Err(error) => return Ok(Walked::Ended(Err(error))),
        };
        let stop = cancel.child_token();
        let told = Mutex::new(base);
        let tell = |tally: &Tally| *told.lock() = add(base, tally);
        let selection = request.selection(base.done);
        let walking = async {
            match kind {
                OperationKind::Replay => {
                    letters.replay(&selection, request.rate.map(|rate| rate.interval()), &stop, tell).await
                }
                OperationKind::Purge => letters.purge(&selection, &stop, tell).await,
            }
        };
        let mut walking = std::pin::pin!(walking);
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                ended = &mut walking => break ended,
                () = self.0.stop.cancelled(), if !stop.is_cancelled() => stop.cancel(),
                _ = beat.tick() => {
                    let now = *told.lock();
                    // A database that does not answer for a while ends nothing.
                    match self.0.store.beat_operation(id, &self.0.centre, now).await {
                        Ok(None) => {
                            stop.cancel();
                            let _ = walking.await;
                            return Ok(Walked::NotOurs);
                        }
                        Ok(Some(true)) => stop.cancel(),
                        Ok(Some(false)) => {}
                        Err(error) => warn!(operation = id, why = chain(&error), "its progress could not be noted"),
                    }
                }
            }
        };
        *progress = ended.as_ref().map_or_else(|_| *told.lock(), |tally| add(base, tally));
        *cancelling |= stop.is_cancelled() && (cancel.is_cancelled() || !self.0.stop.is_cancelled());
        Ok(Walked::Ended(ended))
    }

    async fn look_after_orphans(&self) {
        let store = &self.0.store;
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let now = store.clock().now();
            match store.adopt_operation(&self.0.centre, now - SILENCE).await {
                Ok(Some(orphan)) => {
                    look.reset_immediately();
                    if let Err(error) = self.adopt(orphan).await {
                        warn!(why = chain(&error), "an operation could not be taken over");
                    }
                }
                Ok(None) => {
                    if let Err(error) = store.forget_operations(now - KEPT).await {
                        warn!(why = chain(&error), "old operations could not be forgotten");
                    }
                }
                Err(error) => warn!(why = chain(&error), "it could not be looked for operations without a centre"),
            }
        }
    }

    /// Goes on with what another centre began. What was to be done to so many at most is not: nobody knows how many the
    /// dead centre had done beyond what it wrote down.
    async fn adopt(&self, orphan: Operation) -> Result<(), DatabaseError> {
        warn!(operation = orphan.id, deaths = orphan.deaths, "an operation without a centre was taken over");
        let why = if orphan.deaths >= MOST_DEATHS {
            Some("the centres that worked on it died, again and again: look at their logs, then begin it anew")
        } else if orphan.deaths > 0 && orphan.request.limit.is_some() {
            Some("its centre died, and how many were done is known but roughly: look how many are left, and begin anew")
        } else {
            None
        };
        match why {
            None => self.spawn(orphan),
            Some(why) => {
                let (state, why) = (OperationState::Interrupted, Some(why.to_owned()));
                self.0.store.end_operation(&orphan.id, &self.0.centre, orphan.progress, state, why).await?;
            }
        }
        Ok(())
    }
}

/// How a walk went.
enum Walked {
    Ended(Result<Tally, DeadLettersError>),
    /// Another centre has taken it over.
    NotOurs,
}

fn add(base: Progress, tally: &Tally) -> Progress {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Progress {
        done: base.done.saturating_add(number(tally.settled)),
        seen: base.seen.saturating_add(number(tally.seen)),
        total: Some(base.seen.saturating_add(number(tally.depth))),
    }
}

/// Whether it would go on where it stopped once the broker is there again.
fn is_passing(error: &DeadLettersError) -> bool {
    matches!(error, DeadLettersError::Connect(_) | DeadLettersError::Interrupted { .. })
}
