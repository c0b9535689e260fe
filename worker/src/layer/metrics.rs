use std::time::Duration;

use futures_util::future::BoxFuture;
use leveret_common::clock::UnixMillis;

use super::{Layer, Next};
use crate::{context::Context, outcome::Ended};

/// Counts attempts by how they end, and measures how long they waited and ran.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Metrics;

impl Layer for Metrics {
    fn around<'a>(&'a self, context: &'a Context, next: Next<'a>) -> BoxFuture<'a, Ended> {
        Box::pin(async move {
            let waited = waited(context.facts().timestamp, context.started_at());
            let running = context.kind().metrics.started(waited);
            let ended = next.run(context).await;
            running.finished(context.fate(&ended).end());
            ended
        })
    }
}

/// How long the task has waited since it was published, as far as its publisher's clock can tell.
fn waited(published_seconds: Option<u64>, now: UnixMillis) -> Option<Duration> {
    let published = i64::try_from(published_seconds?).ok()?.checked_mul(1000)?;
    Some(now.since(UnixMillis(published)))
}
