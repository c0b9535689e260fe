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
    handler::Kind,
    lane::Lane,
    layer::Next,
    limits::{Admission, Gate, Permit},
    outcome::{Ended, Error, ErrorKind},
    report,
    settle::{Move, Verdict},
    shards::{self, AfterFailure},
    slot::Slot,
};

/// What follows from an attempt in a queue with an order.
enum Hold {
    /// It is to be settled as it ended.
    Over,
    /// It is tried again in its place.
    Again(Context),
    /// The worker stops: it keeps its place and is tried again by another.
    GiveBack,
}

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
                self.park(delivery, &unreadable.envelope, parked).await;
                return;
            }
        };
        let facts = &envelope.facts;
        if let Some(gates) = self.gates.as_ref().filter(|_| shards::Control::is_control(&facts.task)) {
            return gates.settle(delivery, &envelope, &self.surroundings.stopping).await;
        }
        if let Some(reason) = self.surroundings.revocations.of(&facts.id, facts.replays) {
            return self.revoke(delivery, &envelope, reason).await;
        }
        let now = self.surroundings.clock.now();
        let Some(kind) = self.kinds.get(&facts.task) else {
            self.unreadable.never_ran(TaskEnd::Dead);
            let error = format!("no handler here has the name {:?}", facts.task);
            let parked = Move::dead(DeadReason::UnknownTask, "unknown-task", error);
            self.park(delivery, &envelope, parked).await;
            return;
        };
        if facts.expires_at.is_some_and(|at| at <= now) {
            kind.metrics.never_ran(TaskEnd::Dead);
            self.park(delivery, &envelope, expired()).await;
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
        // Held while the handler runs, and not while its outcome is stored.
        let (delivery, permit) = match &kind.gate {
            None => (delivery, None),
            // In a box, so that tasks without a limit do not carry its room along.
            Some(gate) => match Box::pin(self.admit(gate, delivery, &envelope, kind)).await {
                Some((delivery, permit)) => (delivery, Some(permit)),
                None => return,
            },
        };
        if let Some(leases) = self.leases.as_ref().filter(|_| kind.policy.long) {
            if leases.is_poison(facts) {
                kind.metrics.never_ran(TaskEnd::Dead);
                let error = format!("{} workers were lost while they ran it", facts.lost_leases);
                let parked = Move::dead(DeadReason::DeliveryLimit, "delivery-limit", error);
                self.park(delivery, &envelope, parked).await;
                return;
            }
            if let Some(lease) = leases.take(delivery, &envelope).await {
                let context = Context::new(envelope, kind.clone(), self.surroundings.clone());
                if let (ended, Some(delivery)) = lease.hold(&context, attempt(&context, slot)).await {
                    drop(permit);
                    self.conclude(delivery, &context, ended).await;
                }
            }
            return;
        }
        let mut context = Context::new(envelope, kind.clone(), self.surroundings.clone());
        let mut ended = attempt(&context, slot).await;
        loop {
            match self.hold(&delivery, &context, &ended).await {
                Hold::Over => break,
                Hold::Again(again) => context = again,
                Hold::GiveBack => return delivery.give_back(),
            }
            ended = attempt(&context, slot).await;
        }
        drop(permit);
        self.conclude(delivery, &context, ended).await;
    }

    /// Where the tasks of a key keep their order, one that failed is tried again in its place, if that is not long.
    async fn hold(&self, delivery: &Delivery, context: &Context, ended: &Ended) -> Hold {
        if !self.ordered {
            return Hold::Over;
        }
        let (Fate::Retried(delay), Err(error)) = (context.fate(ended), ended) else { return Hold::Over };
        let AfterFailure::Hold(delay) = shards::after_failure(true, delay) else { return Hold::Over };
        if delivery.is_stale() {
            return Hold::Over;
        }
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
            () = self.surroundings.stopping.cancelled() => return Hold::GiveBack,
        }
        let mut envelope = context.envelope().clone();
        envelope.facts.attempt = envelope.facts.attempt.saturating_add(1);
        envelope.facts.first_failed_at = envelope.facts.first_failed_at.or(Some(now));
        Hold::Again(Context::new(envelope, context.kind().clone(), self.surroundings.clone()))
    }

    /// Ends a task that was called off before it was begun.
    async fn revoke(&self, delivery: Delivery, envelope: &Envelope, reason: String) {
        let kind = self.kinds.get(&envelope.facts.task);
        kind.map_or(&self.unreadable, |kind| &kind.metrics).never_ran(TaskEnd::Cancelled);
        let happened = self.surroundings.follows(envelope).then(|| report::revoked(&reason));
        if self.settle(delivery, envelope, Verdict::Cancelled(reason)).await
            && let Some(happened) = happened
        {
            self.surroundings.report(envelope, happened);
        }
    }

    /// Waits until the limits have room for a task. `None` when it does not run here and now, and is settled.
    async fn admit(
        &self,
        gate: &Gate,
        delivery: Delivery,
        envelope: &Envelope,
        kind: &Kind,
    ) -> Option<(Delivery, Permit)> {
        let (facts, clock) = (&envelope.facts, &self.surroundings.clock);
        let since = facts.limited_since.unwrap_or_else(|| clock.now());
        let permit = loop {
            match gate.admit(facts.key.as_deref(), facts.limited_since).await {
                Admission::Now(permit) => break permit,
                // Where there is an order, what is behind it waits as well.
                Admission::Later(wait) if self.ordered => tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.surroundings.stopping.cancelled() => {
                        delivery.give_back();
                        return None;
                    }
                },
                Admission::Later(wait) => {
                    let later = Move::Limited { at: clock.now() + wait, since };
                    self.settle(delivery, envelope, Verdict::Moved(later)).await;
                    return None;
                }
                Admission::Closed => {
                    delivery.give_back();
                    return None;
                }
            }
        };
        if delivery.is_stale() {
            // The connection was lost while it waited: the task is elsewhere by now.
            return None;
        }
        if facts.expires_at.is_some_and(|at| at <= clock.now()) {
            drop(permit);
            kind.metrics.never_ran(TaskEnd::Dead);
            self.park(delivery, envelope, expired()).await;
            return None;
        }
        Some((delivery, permit))
    }
}

fn expired() -> Move {
    Move::dead(DeadReason::Expired, "expired", "its time was over before it was run".to_owned())
}

/// Runs the handler within its layers. What panics, in either, has failed like any other.
async fn attempt(context: &Context, slot: &Slot) -> Ended {
    let _running = slot.occupy(context);
    // It may have waited for room under a limit, or for its next attempt. Looked at once it can be seen to run: a command
    // that comes later finds it there.
    if let Some(reason) = context.revoked() {
        context.kind().metrics.never_ran(TaskEnd::Cancelled);
        return Err(Error::of(ErrorKind::Cancelled, reason));
    }
    context.report(|| Happening::Started { waited_ms: context.waited().map(|waited| waited.as_millis() as u64) });
    let running = AssertUnwindSafe(async { Next::outermost(context.kind()).run(context).await }).catch_unwind();
    tokio::select! {
        biased;
        ended = running => ended.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
        // Not looked at before the handler waits for something.
        reason = called_off(context) => {
            // Its layers are dropped with it, those that count among them.
            context.kind().metrics.never_ran(TaskEnd::Cancelled);
            Err(Error::of(ErrorKind::Cancelled, reason))
        }
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
