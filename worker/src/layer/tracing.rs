use futures_util::future::BoxFuture;
use leveret_common::trace_context::{Attempt, TraceContext};

use super::{Layer, Next};
use crate::{context::Context, outcome::Ended};

/// One span for each attempt: log lines carry the ids of the task, publishes the trace context.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Tracing;

impl Layer for Tracing {
    fn around<'a>(&'a self, context: &'a Context, next: Next<'a>) -> BoxFuture<'a, Ended> {
        Box::pin(async move {
            let facts = context.facts();
            let remote = TraceContext::read(context.headers());
            let attempt = Attempt {
                task_id: facts.id.as_str(),
                task: &facts.task,
                queue: context.queue(),
                attempt: facts.attempt,
                deferred: facts.not_before.is_some() || facts.schedule.is_some(),
            };
            let span = attempt.span(remote.as_ref());
            context.set_span(span.span().clone());
            let ended = span.instrument(next.run(context)).await;
            span.ended(context.fate(&ended).end(), ended.as_ref().err().map(|error| error.label()));
            ended
        })
    }
}
