//! Any [`tower::Layer`](tower_layer::Layer) around the attempts at a task.

use std::{fmt, task::Poll};

use futures_util::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, poll_fn},
};
use tower_layer::Layer as TowerLayer;
use tower_service::Service;

use super::{Layer, Next, OwnedNext};
use crate::{
    context::Context,
    outcome::{Ended, Error, Outcome},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a tower service is called with: one attempt.
#[derive(Debug)]
pub struct Attempt {
    /// The task that is to be run.
    pub context: Context,
    next: OwnedNext,
}

/// The innermost service: it runs the attempt.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Inner;

/// A failed attempt, as a tower service sees it. Its text is the handler's error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub Error);

impl Service<Attempt> for Inner {
    type Response = Outcome;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Outcome, Failed>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        attempt.next.run(attempt.context).map_err(Failed).boxed()
    }
}

/// A tower layer as a layer of tasks. What the layer itself fails with, such as tower's `Elapsed`, is a failure that is
/// tried again; a handler's error comes through it as it was.
pub struct Tower<S> {
    service: S,
}

impl<S> Tower<S> {
    /// Puts `layer` around attempts.
    pub fn new<L>(layer: L) -> Self
    where
        L: TowerLayer<Inner, Service = S>,
    {
        Self { service: layer.layer(Inner) }
    }
}

impl<S> fmt::Debug for Tower<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tower")
    }
}

impl<S> Layer for Tower<S>
where
    S: Service<Attempt, Response = Outcome> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
{
    fn around<'a>(&'a self, context: &'a Context, next: Next<'a>) -> BoxFuture<'a, Ended> {
        let mut service = self.service.clone();
        let attempt = Attempt { context: context.clone(), next: next.to_owned() };
        Box::pin(async move {
            if let Err(error) = poll_fn(|waiting| service.poll_ready(waiting)).await {
                return Err(failure(error.into()));
            }
            service.call(attempt).await.map_err(|error| failure(error.into()))
        })
    }
}

fn failure(error: BoxError) -> Error {
    match error.downcast::<Failed>() {
        Ok(failed) => failed.0,
        Err(error) => Error::retry(error),
    }
}
