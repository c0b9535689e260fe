//! Runners that share the work of one or more queues.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use leveret_common::link::{Delivery, Handover, Inlet, Runner, Share};
use parking_lot::{Mutex, RwLock};
use tokio::{runtime::Handle, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    context::{Cancelled, Context},
    lane::Lane,
    lease::Leases,
    plan::{Ahead, PoolPlan},
    slot::Slot,
    source::Source,
};

/// As many runners as tasks may run at once, and the queues that they serve.
#[derive(Debug)]
pub(crate) struct Pool {
    intake: Arc<Intake>,
    sources: RwLock<Vec<Arc<Source>>>,
    runners: Mutex<Runners>,
    concurrency: AtomicUsize,
    /// How much is fetched ahead. `None` where that was chosen, and so does not follow the concurrency.
    ahead: Option<Ahead>,
}

/// The ways into a pool, and which queue each is for.
#[derive(Debug)]
pub(crate) struct Intake {
    handover: Handover<Delivery>,
    /// In the order of their making, by which runners know them.
    ways: RwLock<Vec<Way>>,
}

/// One way into a pool.
#[derive(Clone, Debug)]
struct Way {
    lane: Arc<Lane>,
    inlet: Inlet<Delivery>,
}

impl Intake {
    /// A new way in, for deliveries of a queue.
    pub(crate) fn open(&self, lane: Arc<Lane>, share: Share) -> Inlet<Delivery> {
        // Held throughout, so that the numbers of inlets and ways agree.
        let mut ways = self.ways.write();
        let inlet = self.handover.inlet(share);
        ways.push(Way { lane, inlet: inlet.clone() });
        inlet
    }
}

#[derive(Debug, Default)]
struct Runners {
    tasks: JoinSet<()>,
    slots: Vec<Arc<Slot>>,
    stopped: bool,
}

impl Pool {
    /// A pool without queues. Its runners are started by [`run`](Self::run).
    pub(crate) fn new(plan: &PoolPlan) -> Arc<Self> {
        let concurrency = plan.concurrency;
        let threads = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        Arc::new(Self {
            intake: Arc::new(Intake { handover: Handover::new(threads, concurrency), ways: RwLock::default() }),
            sources: RwLock::default(),
            runners: Mutex::default(),
            concurrency: AtomicUsize::new(concurrency),
            ahead: plan.queues.iter().all(|queue| queue.options.prefetch.is_none()).then(|| plan.ahead()),
        })
    }

    /// The ways into it.
    pub(crate) fn intake(&self) -> Arc<Intake> {
        self.intake.clone()
    }

    /// Adds a queue that is consumed from by way of its intake.
    pub(crate) fn add(&self, source: Source) {
        self.sources.write().push(Arc::new(source));
    }

    /// The queues.
    pub(crate) fn sources(&self) -> Vec<Arc<Source>> {
        self.sources.read().clone()
    }

    /// How many tasks may run at once.
    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.load(Ordering::Relaxed)
    }

    /// Starts the runners.
    pub(crate) fn run(&self) {
        self.set_runners(self.concurrency());
    }

    /// Sets how many tasks may run at once, and how many are fetched ahead. Of those that run, none is disturbed.
    pub(crate) fn resize(&self, concurrency: usize) {
        self.set_runners(concurrency);
        if let Some(ahead) = self.ahead {
            let prefetch = ahead.prefetch(concurrency);
            self.sources().iter().for_each(|source| source.set_prefetch(prefetch));
        }
    }

    fn set_runners(&self, concurrency: usize) {
        let mut runners = self.runners.lock();
        if runners.stopped {
            return;
        }
        self.concurrency.store(concurrency, Ordering::Relaxed);
        let missing = self.intake.handover.resize(concurrency);
        // Those that ended meanwhile are forgotten: a slot is kept by its runner and by this list.
        while runners.tasks.try_join_next().is_some() {}
        runners.slots.retain(|slot| Arc::strong_count(slot) > 1);
        for _ in 0..missing {
            let slot = Arc::new(Slot::default());
            runners.slots.push(slot.clone());
            runners.tasks.spawn(serve(self.intake.clone(), self.intake.handover.runner(), slot));
        }
    }

    /// What runs now.
    pub(crate) fn running(&self) -> Vec<Context> {
        self.runners.lock().slots.iter().filter_map(|slot| slot.task()).collect()
    }

    /// Begins no more tasks, lets those that run come to their end until `now` is cancelled, gives back the rest.
    pub(crate) async fn stop(&self, now: CancellationToken) {
        let sources = self.sources();
        sources.iter().for_each(|source| source.stop());
        self.intake.handover.close().into_iter().for_each(Delivery::give_back);
        let mut tasks = {
            let mut runners = self.runners.lock();
            runners.stopped = true;
            std::mem::take(&mut runners.tasks)
        };
        let finished = tokio::select! {
            () = now.cancelled() => false,
            () = async { while tasks.join_next().await.is_some() {} } => true,
        };
        if !finished {
            let running = self.running();
            info!(still = running.len(), "stopping now: what still runs goes back to its queue");
            running.iter().for_each(|task| task.cancel(Cancelled::Stopping));
            // Aborted at their next await, they drop their deliveries, which go back.
            tasks.shutdown().await;
        }
        join_all(sources.iter().map(|source| source.finish())).await;
        join_all(sources.iter().filter_map(|source| source.lane.leases.as_deref()).map(Leases::finish)).await;
    }
}

/// A runner: takes deliveries until there can be no more, or it is one too many.
async fn serve(intake: Arc<Intake>, mut runner: Runner<Delivery>, slot: Arc<Slot>) {
    // Its own list, so that a task costs no lock that others want.
    let mut ways = Vec::new();
    while let Some((number, delivery)) = runner.next().await {
        if number >= ways.len() {
            ways = intake.ways.read().clone();
        }
        // A way is in the list before anything can come by it.
        let Some(Way { lane, inlet }) = ways.get(number) else { continue };
        // Pinned here: it is some kilobytes large, and is moved no more.
        let processing = pin!(lane.process(delivery, &slot));
        runner.run(processing).await;
        inlet.finished();
    }
}
