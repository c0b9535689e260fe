//! Running one delivery: read it, see whether it may run now, run it within its time, and say how it ended.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use leveret_common::{
    clock::UnixMillis,
    link::Delivery,
    metrics::TaskEnd,
    trace_context::{Attempt, TraceContext},
    wire::{DeadReason, Envelope},
};

use crate::{
    context::Context,
    handler::Kind,
    lane::Lane,
    outcome::{Error, ErrorKind, Outcome},
    settle::{Move, Verdict},
};

impl Lane {
    /// Runs one delivery to its end and settles it.
    pub(crate) async fn process(&self, mut delivery: Delivery) {
        if delivery.is_stale() {
            return;
        }
        let (properties, body) = delivery.take_content();
        let redelivered = delivery.redelivered;
        let envelope = match Envelope::decode(self.queue(), redelivered, properties, body, &self.limits) {
            Ok(envelope) => Arc::new(envelope),
            Err(unreadable) => {
                self.unreadable.never_ran(TaskEnd::Dead);
                let envelope = Arc::new(*unreadable.envelope);
                let parked = Move::dead(DeadReason::Undecodable, unreadable.kind, unreadable.error);
                return self.settle(delivery, &envelope, Verdict::Moved(parked)).await;
            }
        };
        let facts = &envelope.facts;
        let now = self.surroundings.clock.now();
        let Some((kind, metrics)) = self.kinds.get(&facts.task) else {
            self.unreadable.never_ran(TaskEnd::Dead);
            let error = format!("no handler here has the name {:?}", facts.task);
            let parked = Move::dead(DeadReason::UnknownTask, "unknown-task", error);
            return self.settle(delivery, &envelope, Verdict::Moved(parked)).await;
        };
        if facts.expires_at.is_some_and(|at| at <= now) {
            metrics.never_ran(TaskEnd::Dead);
            let parked = Move::dead(DeadReason::Expired, "expired", "its time was over before it was run".to_owned());
            return self.settle(delivery, &envelope, Verdict::Moved(parked)).await;
        }
        if let Some(at) = facts.not_before.filter(|at| *at > now) {
            let later = Move::later(facts.attempt, at);
            return self.settle(delivery, &envelope, Verdict::Moved(later)).await;
        }

        let remote = TraceContext::read(&envelope.headers);
        let attempt = Attempt {
            task_id: facts.id.as_str(),
            task: &facts.task,
            queue: self.queue(),
            attempt: facts.attempt,
            deferred: facts.not_before.is_some() || facts.schedule.is_some(),
        };
        let span = attempt.span(remote.as_ref());
        let running = metrics.started(waited(facts.timestamp, now));
        let ended = span.instrument(self.attempt(kind, &envelope)).await;
        let (verdict, end, error_kind) = self.judge(kind, &envelope, ended);
        running.finished(end);
        span.ended(end, error_kind);
        self.settle(delivery, &envelope, verdict).await;
    }

    /// Runs the handler within its time; a panic is a failure like any other.
    async fn attempt(&self, kind: &Kind, envelope: &Arc<Envelope>) -> Result<Outcome, Error> {
        let facts = &envelope.facts;
        let timeout = facts.timeout.unwrap_or(kind.policy.timeout);
        let context = Context {
            envelope: envelope.clone(),
            worker: self.surroundings.clone(),
            max_attempts: facts.max_attempts.unwrap_or(kind.policy.retry.max_attempts),
            timeout,
        };
        let body = envelope.body.clone();
        // The handler's own code before its first await runs inside as well, so that its panic is caught too.
        let calling = AssertUnwindSafe(async { kind.handler.call(context, body).await }).catch_unwind();
        match tokio::time::timeout(timeout.saturating_add(kind.handler.overtime()), calling).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(panic)) => Err(Error::of(ErrorKind::Panicked, panic_text(panic.as_ref()))),
            Err(_) => Err(Error::of(ErrorKind::TimedOut, format!("not finished within {} ms", timeout.as_millis()))),
        }
    }

    fn judge(
        &self,
        kind: &Kind,
        envelope: &Envelope,
        ended: Result<Outcome, Error>,
    ) -> (Verdict, TaskEnd, Option<&'static str>) {
        let facts = &envelope.facts;
        let now = self.surroundings.clock.now();
        let error = match ended {
            Ok(Outcome::Done) => return (Verdict::Done(None), TaskEnd::Done, None),
            Ok(Outcome::Result(result)) => return (Verdict::Done(Some(result)), TaskEnd::Done, None),
            Ok(Outcome::Snooze(delay)) => {
                return (Verdict::Moved(Move::later(facts.attempt, now + delay)), TaskEnd::Snoozed, None);
            }
            Ok(Outcome::Discard(reason)) => {
                tracing::info!(task_id = %facts.id, task = facts.task, reason, "discarded");
                return (Verdict::Discarded, TaskEnd::Discarded, None);
            }
            Ok(Outcome::Reject(reason)) => Error::reject(reason),
            Err(error) => error,
        };
        let label = error.label();
        let dead =
            |reason| (Verdict::Moved(Move::dead(reason, label, error.message.clone())), TaskEnd::Dead, Some(label));
        let asked = match error.kind {
            ErrorKind::Stopped => return (Verdict::GivenBack, TaskEnd::GivenBack, None),
            ErrorKind::Reject => return dead(DeadReason::Rejected),
            ErrorKind::Undecodable => return dead(DeadReason::Undecodable),
            ErrorKind::RetryAfter(delay) => Some(delay),
            ErrorKind::Retry | ErrorKind::TimedOut | ErrorKind::Panicked => None,
        };
        let failed = facts.failed(label, &error.message, asked, now);
        let Some(delay) = facts.retry_policy(&kind.policy.retry).next(&failed) else {
            return match error.kind {
                ErrorKind::TimedOut => dead(DeadReason::Timeout),
                _ => dead(DeadReason::Exhausted),
            };
        };
        let retried = Move::again(facts.attempt + 1, now + delay, label, error.message);
        (Verdict::Moved(retried), TaskEnd::Retried, Some(label))
    }
}

/// How long the task has waited since it was published, as far as its publisher's clock can tell.
fn waited(published_seconds: Option<u64>, now: UnixMillis) -> Option<Duration> {
    let published = i64::try_from(published_seconds?).ok()?.checked_mul(1000)?;
    Some(now.since(UnixMillis(published)))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", text.unwrap_or("it gave no text"))
}
