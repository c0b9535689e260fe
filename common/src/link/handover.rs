//! From the consumers of one or more queues to the runners of a pool, waking as few of them as can do the work.
//!
//! A wake costs more than a task that does nothing. So a delivery wakes a runner only while fewer are awake than the
//! runtime has threads; what comes meanwhile, those who are awake take when they are done. A runner whose task waits
//! for something is not awake, and wakes another in its place: there is always one for each task, or all threads
//! are busy.

use std::{future::poll_fn, pin::pin, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::turns::{Share, Turns};

/// How often a runner without an item looks again before it falls asleep. Under load the next one is a few
/// microseconds away, less than it takes to fall asleep and be woken.
const LOOKS: usize = 3;

/// Where consumers put what the runners take. Cheap to clone.
#[derive(Debug)]
pub struct Handover<T>(Arc<Shared<T>>);

/// The way into a [`Handover`] for one of its sources. Cheap to clone.
#[derive(Debug)]
pub struct Inlet<T> {
    handover: Handover<T>,
    source: usize,
    share: Share,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    wake: Notify,
    /// So many runners are woken at once: more would only wait for a thread.
    threads: usize,
}

#[derive(Debug)]
struct State<T> {
    items: Turns<T>,
    /// Runners that look for an item or have one whose task does not wait.
    awake: usize,
    /// Those of them that have none and look again in a moment.
    looking: usize,
    /// Runners that wait to be woken.
    asleep: usize,
    /// Runners there are, and runners there are to be: those beyond end when they are done with their item.
    runners: usize,
    wanted: usize,
    closed: bool,
}

impl<T> State<T> {
    /// Moves one runner from those asleep to those awake, if another is of use; the caller then wakes it.
    fn raise(&mut self, threads: usize) -> bool {
        let raised = self.asleep > 0 && self.items.takeable() > self.looking && self.awake < threads;
        if raised {
            self.asleep -= 1;
            self.awake += 1;
        }
        raised
    }
}

impl<T> Clone for Handover<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Handover<T> {
    /// For so many runners on a runtime with so many threads.
    pub fn new(threads: usize, runners: usize) -> Self {
        let state =
            State { items: Turns::new(), awake: 0, looking: 0, asleep: 0, runners: 0, wanted: runners, closed: false };
        Self(Arc::new(Shared { state: Mutex::new(state), wake: Notify::new(), threads: threads.max(1) }))
    }

    /// Adds a source of items.
    pub fn inlet(&self, share: Share) -> Inlet<T> {
        let source = self.0.state.lock().items.add(share);
        Inlet { handover: self.clone(), source, share }
    }

    /// Lets nothing more in, ends the runners when they are done, and gives what nobody took.
    pub fn close(&self) -> Vec<T> {
        let left = {
            let mut state = self.0.state.lock();
            state.closed = true;
            state.items.clear_all()
        };
        self.0.wake.notify_waiters();
        left
    }

    /// Sets how many runners there are to be, and gives how many are missing. Those beyond the number end when they
    /// are done with what they have.
    pub fn resize(&self, runners: usize) -> usize {
        let missing = {
            let mut state = self.0.state.lock();
            state.wanted = runners;
            // All have a look whether they are one too many.
            state.awake += std::mem::take(&mut state.asleep);
            runners.saturating_sub(state.runners)
        };
        self.0.wake.notify_waiters();
        missing
    }

    /// A runner, to be used by one task.
    pub fn runner(&self) -> Runner<T> {
        let mut state = self.0.state.lock();
        state.awake += 1;
        state.runners += 1;
        Runner { shared: self.0.clone(), awake: true, retired: false }
    }
}

impl<T> Clone for Inlet<T> {
    fn clone(&self) -> Self {
        Self { handover: self.handover.clone(), source: self.source, share: self.share }
    }
}

impl<T> Inlet<T> {
    /// Puts an item in; gives it back once the handover is closed.
    ///
    /// # Errors
    /// The item, when it is closed.
    pub fn put(&self, item: T) -> Result<(), T> {
        let shared = &self.handover.0;
        let raised = {
            let mut state = shared.state.lock();
            if state.closed {
                return Err(item);
            }
            state.items.put(self.source, item)?;
            state.raise(shared.threads)
        };
        if raised {
            shared.wake.notify_one();
        }
        Ok(())
    }

    /// Takes out what no runner has taken yet.
    pub fn clear(&self) -> Vec<T> {
        self.handover.0.state.lock().items.clear(self.source)
    }

    /// A runner is done with an item of a source whose items may not all run at once.
    pub fn finished(&self) {
        if self.share.at_once == usize::MAX {
            return;
        }
        let shared = &self.handover.0;
        let raised = {
            let mut state = shared.state.lock();
            state.items.finished(self.source);
            state.raise(shared.threads)
        };
        if raised {
            shared.wake.notify_one();
        }
    }
}

/// Takes items, one at a time.
#[derive(Debug)]
pub struct Runner<T> {
    shared: Arc<Shared<T>>,
    awake: bool,
    /// It was one too many, and is no longer counted.
    retired: bool,
}

/// Ends a look, also that of a runner that is dropped meanwhile.
struct Looking<'a, T>(&'a Shared<T>);

impl<T> Drop for Looking<'_, T> {
    fn drop(&mut self) {
        self.0.state.lock().looking -= 1;
    }
}

impl<T> Runner<T> {
    /// The next item and the number of its source, which counts them in the order of their making; `None` once the
    /// handover is closed, or this runner is one too many.
    pub async fn next(&mut self) -> Option<(usize, T)> {
        for _ in 0..LOOKS {
            {
                let mut state = self.shared.state.lock();
                if state.runners > state.wanted {
                    state.runners -= 1;
                    self.retired = true;
                    return None;
                }
                if let Some(taken) = state.items.take() {
                    return Some(taken);
                }
                state.looking += 1;
            }
            let looking = Looking(&self.shared);
            tokio::task::yield_now().await;
            drop(looking);
        }
        loop {
            let mut woken = pin!(self.shared.wake.notified());
            {
                let mut state = self.shared.state.lock();
                if state.closed {
                    return None;
                }
                if state.runners > state.wanted {
                    state.runners -= 1;
                    self.retired = true;
                    return None;
                }
                if let Some(taken) = state.items.take() {
                    return Some(taken);
                }
                state.awake = state.awake.saturating_sub(1);
                state.asleep += 1;
                self.awake = false;
                // Signed up while the lock is held: no item can slip in between.
                woken.as_mut().enable();
            }
            woken.await;
            // Whoever woke us has counted us as awake; when all are woken to end, it does not matter.
            self.awake = true;
        }
    }

    /// Runs the work on an item. While it waits for something, another runner may be awake in our place.
    pub async fn run<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        let output = poll_fn(|context| {
            let polled = work.as_mut().poll(context);
            if polled.is_pending() {
                self.step_back();
            }
            polled
        })
        .await;
        if !self.awake {
            self.shared.state.lock().awake += 1;
            self.awake = true;
        }
        output
    }

    fn step_back(&mut self) {
        if self.awake {
            self.awake = false;
            let raised = {
                let mut state = self.shared.state.lock();
                state.awake = state.awake.saturating_sub(1);
                state.raise(self.shared.threads)
            };
            if raised {
                self.shared.wake.notify_one();
            }
        }
    }
}

/// A runner that is gone, after a panic for instance, leaves its place to another.
impl<T> Drop for Runner<T> {
    fn drop(&mut self) {
        if !self.retired {
            self.shared.state.lock().runners -= 1;
        }
        self.step_back();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::{sync::Barrier, task::JoinSet};

    use super::*;

    fn runners<F, R>(handover: &Handover<usize>, count: usize, work: F) -> JoinSet<usize>
    where
        F: Fn(usize) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + Send,
    {
        let mut runners = JoinSet::new();
        for _ in 0..count {
            let (mut runner, work) = (handover.runner(), work.clone());
            runners.spawn(async move {
                let mut done = 0;
                while let Some((_, item)) = runner.next().await {
                    runner.run(work(item)).await;
                    done += 1;
                }
                done
            });
        }
        runners
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tasks_that_wait_for_each_other_all_run_at_once() {
        let handover = Handover::new(2, 50);
        let inlet = handover.inlet(Share::default());
        let barrier = Arc::new(Barrier::new(51));
        let waiting = barrier.clone();
        let _runners = runners(&handover, 50, move |_| {
            let waiting = waiting.clone();
            async move {
                waiting.wait().await;
            }
        });
        for item in 0..50 {
            inlet.put(item).unwrap();
        }
        tokio::time::timeout(Duration::from_secs(10), barrier.wait()).await.expect("all fifty wait at once");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_item_is_taken_once_whatever_the_tasks_do() {
        let handover = Handover::new(2, 50);
        let inlet = handover.inlet(Share::default());
        let (done, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counting, telling) = (done.clone(), all.clone());
        let mut running = runners(&handover, 20, move |item| {
            let (done, all) = (counting.clone(), telling.clone());
            async move {
                for _ in 0..item % 4 {
                    tokio::task::yield_now().await;
                }
                if done.fetch_add(1, Ordering::Relaxed) + 1 == 20_000 {
                    all.notify_one();
                }
            }
        });
        for item in 0..20_000 {
            inlet.put(item).unwrap();
            if item % 64 == 0 {
                // Now and then the runners catch up and fall asleep.
                tokio::task::yield_now().await;
            }
        }
        tokio::time::timeout(Duration::from_secs(20), all.notified()).await.expect("none is left lying");
        assert!(handover.close().is_empty());
        let mut sum = 0;
        while let Some(done) = running.join_next().await {
            sum += done.unwrap();
        }
        assert_eq!(sum, 20_000);
        assert_eq!(inlet.put(1), Err(1));
    }

    #[tokio::test]
    async fn what_nobody_took_comes_back_when_it_is_closed() {
        let handover = Handover::new(1, 1);
        let inlet = handover.inlet(Share::default());
        inlet.put(1).unwrap();
        inlet.put(2).unwrap();
        assert_eq!(handover.close(), [1, 2]);
        assert_eq!(handover.runner().next().await, None);
    }

    #[tokio::test]
    async fn runners_beyond_the_number_end_and_missing_ones_are_told() {
        let handover = Handover::new(1, 3);
        let inlet = handover.inlet(Share::default());
        let (done, mut dones) = tokio::sync::mpsc::unbounded_channel();
        let mut running = runners(&handover, 3, move |item| {
            done.send(item).unwrap();
            std::future::ready(())
        });
        inlet.put(1).unwrap();
        assert_eq!(dones.recv().await, Some(1));
        assert_eq!(handover.resize(1), 0);
        for _ in 0..2 {
            running.join_next().await.unwrap().unwrap();
        }
        inlet.put(2).unwrap();
        assert_eq!(dones.recv().await, Some(2));
        assert_eq!(handover.resize(4), 3);
    }
}
