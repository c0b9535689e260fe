//! Layers: what is done around every attempt at a task.
//!
//! A [`Layer`] sees an attempt before its handler does, and its end afterwards. Those of a worker are around those of
//! a task; among these the first that was added is the outermost. Leveret's own come as layers too:
//!
//! | layer | what it does | |
//! |---|---|---|
//! | [`Tracing`] | one span for each attempt, as part of the publisher's trace | by default, outermost |
//! | [`Metrics`] | counts and times attempts | by default |
//! | [`TimeLimit`] | soft and hard timeout, heartbeats | by default, innermost |
//! | [`Classify`] | tells failures that pass from failures that stay | |
//! | [`RateLimit`] | so many attempts in a time at this worker | |
//! | [`Once`] | runs a task whose work is done no more | |
//! | [`Compress`] | compresses the tasks that follow | |
//! | [`tower`] | takes any `tower::Layer` | |

mod classify;
mod compress;
mod metrics;
mod once;
mod rate_limit;
mod time_limit;
pub mod tower;
mod tracing;

use std::{fmt, panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};

pub(crate) use self::once::Claimed;
pub use self::{
    classify::{Classify, FailureClass},
    compress::Compress,
    metrics::Metrics,
    once::Once,
    rate_limit::RateLimit,
    time_limit::TimeLimit,
    tracing::Tracing,
};
use crate::{
    context::Context,
    execute::panicked,
    handler::Kind,
    outcome::{Ended, Error},
};

/// Something that is done around every attempt at a task.
///
/// The three hooks suffice for most: they are called by the default [`around`](Self::around). One that has to wait,
/// or to keep something for the time of the attempt, has an `around` of its own.
pub trait Layer: Send + Sync + 'static {
    /// Before the handler. An error ends the attempt, as if the handler had returned it.
    ///
    /// # Errors
    /// What the attempt is to end with.
    fn before(&self, context: &Context) -> Result<(), Error> {
        let _ = context;
        Ok(())
    }

    /// When the attempt has failed, by an error of the handler or of a layer further in.
    fn on_failure(&self, context: &Context, error: &Error) {
        let _ = (context, error);
    }

    /// When the attempt has ended, well or not.
    fn after(&self, context: &Context, ended: &Ended) {
        let _ = (context, ended);
    }

    /// The whole attempt: what [`Next::run`] gives is the end as the layers further in see it, and what this gives is
    /// what those further out see.
    fn around<'a>(&'a self, context: &'a Context, next: Next<'a>) -> BoxFuture<'a, Ended> {
        Box::pin(async move {
            let ended = match self.before(context) {
                Ok(()) => next.run(context).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &ended {
                self.on_failure(context, error);
            }
            self.after(context, &ended);
            ended
        })
    }
}

/// The layers of a task, the outermost first.
pub(crate) type Layers = Arc<[Arc<dyn Layer>]>;

/// What is further in than a layer: other layers, and at last the handler.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    kind: &'a Arc<Kind>,
    depth: usize,
}

impl<'a> Next<'a> {
    pub(crate) fn outermost(kind: &'a Arc<Kind>) -> Self {
        Self { kind, depth: 0 }
    }

    /// Runs what is further in. A layer may run it more than once, or not at all.
    pub fn run(self, context: &'a Context) -> BoxFuture<'a, Ended> {
        match self.kind.layers.get(self.depth) {
            Some(layer) => layer.around(context, Self { depth: self.depth + 1, ..self }),
            None => Box::pin(async move {
                // Caught here, so that the layers see a panic as the failure that it is. What the handler does before
                // its first await runs inside as well.
                let calling = AssertUnwindSafe(async { self.kind.handler.call(context.clone()).await });
                calling.catch_unwind().await.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
            }),
        }
    }

    /// The same, to keep for longer than the layer's own call.
    pub fn to_owned(self) -> OwnedNext {
        OwnedNext { kind: self.kind.clone(), depth: self.depth }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("depth", &self.depth).finish_non_exhaustive()
    }
}

/// A [`Next`] that can be kept.
#[derive(Clone)]
pub struct OwnedNext {
    kind: Arc<Kind>,
    depth: usize,
}

impl OwnedNext {
    /// Runs what is further in.
    ///
    /// # Errors
    /// What the handler, or a layer further in, ends with.
    pub async fn run(self, context: Context) -> Ended {
        Next { kind: &self.kind, depth: self.depth }.run(&context).await
    }
}

impl fmt::Debug for OwnedNext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedNext").field("depth", &self.depth).finish_non_exhaustive()
    }
}
