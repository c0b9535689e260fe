//! Async functions and handlers of one's own type.

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use leveret_common::task::Task;

use super::{Handle, Handler, Job, arguments};
use crate::{
    context::Context,
    outcome::{Ended, Error, Outcome},
};

/// An async function of the context and the typed arguments.
pub(crate) struct Typed<T, F> {
    function: F,
    task: PhantomData<fn(T)>,
}

impl<T, F> Typed<T, F> {
    pub(crate) fn new(function: F) -> Self {
        Self { function, task: PhantomData }
    }
}

impl<T, F, R, O> Handle for Typed<T, F>
where
    T: Task,
    F: Fn(Context, Job<T>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, Error>> + Send + 'static,
    O: Into<Outcome> + 'static,
{
    fn call(&self, context: Context) -> BoxFuture<'static, Ended> {
        match arguments(&context) {
            Ok(job) => {
                let running = (self.function)(context, job);
                Box::pin(async move { running.await.map(Into::into) })
            }
            Err(error) => Box::pin(ready(Err(error))),
        }
    }
}

/// An async function of the context and the body as it came.
pub(crate) struct Raw<F>(pub(crate) F);

impl<F, R, O> Handle for Raw<F>
where
    F: Fn(Context, Bytes) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, Error>> + Send + 'static,
    O: Into<Outcome> + 'static,
{
    fn call(&self, context: Context) -> BoxFuture<'static, Ended> {
        let body = context.body().clone();
        let running = (self.0)(context, body);
        Box::pin(async move { running.await.map(Into::into) })
    }
}

/// A [`Handler`].
pub(crate) struct Own<H>(pub(crate) Arc<H>);

impl<H: Handler> Handle for Own<H> {
    fn call(&self, context: Context) -> BoxFuture<'static, Ended> {
        let handler = self.0.clone();
        Box::pin(async move {
            let job = arguments(&context)?;
            handler.run(context, job).await
        })
    }
}
