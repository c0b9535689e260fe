//! Steering a worker while it runs.

use std::sync::Arc;

use crate::{
    context::{Cancelled, Context},
    pool::Pool,
    source::Source,
};

/// Steers a running worker from elsewhere: see what runs, call tasks off, pause queues, run more or fewer tasks at
/// once. Cheap to clone; a worker that has ended takes no notice.
#[derive(Clone, Debug)]
pub struct Steering {
    pools: Arc<Vec<Arc<Pool>>>,
}

impl Steering {
    pub(crate) fn new(pools: Arc<Vec<Arc<Pool>>>) -> Self {
        Self { pools }
    }

    /// The tasks that run now.
    pub fn running(&self) -> Vec<Context> {
        self.pools.iter().flat_map(|pool| pool.running()).collect()
    }

    /// Calls off the running tasks that `which` picks, and gives how many. Their handlers are told through
    /// [`Context::cancelled`]; one that has not ended after five seconds is dropped. A task that is called off is gone,
    /// and whoever waits for its result is told.
    pub fn cancel(&self, which: impl Fn(&Context) -> bool, reason: &str) -> usize {
        let picked: Vec<_> = self.running().into_iter().filter(which).collect();
        picked.iter().for_each(|task| task.cancel(Cancelled::Requested(reason.to_owned())));
        picked.len()
    }

    /// Consumes no more from a queue until it is resumed; what runs goes on, what was fetched goes back.
    ///
    /// # Errors
    /// [`NoSuchQueue`].
    pub fn pause(&self, queue: &str, reason: &str) -> Result<(), NoSuchQueue> {
        self.each_of(queue, |_, source| source.pause(reason.to_owned()))
    }

    /// Consumes from a queue again.
    ///
    /// # Errors
    /// [`NoSuchQueue`].
    pub fn resume(&self, queue: &str) -> Result<(), NoSuchQueue> {
        self.each_of(queue, |_, source| {
            source.resume();
        })
    }

    /// Why a queue is paused, if it is.
    ///
    /// # Errors
    /// [`NoSuchQueue`].
    pub fn paused(&self, queue: &str) -> Result<Option<String>, NoSuchQueue> {
        let mut reason = None;
        self.each_of(queue, |_, source| reason = reason.take().or_else(|| source.paused()))?;
        Ok(reason)
    }

    /// Sets how many tasks of a queue run at once, from 1 to 65535; of queues that share their runners, of all
    /// together. Those that run are not disturbed. The prefetch follows when the queue is next subscribed to.
    ///
    /// # Errors
    /// [`NoSuchQueue`].
    pub fn set_concurrency(&self, queue: &str, tasks: usize) -> Result<(), NoSuchQueue> {
        self.each_of(queue, |pool, _| pool.resize(tasks.clamp(1, usize::from(u16::MAX))))
    }

    fn each_of(&self, queue: &str, mut act: impl FnMut(&Arc<Pool>, &Source)) -> Result<(), NoSuchQueue> {
        let mut found = false;
        for pool in self.pools.iter() {
            for source in pool.sources().iter().filter(|source| source.lane.queue() == queue) {
                found = true;
                act(pool, source);
            }
        }
        if found { Ok(()) } else { Err(NoSuchQueue { queue: queue.to_owned() }) }
    }
}

/// The worker does not consume from the queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this worker does not consume from queue {queue:?}")]
pub struct NoSuchQueue {
    /// The queue.
    pub queue: String,
}
