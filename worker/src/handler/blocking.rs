//! Functions that block their thread: on threads of their own, so many at once.

use std::{marker::PhantomData, panic::resume_unwind, sync::Arc};

use futures_util::future::BoxFuture;
use leveret_common::task::Task;
use tokio::sync::Semaphore;

use super::{Handle, Job, arguments};
use crate::{
    context::Context,
    outcome::{Ended, Error, ErrorKind, Outcome},
};

/// The threads of a worker for functions that block.
#[derive(Clone, Debug)]
pub(crate) struct BlockingThreads(Arc<Semaphore>);

impl BlockingThreads {
    pub(crate) fn new(threads: usize) -> Self {
        Self(Arc::new(Semaphore::new(threads.clamp(1, Semaphore::MAX_PERMITS))))
    }
}

/// A function that may block, of the context and the typed arguments.
pub(crate) struct Blocking<T, F> {
    function: Arc<F>,
    threads: BlockingThreads,
    task: PhantomData<fn(T)>,
}

impl<T, F> Blocking<T, F> {
    pub(crate) fn new(function: F, threads: BlockingThreads) -> Self {
        Self { function: Arc::new(function), threads, task: PhantomData }
    }
}

impl<T, F, O> Handle for Blocking<T, F>
where
    T: Task,
    F: Fn(Context, Job<T>) -> Result<O, Error> + Send + Sync + 'static,
    O: Into<Outcome> + 'static,
{
    fn call(&self, context: Context) -> BoxFuture<'static, Ended> {
        let (function, threads) = (self.function.clone(), self.threads.0.clone());
        Box::pin(async move {
            let job = arguments(&context)?;
            // A thread cannot be stopped from outside: should the attempt be given up, it keeps its place until the
            // function returns.
            let place = threads.acquire_owned().await.map_err(|_| Error::of(ErrorKind::Stopped, "no threads"))?;
            let span = context.span();
            let running = tokio::task::spawn_blocking(move || {
                let _place = place;
                span.in_scope(|| function(context, job).map(Into::into))
            });
            match running.await {
                Ok(ended) => ended,
                Err(lost) => match lost.try_into_panic() {
                    Ok(panic) => resume_unwind(panic),
                    Err(_) => Err(Error::of(ErrorKind::Stopped, "the runtime shuts down")),
                },
            }
        })
    }
}
