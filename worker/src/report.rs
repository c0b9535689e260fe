//! What whoever follows events is told of a task.

use leveret_common::{
    event::{self, Happening, TaskEvent},
    trace_context::TraceContext,
    wire::Envelope,
};

use crate::{
    context::{Context, Surroundings},
    fate::Fate,
    settle::{Move, Verdict},
};

impl Surroundings {
    /// Whether this task is reported on.
    pub(crate) fn follows(&self, envelope: &Envelope) -> bool {
        self.tracking.follows(&envelope.facts.id, &envelope.headers)
    }

    /// Reports what happened to a task that is reported on.
    pub(crate) fn report(&self, envelope: &Envelope, what: Happening) {
        let (facts, headers) = (&envelope.facts, &envelope.headers);
        let (schedule, scheduled_at) = facts.schedule.clone().unzip();
        let trace = TraceContext::read(headers);
        self.events.report(TaskEvent {
            id: facts.id.clone(),
            task: facts.task.clone(),
            queue: self.queue.clone(),
            attempt: facts.attempt,
            at: self.clock.now(),
            trace_id: trace.and_then(|trace| trace.traceparent().split('-').nth(1).map(str::to_owned)),
            replays: facts.replays,
            schedule,
            scheduled_at,
            labels: event::labels(headers),
            what,
        });
    }
}

/// What is told of the end of an attempt. Of a task that goes back to its queue, and will be given out again, nothing.
pub(crate) fn ending(context: &Context, fate: Fate, verdict: &Verdict) -> Option<Happening> {
    let ran_ms = context.ran_ms();
    Some(match verdict {
        Verdict::Done { result, .. } => Happening::done(ran_ms, result.as_ref()),
        Verdict::Cancelled(reason) => Happening::Cancelled { ran_ms: Some(ran_ms), reason: said(reason) },
        Verdict::Discarded(reason) => Happening::Discarded { ran_ms, reason: said(reason) },
        Verdict::Moved(Move::Later { at, failure: Some((kind, error)), .. }) if matches!(fate, Fate::Retried(_)) => {
            Happening::Failed { ran_ms, error_kind: (*kind).to_owned(), error: error.clone(), retry_at: *at }
        }
        Verdict::Moved(Move::Later { at, failure: None, .. }) if matches!(fate, Fate::Snoozed(_)) => {
            Happening::Snoozed { ran_ms, retry_at: *at }
        }
        Verdict::Moved(Move::Dead { reason, kind, error }) => Happening::Dead {
            ran_ms: Some(ran_ms),
            reason: *reason,
            error_kind: (*kind).to_owned(),
            error: error.clone(),
        },
        Verdict::Moved(Move::Later { .. } | Move::Limited { .. }) | Verdict::GivenBack => return None,
    })
}

/// What is told of a task that died before its handler was begun.
pub(crate) fn never_begun(moved: &Move) -> Option<Happening> {
    let Move::Dead { reason, kind, error } = moved else { return None };
    let (error_kind, error) = ((*kind).to_owned(), error.clone());
    Some(Happening::Dead { ran_ms: None, reason: *reason, error_kind, error })
}

/// What is told of a task that was called off before its handler was begun.
pub(crate) fn revoked(reason: &str) -> Happening {
    Happening::Cancelled { ran_ms: None, reason: said(reason) }
}

fn said(reason: &str) -> Option<String> {
    Some(reason.to_owned()).filter(|reason| !reason.is_empty())
}
