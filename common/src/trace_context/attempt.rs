//! The span of one attempt at a task.

use std::future::Future;

use futures_util::future::Either;
use opentelemetry::Context;
use opentelemetry::context::FutureExt;
use opentelemetry::trace::SpanContext;
use tracing::{Instrument, Level, Span, field::Empty};

use super::TraceContext;
use crate::metrics::TaskEnd;

/// What the span of an attempt says about it.
///
/// The first attempt at a task that was meant to run at once is a child of the span that published it: one
/// trace shows both. Later attempts, and tasks that were delayed or made by a schedule, run when that trace is
/// long finished: each starts a trace of its own with a link to the publisher's span. The header itself stays as
/// the publisher wrote it through retries and dead letters, so every attempt points at the same origin.
///
/// Either way the publisher's decision whether to record is kept; a task without trace context is recorded at the
/// ratio of `[telemetry] sample`.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The task's id.
    pub task_id: &'a str,
    /// The task's name, as on the wire.
    pub task: &'a str,
    /// The queue that it came from.
    pub queue: &'a str,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whether the task was delayed, or published by a schedule.
    pub deferred: bool,
}

impl Attempt<'_> {
    /// The span, not yet entered. `remote` is the context that the message carried.
    ///
    /// When nobody listens and `remote` is `None` this costs one relaxed load. The span has the level ERROR so
    /// that log lines carry the task's id at any level of logging; the filter `leveret::task=off` turns it off.
    pub fn span(&self, remote: Option<&TraceContext>) -> AttemptSpan {
        let inherited = remote.map(TraceContext::to_context);
        if !tracing::span_enabled!(target: "leveret::task", Level::ERROR) {
            return AttemptSpan { span: Span::none(), inherited };
        }
        let Self { task_id, task, queue, attempt, .. } = *self;
        // Attached even when empty, so that a span around the whole worker does not become the parent of all.
        let _parent = self.parent(remote, inherited.as_ref()).attach();
        let span = tracing::error_span!(
            target: "leveret::task", "task", task_id, task, queue, attempt,
            outcome = Empty, fields = Empty, "error.type" = Empty, otel.status_code = Empty,
            otel.name = %format_args!("process {task}"), otel.kind = "consumer",
            messaging.system = "rabbitmq", messaging.operation.name = "process", messaging.operation.type = "process",
            messaging.destination.name = queue, messaging.message.id = task_id,
        );
        AttemptSpan { span, inherited }
    }

    fn parent(&self, remote: Option<&TraceContext>, inherited: Option<&Context>) -> Context {
        match (remote, inherited) {
            (Some(remote), _) if self.deferred || self.attempt > 1 => {
                remote.with_baggage(Context::new().with_value(LinkTo(remote.span.clone())))
            }
            (Some(_), Some(inherited)) => inherited.clone(),
            _ => Context::new(),
        }
    }
}

/// In a context without a span: the span that the next root span links to. `telemetry` makes the link.
#[derive(Debug)]
#[cfg_attr(not(feature = "telemetry"), expect(dead_code, reason = "read by the exporter only"))]
pub(crate) struct LinkTo(pub(crate) SpanContext);

/// The span of a running attempt. Dropping it, and the futures made by it, ends the span.
#[derive(Debug)]
pub struct AttemptSpan {
    span: Span,
    inherited: Option<Context>,
}

impl AttemptSpan {
    /// The span itself.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Runs a future inside of the span: its log lines carry the task's id, its publishes the trace context.
    pub fn instrument<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let inside = future.instrument(self.span.clone());
        match &self.inherited {
            Some(context) => Either::Left(inside.with_context(context.clone())),
            None => Either::Right(inside),
        }
    }

    /// Runs a closure inside of the span: for what belongs to the attempt but not to the handler.
    pub fn in_scope<R>(&self, act: impl FnOnce() -> R) -> R {
        let _inherited = self.inherited.clone().map(Context::attach);
        self.span.in_scope(act)
    }

    /// Notes how the attempt ended. `error_kind` is a short stable word for the failure, such as `timeout`.
    pub fn ended(&self, end: TaskEnd, error_kind: Option<&str>) {
        if end == TaskEnd::Done {
            return;
        }
        self.span.record("outcome", end.as_str());
        if matches!(end, TaskEnd::Retried | TaskEnd::Dead) {
            self.span.record("otel.status_code", "error");
        }
        if let Some(kind) = error_kind {
            self.span.record("error.type", kind);
        }
    }
}
