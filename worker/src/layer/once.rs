use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use leveret_common::once::{Claim, Mark, OnceError, OnceStore};
use tracing::{debug, warn};

use super::{Layer, Next};
use crate::{
    context::Context,
    fate::Fate,
    outcome::{Ended, Error, ErrorKind, Outcome},
};

/// How long to wait before a task is looked at again whose mark cannot be asked for.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// The shortest time after which a task comes back that another worker is at.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Runs a task whose work is done already no more than once: by its `unique` key if it has one, by its id otherwise.
///
/// The mark is set when the attempt is settled: after the tasks that follow and the reply are stored, before the
/// delivery is acknowledged. A handler that works in a database can commit the mark together with its work, see
/// [`Context::once_mark`]. While the store cannot be asked, tasks are put off, and none of their attempts is counted.
///
/// A task that another task has made needless is gone, and whoever waits for its result is told. Ids that a message did
/// not bring are made up anew at each delivery: a task without an id and without a key is run each time.
#[derive(Clone, Debug)]
pub struct Once {
    store: Arc<dyn OnceStore>,
    window: Duration,
}

impl Once {
    /// Keeps the marks in `store`: [`MemoryOnce`](leveret_common::once::MemoryOnce), or one that outlives the process.
    pub fn new(store: impl OnceStore) -> Self {
        Self::shared(Arc::new(store))
    }

    /// Keeps the marks in a store that others use too.
    pub fn shared(store: Arc<dyn OnceStore>) -> Self {
        Self { store, window: Mark::DEFAULT_WINDOW }
    }

    /// Sets how long it is remembered that a task was done, by its id. Default a day. For a `unique` key the task or
    /// the message says how long.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    fn mark(&self, context: &Context) -> Option<Mark> {
        let facts = context.facts();
        match &facts.unique {
            Some(unique) => {
                let mark = Mark::unique(&facts.task, &unique.key, &facts.id, context.shared_instance());
                Some(mark.window(unique.window))
            }
            None if facts.id_was_given => Some(Mark::of_task(&facts.id, context.shared_instance()).window(self.window)),
            None => None,
        }
    }

    /// Runs what is further in, and extends the claim meanwhile.
    async fn run(&self, mark: &Mark, context: &Context, next: Next<'_>) -> Ended {
        tokio::select! {
            biased;
            ended = next.run(context) => ended,
            // Not looked at before the handler waits for something.
            lost = self.extend(mark) => {
                warn!(task_id = %context.id(), task = context.task(), "given up: {lost}");
                Err(Error::of(ErrorKind::Stopped, lost))
            }
        }
    }

    /// Extends the claim for as long as that succeeds.
    async fn extend(&self, mark: &Mark) -> OnceError {
        loop {
            tokio::time::sleep(mark.leased_for() / 3).await;
            match self.store.extend(mark).await {
                Ok(()) => {}
                Err(lost @ OnceError::Lost { .. }) => return lost,
                // It may pass before the lease is over.
                Err(error) => debug!(key = mark.key(), "the claim is not extended yet: {error}"),
            }
        }
    }
}

impl Layer for Once {
    fn around<'a>(&'a self, context: &'a Context, next: Next<'a>) -> BoxFuture<'a, Ended> {
        Box::pin(async move {
            let Some(mark) = self.mark(context).map(Arc::new) else { return next.run(context).await };
            match self.store.claim(&mark, context.is_redelivered()).await {
                Ok(Claim::First) => {
                    context.set_claimed(Claimed { store: self.store.clone(), mark: mark.clone() });
                    self.run(&mark, context, next).await
                }
                Ok(Claim::Done) => {
                    debug!(task_id = %context.id(), task = context.task(), "was done before");
                    Ok(Outcome::Done)
                }
                Ok(Claim::Duplicate { of }) => Ok(Outcome::Cancel(format!("the same as task {of}"))),
                Ok(Claim::Busy { until }) => Ok(Outcome::Snooze(until.since(context.clock().now()).max(BUSY_PAUSE))),
                Err(error) => {
                    warn!(task_id = %context.id(), task = context.task(), "put off: {error}");
                    Ok(Outcome::Snooze(STORE_PAUSE))
                }
            }
        })
    }
}

/// A claim that an attempt holds, to be settled with it.
#[derive(Debug)]
pub(crate) struct Claimed {
    store: Arc<dyn OnceStore>,
    mark: Arc<Mark>,
}

impl Claimed {
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Says what has become of the work. A store that cannot be told leaves a claim that ends by itself: then the task
    /// may run again, as it may without marks.
    pub(crate) async fn settle(&self, fate: Fate) {
        let told = match fate {
            Fate::Done => self.store.done(&self.mark).await,
            Fate::Snoozed(_) | Fate::Retried(_) | Fate::GivenBack => self.store.release(&self.mark).await,
            Fate::Dead(_) | Fate::Discarded | Fate::Cancelled => self.store.forget(&self.mark).await,
        };
        if let Err(error) = told {
            warn!(key = self.mark.key(), ?fate, "the mark is not kept: {error}");
        }
    }
}
