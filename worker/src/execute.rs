//! Running one delivery: read it, see whether it may run now, run it, and say how it ended.

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use leveret_common::{
    event::Happening,
    link::Delivery,
    metrics::TaskEnd,
    wire::{DeadReason, Envelope},
};
use tracing::info;

use crate::{
    context::{Cancelled, Context},
    fate::Fate,
    lane::Lane,
    layer::Next,
    outcome::{Ended, Error, ErrorKind},
    settle::{Move, Verdict},
    shards::{self, AfterFailure},
    slot::Slot,
};

/// How long a handler that was called off may take to come to an end, before it is dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

impl Lane {
    /// Runs one delivery to its end and settles it.
    pub(crate) async fn process(&self, mut delivery: Delivery, slot: &Slot) {
        if delivery.is_stale() {
            return;
        }
        let (properties, body) = delivery.take_content();
        let redelivered = delivery.redelivered;
        let envelope = match Envelope::decode(self.queue(), redelivered, properties, body, &self.limits) {
            Ok(envelope) => envelope,
            Err(unreadable) => {
                self.unreadable.never_ran(TaskEnd::Dead);
                let parked = Move::dead(DeadReason::Undecodable, unreadable.kind, unreadable.error);
                self.settle(delivery, &unreadable.envelope, Verdict::Moved(parked)).await;
                return;
            }
        };
        let facts = &envelope.facts;
        if let Some(gates) = self.gates.as_ref().filter(|_| shards::Control::is_control(&facts.task)) {
            return gates.settle(delivery, &envelope, &self.surroundings.stopping).await;
        }
        let now = self.surroundings.clock.now();
        let Some(kind) = self.kinds.get(&facts.task) else {
            self.unreadable.never_ran(TaskEnd::Dead);
            let error = format!("no handler here has the name {:?}", facts.task);
            let parked = Move::dead(DeadReason::UnknownTask, "unknown-task", error);
            self.settle(delivery, &envelope, Verdict::Moved(parked)).await;
            return;
        };
        if facts.expires_at.is_some_and(|at| at <= now) {
            kind.metrics.never_ran(TaskEnd::Dead);
            let parked = Move::dead(DeadReason::Expired, "expired", "its time was over before it was run".to_owned());
            self.settle(delivery, &envelope, Verdict::Moved(parked)).await;
            return;
        }
        if let Some(at) = facts.not_before.filter(|at| *at > now) {
            let later = Move::later(facts.attempt, at);
            self.settle(delivery, &envelope, Verdict::Moved(later)).await;
            return;
        }
        let delivery = match &self.forwarder {
            Some(forwarder) => match forwarder.forward(delivery, &envelope).await {
                Some(delivery) => delivery,
                None => return,
            },
            None => delivery,
        };
        if let Some(leases) = self.leases.as_ref().filter(|_| kind.policy.long) {
            if let Some(lease) = leases.take(delivery, &envelope).await {
                let context = Context::new(envelope, kind.clone(), self.surroundings.clone());
                let (ended, delivery) = lease.hold(context.envelope(), attempt(&context, slot)).await;
                self.conclude(delivery, &context, ended).await;
            }
            return;
        }
        let mut context = Context::new(envelope, kind.clone(), self.surroundings.clone());
        let mut ended = attempt(&context, slot).await;
        while let Some(again) = self.hold(&delivery, &context, &ended).await {
            context = again;
            ended = attempt(&context, slot).await;
        }
        self.conclude(delivery, &context, ended).await;
    }

    /// Where the tasks of a key keep their order, one that failed is tried again in its place, if that is not long. `None`
    /// when the attempt is to be settled as it is.
    async fn hold(&self, delivery: &Delivery, context: &Context, ended: &Ended) -> Option<Context> {
        let Fate::Retried(delay) = context.fate(ended) else { return None };
        let AfterFailure::Hold(delay) = shards::after_failure(self.ordered, delay) else { return None };
        let error = ended.as_ref().err()?;
        info!(task_id = %context.id(), task = context.task(), attempt = context.attempt(), kind = error.label(), in_ms = delay.as_millis() as u64, "attempt failed, trying again in its place: {error}");
        self.surroundings.tally.count(TaskEnd::Retried);
        let now = self.surroundings.clock.now();
        context.report(|| Happening::Failed {
            ran_ms: context.ran_ms(),
            error_kind: error.label().to_owned(),
            error: error.to_string(),
            retry_at: now + delay,
        });
        if let Some(claimed) = context.take_claimed() {
            claimed.settle(Fate::Retried(delay)).await;
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.surroundings.stopping.cancelled() => return None,
        }
        if delivery.is_stale() {
            return None;
        }
        let mut envelope = context.envelope().clone();
        envelope.facts.attempt = envelope.facts.attempt.saturating_add(1);
        envelope.facts.first_failed_at = envelope.facts.first_failed_at.or(Some(now));
        Some(Context::new(envelope, context.kind().clone(), self.surroundings.clone()))
    }
}

/// Runs the handler within its layers. What panics, in either, has failed like any other.
async fn attempt(context: &Context, slot: &Slot) -> Ended {
    let _running = slot.occupy(context);
    context.report(|| Happening::Started { waited_ms: context.waited().map(|waited| waited.as_millis() as u64) });
    let running = AssertUnwindSafe(async { Next::outermost(context.kind()).run(context).await }).catch_unwind();
    tokio::select! {
        biased;
        ended = running => ended.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
        // Not looked at before the handler waits for something.
        reason = called_off(context) => Err(Error::of(ErrorKind::Cancelled, reason)),
    }
}

/// Waits until the task was called off and its handler has had time to end by itself.
async fn called_off(context: &Context) -> String {
    context.cancelled().await;
    match context.why_cancelled() {
        Some(Cancelled::Requested(reason)) => {
            tokio::time::sleep(CANCEL_GRACE).await;
            reason
        }
        _ => std::future::pending().await,
    }
}

/// The failure that a panic is.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("it gave no text");
    Error::of(ErrorKind::Panicked, format!("the handler panicked: {text}"))
}
