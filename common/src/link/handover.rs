//! From the one consumer of a queue to the many runners of a worker, waking as few of them as can do the work.
//!
//! A wake costs more than a task that does nothing. So a delivery wakes a runner only while fewer are awake than the
//! runtime has threads; what comes meanwhile, those who are awake take when they are done. A runner whose task waits
//! for something is not awake, and wakes another in its place: there is always one for each task, or all threads
//! are busy.

use std::{collections::VecDeque, future::poll_fn, pin::pin, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How often a runner without an item looks again before it falls asleep. Under load the next one is a few
/// microseconds away, less than it takes to fall asleep and be woken.
const LOOKS: usize = 3;

/// Where the consumer puts what the runners take. Cheap to clone.
#[derive(Debug)]
pub struct Handover<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    wake: Notify,
    /// So many runners are woken at once: more would only wait for a thread.
    threads: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// Runners that look for an item or have one whose task does not wait.
    awake: usize,
    /// Those of them that have none and look again in a moment.
    looking: usize,
    /// Runners that wait to be woken.
    asleep: usize,
    closed: bool,
}

impl<T> State<T> {
    /// Moves one runner from those asleep to those awake, if another is of use; the caller then wakes it.
    fn raise(&mut self, threads: usize) -> bool {
        let raised = self.items.len() > self.looking && self.asleep > 0 && self.awake < threads;
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
    /// For runners on a runtime with so many threads.
    pub fn new(threads: usize) -> Self {
        let state = State { items: VecDeque::new(), awake: 0, looking: 0, asleep: 0, closed: false };
        Self(Arc::new(Shared { state: Mutex::new(state), wake: Notify::new(), threads: threads.max(1) }))
    }

    /// Puts an item in; gives it back once the handover is closed.
    ///
    /// # Errors
    /// The item, when it is closed.
    pub fn put(&self, item: T) -> Result<(), T> {
        let raised = {
            let mut state = self.0.state.lock();
            if state.closed {
                return Err(item);
            }
            state.items.push_back(item);
            state.raise(self.0.threads)
        };
        if raised {
            self.0.wake.notify_one();
        }
        Ok(())
    }

    /// Lets nothing more in, ends the runners when they are done, and gives what nobody took.
    pub fn close(&self) -> Vec<T> {
        let left = {
            let mut state = self.0.state.lock();
            state.closed = true;
            std::mem::take(&mut state.items)
        };
        self.0.wake.notify_waiters();
        left.into()
    }

    /// A runner, to be used by one task.
    pub fn runner(&self) -> Runner<T> {
        self.0.state.lock().awake += 1;
        Runner { shared: self.0.clone(), awake: true }
    }
}

/// Takes items, one at a time.
#[derive(Debug)]
pub struct Runner<T> {
    shared: Arc<Shared<T>>,
    awake: bool,
}

/// Ends a look, also that of a runner that is dropped meanwhile.
struct Looking<'a, T>(&'a Shared<T>);

impl<T> Drop for Looking<'_, T> {
    fn drop(&mut self) {
        self.0.state.lock().looking -= 1;
    }
}

impl<T> Runner<T> {
    /// The next item; `None` once the handover is closed.
    pub async fn next(&mut self) -> Option<T> {
        for _ in 0..LOOKS {
            {
                let mut state = self.shared.state.lock();
                if let Some(item) = state.items.pop_front() {
                    return Some(item);
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
                if let Some(item) = state.items.pop_front() {
                    return Some(item);
                }
                if state.closed {
                    return None;
                }
                state.awake -= 1;
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
                while let Some(item) = runner.next().await {
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
        let handover = Handover::new(2);
        let barrier = Arc::new(Barrier::new(51));
        let waiting = barrier.clone();
        let _runners = runners(&handover, 50, move |_| {
            let waiting = waiting.clone();
            async move {
                waiting.wait().await;
            }
        });
        for item in 0..50 {
            handover.put(item).unwrap();
        }
        tokio::time::timeout(Duration::from_secs(10), barrier.wait()).await.expect("all fifty wait at once");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_item_is_taken_once_whatever_the_tasks_do() {
        let handover = Handover::new(2);
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
            handover.put(item).unwrap();
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
        assert_eq!(handover.put(1), Err(1));
    }

    #[tokio::test]
    async fn what_nobody_took_comes_back_when_it_is_closed() {
        let handover = Handover::new(1);
        handover.put(1).unwrap();
        handover.put(2).unwrap();
        assert_eq!(handover.close(), [1, 2]);
        assert_eq!(handover.runner().next().await, None);
    }
}
