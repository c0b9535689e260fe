//! Handlers that take several tasks at a time, each of which is settled by itself.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use leveret_common::task::Task;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Handle, Job, arguments};
use crate::{
    context::Context,
    execute::panicked,
    outcome::{Ended, Error, ErrorKind, Outcome},
};

/// How many tasks make a batch, and how long the first of them waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// The most tasks in a batch. Each takes up one of the worker's places meanwhile, so the queue's concurrency is
    /// to be at least as many. At least 1.
    pub size: usize,
    /// How long the first waits for others.
    pub wait: Duration,
}

impl BatchOptions {
    /// At most `size` tasks, or what has come when the first has waited for `wait`.
    pub const fn new(size: usize, wait: Duration) -> Self {
        Self { size, wait }
    }
}

/// Several tasks at a time.
#[derive(Debug)]
pub struct Batch<T> {
    /// The tasks, in the order in which they came. Those that the handler leaves without an end of their own share the
    /// one that it returns.
    pub jobs: Vec<BatchJob<T>>,
}

/// One task of a [`Batch`].
#[derive(Debug)]
pub struct BatchJob<T> {
    /// The context of this task.
    pub context: Context,
    /// The arguments.
    pub arguments: T,
    end: End,
}

impl<T> BatchJob<T> {
    /// Says how this one ended, whatever becomes of the others. It is settled at once; a second call does nothing.
    pub fn end(&self, ended: Result<impl Into<Outcome>, Error>) {
        self.end.say(|| ended.map(Into::into));
    }
}

/// The way to tell the runner of a task how it ended, once.
#[derive(Clone, Debug)]
struct End(Arc<Mutex<Option<oneshot::Sender<Ended>>>>);

impl End {
    fn say(&self, ended: impl FnOnce() -> Ended) {
        if let Some(end) = self.0.lock().take() {
            // Nobody waits for it any more if it ran out of time or was called off.
            let _ = end.send(ended());
        }
    }

    fn is_wanted(&self) -> bool {
        self.0.lock().as_ref().is_some_and(|end| !end.is_closed())
    }
}

/// An async function of a batch.
pub(crate) struct Batched<T, F>(Arc<Gathering<T, F>>);

struct Gathering<T, F> {
    function: F,
    options: BatchOptions,
    next: Mutex<Next<T>>,
}

/// The batch that is being gathered.
struct Next<T> {
    jobs: Vec<BatchJob<T>>,
    /// Counts the batches, so that the wait for one that was full in time does not cut the next one short.
    number: u64,
}

impl<T, F, R> Batched<T, F>
where
    T: Task,
    F: Fn(Batch<T>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), Error>> + Send + 'static,
{
    pub(crate) fn new(options: BatchOptions, function: F) -> Self {
        let next = Mutex::new(Next { jobs: Vec::new(), number: 0 });
        Self(Arc::new(Gathering { function, options, next }))
    }
}

impl<T, F, R> Gathering<T, F>
where
    T: Task,
    F: Fn(Batch<T>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), Error>> + Send + 'static,
{
    /// Adds a task; whoever fills the batch starts it, whoever is the first starts it when the wait is over.
    fn add(self: Arc<Self>, job: BatchJob<T>) {
        let mut next = self.next.lock();
        next.jobs.push(job);
        let (first, full, number) = (next.jobs.len() == 1, next.jobs.len() >= self.options.size, next.number);
        if full {
            let jobs = next.take();
            drop(next);
            tokio::spawn(self.run(jobs));
        } else if first {
            drop(next);
            tokio::spawn(async move {
                tokio::time::sleep(self.options.wait).await;
                let jobs = {
                    let mut next = self.next.lock();
                    if next.number == number { next.take() } else { Vec::new() }
                };
                self.run(jobs).await;
            });
        }
    }

    async fn run(self: Arc<Self>, mut jobs: Vec<BatchJob<T>>) {
        jobs.retain(|job| job.end.is_wanted());
        if jobs.is_empty() {
            return;
        }
        let ends: Vec<End> = jobs.iter().map(|job| job.end.clone()).collect();
        let running = AssertUnwindSafe(async { (self.function)(Batch { jobs }).await }).catch_unwind();
        let ended = running.await.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        for end in ends {
            end.say(|| ended.clone().map(Into::into));
        }
    }
}

impl<T> Next<T> {
    fn take(&mut self) -> Vec<BatchJob<T>> {
        self.number += 1;
        std::mem::take(&mut self.jobs)
    }
}

impl<T, F, R> Handle for Batched<T, F>
where
    T: Task,
    F: Fn(Batch<T>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), Error>> + Send + 'static,
{
    fn call(&self, context: Context) -> BoxFuture<'static, Ended> {
        let gathering = self.0.clone();
        Box::pin(async move {
            let Job { arguments } = arguments::<T>(&context)?;
            let (end, ended) = oneshot::channel();
            let end = End(Arc::new(Mutex::new(Some(end))));
            gathering.add(BatchJob { context, arguments, end });
            ended.await.unwrap_or_else(|_| Err(Error::of(ErrorKind::Stopped, "the runtime shuts down")))
        })
    }
}
