//! Steering a worker while it runs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use leveret_common::{
    control::{LimitChange, LimitReport, Pause, RunningTask},
    event::Events,
    link::Attachment,
    metrics::TaskEnd,
    registry::WorkerState,
    topology::QueueName,
};

use crate::{
    context::{Cancelled, Context},
    control::{Controlled, QueueReport, Revoked, Which},
    limits::Limits,
    pool::Pool,
    revocations::Revocations,
    run::Stopper,
    source::Source,
};

/// Steers a running worker from elsewhere: see what runs, call tasks off, pause queues, run more or fewer tasks at
/// once. Cheap to clone; a worker that has ended takes no notice.
#[derive(Clone, Debug)]
pub struct Steering {
    pools: Arc<Vec<Arc<Pool>>>,
    stopper: Stopper,
    events: Events,
    limits: Option<Limits>,
    revocations: Arc<Revocations>,
    draining: Arc<AtomicBool>,
}

/// Why a task ends of which nobody has said why.
const CALLED_OFF: &str = "called off";
/// Why a worker that drains takes no more.
const DRAINING: &str = "the worker is draining";

impl Steering {
    pub(crate) fn new(
        pools: Arc<Vec<Arc<Pool>>>,
        stopper: Stopper,
        events: Events,
        limits: Option<Limits>,
        revocations: Arc<Revocations>,
    ) -> Self {
        Self { pools, stopper, events, limits, revocations, draining: Arc::default() }
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
            if !self.is_draining() {
                source.resume();
            }
        })
    }

    /// Takes no more from any queue, finishes what runs, and stays up. It cannot be undone.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.sources().iter().for_each(|source| source.pause(DRAINING.to_owned()));
    }

    /// Whether it was told to drain.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn sources(&self) -> Vec<Arc<Source>> {
        self.pools.iter().flat_map(|pool| pool.sources()).collect()
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
    /// together. Those that run are not disturbed. The prefetch follows, unless it was chosen.
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

impl Controlled for Steering {
    fn state(&self) -> WorkerState {
        if self.stopper.is_stopping() {
            WorkerState::Stopping
        } else if self.is_draining() {
            WorkerState::Draining
        } else {
            WorkerState::Running
        }
    }

    fn queues(&self) -> Vec<QueueReport> {
        let mut reports: BTreeMap<QueueName, QueueReport> = BTreeMap::new();
        for pool in self.pools.iter() {
            let running = pool.running();
            for source in pool.sources() {
                let queue = &source.lane.queue;
                let busy = running.iter().filter(|task| task.queue() == queue.as_str()).count();
                let ended: u64 = TaskEnd::ALL.iter().map(|end| source.lane.surroundings.tally.of(*end)).sum();
                let attached = source.attachment() == Attachment::Attached;
                let report = reports.entry(queue.clone()).or_insert_with(|| QueueReport {
                    queue: queue.clone(),
                    concurrency: u32::try_from(pool.concurrency()).unwrap_or(u32::MAX),
                    busy: u32::try_from(busy).unwrap_or(u32::MAX),
                    prefetch: 0,
                    attached: true,
                    taken: busy as u64,
                });
                report.taken = report.taken.saturating_add(ended);
                report.prefetch = report.prefetch.saturating_add(u32::from(source.prefetch()));
                report.attached &= attached;
            }
        }
        reports.into_values().collect()
    }

    fn finished(&self) -> BTreeMap<String, u64> {
        let lanes: Vec<_> = self.sources().iter().map(|source| source.lane.clone()).collect();
        let sum = |end: TaskEnd| lanes.iter().map(|lane| lane.surroundings.tally.of(end)).sum();
        TaskEnd::ALL.iter().map(|end| (end.as_str().to_owned(), sum(*end))).collect()
    }

    fn events_dropped(&self) -> u64 {
        self.events.dropped()
    }

    fn running(&self) -> Vec<RunningTask> {
        let tasks = self.running().into_iter();
        let task = |task: Context| {
            Some(RunningTask {
                id: task.id().clone(),
                task: task.task().to_owned(),
                queue: QueueName::new(task.queue()).ok()?,
                attempt: task.attempt(),
                since: task.started_at(),
                progress: task.last_progress(),
            })
        };
        tasks.filter_map(task).collect()
    }

    fn cancel(&self, which: &Which, reason: Option<&str>) -> usize {
        let is_meant = |task: &Context| which.is_meant(task.id(), task.task(), task.facts().replays);
        self.cancel(is_meant, reason.unwrap_or(CALLED_OFF))
    }

    fn revoke(&self, which: &Revoked, reason: Option<&str>, lasts: Duration) {
        self.revocations.add(which, reason.unwrap_or(CALLED_OFF), lasts);
    }

    async fn pause(&self, queue: &QueueName, pause: &Pause) -> Result<(), String> {
        self.pause(queue.as_str(), &pause.to_string()).map_err(|error| error.to_string())
    }

    async fn resume(&self, queue: &QueueName) -> Result<(), String> {
        if self.is_draining() {
            return Err("the worker is draining: start another, or this one anew".to_owned());
        }
        self.resume(queue.as_str()).map_err(|error| error.to_string())
    }

    async fn set_concurrency(&self, queue: &QueueName, tasks: u16) -> Result<(), String> {
        self.set_concurrency(queue.as_str(), usize::from(tasks)).map_err(|error| error.to_string())
    }

    fn limits(&self) -> Vec<LimitReport> {
        let limits = self.limits.as_ref().map(Limits::list).unwrap_or_default();
        limits.into_iter().map(Into::into).collect()
    }

    async fn set_limit(&self, change: &LimitChange) -> Result<(), String> {
        match &self.limits {
            Some(limits) => limits.change(change).await,
            None => Err(format!("this worker has no limit {:?}", change.name)),
        }
    }

    fn drain(&self) {
        self.drain();
    }

    fn stop(&self) {
        self.stopper.stop();
    }
}

/// The worker does not consume from the queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this worker does not consume from queue {queue:?}")]
pub struct NoSuchQueue {
    /// The queue.
    pub queue: String,
}
