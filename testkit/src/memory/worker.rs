//! A worker that a test drives step by step.

use std::{sync::Arc, time::Duration};

use leveret_common::clock::UnixMillis;
use leveret_worker::{
    builder::WorkerBuilder,
    context::Context,
    layer::Layer,
    outcome::{Ended, Outcome},
    run::RunningWorker,
};

use super::{
    MemoryBroker, Shared,
    report::{End, Report},
    table,
};

/// How long a worker may take for what is due, unless told otherwise. In real time: handlers run in it.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many moments at which something comes back; a task that asks to be called again for ever has more.
const MOMENTS: usize = 10_000;

/// A worker that runs tasks only when the test says so. Made by [`MemoryBroker::worker`].
///
/// It is a real worker, connected and subscribed; the broker keeps its queues back between two steps. Dropped, it stops
/// in the background.
#[derive(Debug)]
pub struct TestWorker {
    broker: MemoryBroker,
    running: RunningWorker,
    /// The work queues.
    work: Vec<String>,
    /// The queues that give out tasks only when they are asked to.
    queues: Vec<String>,
    patience: Duration,
}

/// Lets the queues give out what they have, until it is dropped.
struct Released<'a>(&'a TestWorker);

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.0.broker.shared.state().held.extend(self.0.queues.iter().cloned());
    }
}

/// Tells the journal what a broker cannot see of an end.
struct Listening(Arc<Shared>);

impl Layer for Listening {
    fn after(&self, context: &Context, ended: &Ended) {
        let end = match ended {
            Ok(Outcome::Discard(reason)) => End::Discarded { reason: reason.clone() },
            Ok(Outcome::Cancel(reason)) => End::Cancelled { reason: reason.clone() },
            Err(error) if error.is_cancelled() => End::Cancelled { reason: error.to_string() },
            _ => return,
        };
        self.0.state().journal.said(context.id().as_str(), end);
    }
}

impl TestWorker {
    pub(super) async fn start(broker: MemoryBroker, builder: WorkerBuilder) -> Self {
        let worker = builder.clock(broker.clock()).layer(Listening(broker.shared.clone())).build();
        let worker = worker.unwrap_or_else(|error| panic!("the worker cannot be built: {error}"));
        let topology = worker.topology().unwrap_or_else(|error| panic!("the worker cannot be built: {error}"));
        let work: Vec<_> = topology.work_queues().map(|(name, _)| name.to_string()).collect();
        let of_work =
            |queue: &String| work.iter().any(|work| work == table::work_queue(queue)) && !table::is_aside(queue);
        let queues: Vec<_> = topology.queues().into_iter().map(|queue| queue.name).filter(of_work).collect();
        broker.shared.state().held.extend(queues.iter().cloned());
        let running = worker.start().await.unwrap_or_else(|error| panic!("the worker cannot be started: {error}"));
        running.attached().await.unwrap_or_else(|error| panic!("the worker has stopped: {error}"));
        {
            let state = broker.shared.state();
            let served = |name: &String| state.queues.get(name).is_some_and(|queue| !queue.consumers.is_empty());
            assert!(
                queues.iter().all(served),
                "the worker consumes from another broker: begin it with `Worker::builder(broker.settings())`"
            );
        }
        Self { broker, running, work, queues, patience: PATIENCE }
    }

    /// How long a step may take, in real time. Default 30 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The worker itself, for its health and its other handles.
    pub fn running(&self) -> &RunningWorker {
        &self.running
    }

    /// Runs what is due now to its end, with what that publishes to the queues of this worker, and says what became of
    /// each. The clock stays where it is: what is to be tried again waits.
    ///
    /// # Panics
    /// If the worker is not done within its [`patience`](Self::patience), with the tasks that it still runs.
    pub async fn run_due(&mut self) -> Report {
        let shared = self.broker.shared.clone();
        let released = Released(self);
        {
            let mut state = shared.state();
            for queue in &self.queues {
                state.held.remove(queue);
            }
            for queue in &self.queues {
                state.dispatch(queue);
            }
        }
        let idle = async {
            loop {
                let changed = shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if shared.state().is_idle(&self.work) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(self.patience, idle).await.is_err() {
            let running = shared.state().journal.running();
            panic!("the worker has not finished within {:?}; it still runs: {running:?}", self.patience);
        }
        drop(released);
        Report::new(shared.state().journal.take_handled(&self.work))
    }

    /// Lets this much time go by: the clock moves from one moment at which something comes back to the next, and each
    /// time the worker runs what is due.
    ///
    /// # Panics
    /// As [`run_due`](Self::run_due).
    pub async fn run_for(&mut self, time: Duration) -> Report {
        let clock = self.broker.clock();
        let end = clock.now() + time;
        let mut report = self.run_due().await;
        while let Some(at) = self.next_moment().filter(|at| *at <= end) {
            self.wait_until(at).await;
            report.add(self.run_due().await);
        }
        self.wait_until(end).await;
        report
    }

    /// Lets as much time go by as it takes until nothing comes back any more: every task is done or dead.
    ///
    /// # Panics
    /// As [`run_due`](Self::run_due), and when something still comes back after 10,000 such moments.
    pub async fn run_to_end(&mut self) -> Report {
        let mut report = self.run_due().await;
        for _ in 0..MOMENTS {
            let Some(at) = self.next_moment() else { return report };
            self.wait_until(at).await;
            report.add(self.run_due().await);
        }
        panic!("something has come back {MOMENTS} times and still does: use `run_for` for tasks that never end")
    }

    /// Stops the worker as a site does, waiting for what it runs.
    pub async fn stop(self) {
        self.running.stop().await;
    }

    fn next_moment(&self) -> Option<UnixMillis> {
        self.broker.shared.state().next_return(&self.work)
    }

    /// A held clock is moved, the system's is waited for.
    async fn wait_until(&self, at: UnixMillis) {
        let clock = self.broker.clock();
        self.broker.advance(at.since(clock.now()));
        clock.sleep_until(at).await;
    }
}
