use futures_util::future::BoxFuture;

use super::{Layer, Next};
use crate::{context::Context, outcome::Ended};

/// Counts attempts by how they end, and measures how long they waited and ran.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Metrics;

impl Layer for Metrics {
    fn around<'a>(&'a self, context: &'a Context, next: Next<'a>) -> BoxFuture<'a, Ended> {
        Box::pin(async move {
            let running = context.kind().metrics.started(context.waited());
            let ended = next.run(context).await;
            running.finished(context.fate(&ended).end());
            ended
        })
    }
}
