//! Settling: what must be stored for an outcome is stored and confirmed first, and only then is the delivery
//! acknowledged. Whatever fails on the way, the broker still has the task.

use futures_util::future::join_all;
use leveret_common::{
    clock::UnixMillis,
    link::{Delivery, PublishError},
    message::{InvalidMessage, Message},
    wire::{self, DeadReason, Envelope, Failure, Outgoing, Reply, ReplyStatus, TooLong},
};
use serde_json::json;
use tracing::{debug, error, info, warn};

use crate::{
    context::Context,
    fate::Fate,
    lane::Lane,
    layer::Claimed,
    outcome::{Ended, Error, Outcome},
    report,
};

/// How a delivery is to be settled.
pub(crate) enum Verdict {
    /// It is done with; the result, if there is one, goes to whoever asked, and the mark that it was done is set.
    Done { result: Option<serde_json::Value>, claimed: Option<Claimed> },
    /// It is done with, for this reason; whoever waits for a result does not hear of it.
    Discarded(String),
    /// It was called off, for this reason; whoever asked for a result is told.
    Cancelled(String),
    /// It is to be moved elsewhere first.
    Moved(Move),
    /// It was not run to its end: back to its queue.
    GivenBack,
}

/// Where a task goes next.
pub(crate) enum Move {
    /// To a tier, from which it comes back to its queue.
    Later { attempt: u32, at: UnixMillis, failure: Option<(&'static str, String)> },
    /// To a tier as well, for a limit has had no room for it since then.
    Limited { at: UnixMillis, since: UnixMillis },
    /// To the dead-letter queue.
    Dead { reason: DeadReason, kind: &'static str, error: String },
}

impl Move {
    /// It is not to run before `at`, and nothing went wrong.
    pub(crate) fn later(attempt: u32, at: UnixMillis) -> Self {
        Self::Later { attempt, at, failure: None }
    }

    /// It failed and is to run again from `at` on.
    pub(crate) fn again(attempt: u32, at: UnixMillis, kind: &'static str, error: String) -> Self {
        Self::Later { attempt, at, failure: Some((kind, error)) }
    }

    /// It will not run again by itself.
    pub(crate) fn dead(reason: DeadReason, kind: &'static str, error: String) -> Self {
        Self::Dead { reason, kind, error }
    }
}

impl Lane {
    /// Settles an attempt by how it ended. The tasks that are to follow it are published first.
    pub(crate) async fn conclude(&self, delivery: Delivery, context: &Context, ended: Ended) {
        let (mut ended, claimed) = (ended, context.take_claimed());
        // What a mark says is done must have been done whole, even if the broker gives the task out again.
        if context.fate(&ended) == Fate::Done && (claimed.is_some() || !delivery.is_stale()) {
            match self.publish_follow_ups(context.take_follow_ups()).await {
                Ok(()) => {}
                Err(error @ (PublishError::Refused | PublishError::Unconfirmed { .. } | PublishError::Closed)) => {
                    warn!(task_id = %context.id(), task = context.task(), "a task that is to follow is not stored, this one goes back to its queue: {error}");
                    return delivery.requeue();
                }
                Err(error) => {
                    ended = Err(Error::retry(format!("a task that is to follow cannot be published: {error}")));
                }
            }
        }
        let fate = context.fate(&ended);
        if let Some(claimed) = claimed.as_ref().filter(|_| fate != Fate::Done) {
            claimed.settle(fate).await;
        }
        self.surroundings.tally.count(fate.end());
        let verdict = self.verdict(context, fate, ended, claimed);
        let happened = context.is_tracked().then(|| report::ending(context, fate, &verdict)).flatten();
        if self.settle(delivery, context.envelope(), verdict).await
            && let Some(happened) = happened
        {
            context.report(|| happened);
        }
    }

    fn verdict(&self, context: &Context, fate: Fate, ended: Ended, claimed: Option<Claimed>) -> Verdict {
        let (now, attempt) = (self.surroundings.clock.now(), context.attempt());
        let label = ended.as_ref().err().map_or("rejected", Error::label);
        let text = match &ended {
            Ok(Outcome::Reject(reason) | Outcome::Cancel(reason) | Outcome::Discard(reason)) => reason.clone(),
            Ok(_) => String::new(),
            Err(error) => error.message.clone(),
        };
        match fate {
            Fate::Done => match ended {
                Ok(Outcome::Result(result)) => Verdict::Done { result: Some(result), claimed },
                _ => Verdict::Done { result: None, claimed },
            },
            Fate::Snoozed(delay) => Verdict::Moved(Move::later(attempt, now + delay)),
            Fate::Discarded => {
                info!(task_id = %context.id(), task = context.task(), reason = text, "discarded");
                Verdict::Discarded(text)
            }
            Fate::Cancelled => Verdict::Cancelled(text),
            Fate::Retried(delay) => Verdict::Moved(Move::again(attempt.saturating_add(1), now + delay, label, text)),
            Fate::Dead(reason) => Verdict::Moved(Move::dead(reason, label, text)),
            Fate::GivenBack => Verdict::GivenBack,
        }
    }

    /// Settles a task whose handler was not begun: it is dead.
    pub(crate) async fn park(&self, delivery: Delivery, envelope: &Envelope, dead: Move) {
        let followed = self.surroundings.follows(envelope);
        let happened = followed.then(|| report::never_begun(&dead)).flatten();
        if self.settle(delivery, envelope, Verdict::Moved(dead)).await
            && let Some(happened) = happened
        {
            self.surroundings.report(envelope, happened);
        }
    }

    /// Publishes the tasks that follow, all on their way at once, and waits for the confirms.
    async fn publish_follow_ups(&self, messages: Vec<Message>) -> Result<(), PublishError> {
        if messages.is_empty() {
            return Ok(());
        }
        let publish = async |message: Message| {
            InvalidMessage::check_size(&message, &self.limits)?;
            self.publisher.publish(message.into_outgoing(&self.names, &self.surroundings.clock)?).await
        };
        join_all(messages.into_iter().map(publish)).await.into_iter().collect()
    }

    /// Does what the verdict asks for, in the order that loses nothing. False when that could not be, and the task goes
    /// back to its queue instead.
    pub(crate) async fn settle(&self, delivery: Delivery, envelope: &Envelope, verdict: Verdict) -> bool {
        if delivery.is_stale() && !matches!(verdict, Verdict::Done { claimed: Some(_), .. }) {
            // The broker has given the task out again, and the attempt that follows has the last word. To act on
            // this one as well would make two tasks, or two replies, of one.
            let facts = &envelope.facts;
            info!(task_id = %facts.id, task = facts.task, "its connection was lost while it ran, the task runs again");
            delivery.ack();
            return false;
        }
        let stored = match verdict {
            Verdict::Done { result, claimed } => {
                let answered = self.reply(envelope, ReplyStatus::Done, result.unwrap_or_default()).await;
                if let Some(claimed) = claimed.filter(|_| answered) {
                    claimed.settle(Fate::Done).await;
                }
                answered
            }
            Verdict::Discarded(_) => true,
            Verdict::Cancelled(reason) => {
                let facts = &envelope.facts;
                info!(task_id = %facts.id, task = facts.task, reason, "called off");
                let why = json!({ "reason": "cancelled", "error": reason });
                self.reply(envelope, ReplyStatus::Cancelled, why).await
            }
            Verdict::GivenBack => {
                delivery.give_back();
                return false;
            }
            Verdict::Moved(Move::Later { attempt, at, failure }) => {
                return self.retry(delivery, envelope, attempt, at, failure).await;
            }
            Verdict::Moved(Move::Limited { at, since }) => {
                let tier = self.tier(at);
                debug!(task_id = %envelope.facts.id, task = envelope.facts.task, %at, tier, "no room under a limit");
                let message = wire::limited(envelope, self.queue(), &tier, at, since);
                return self.put_off(delivery, envelope, &tier, message).await;
            }
            Verdict::Moved(Move::Dead { reason, kind, error }) => {
                return self.bury(delivery, envelope, reason, kind, error).await;
            }
        };
        if stored {
            delivery.ack();
        } else {
            delivery.requeue();
        }
        stored
    }

    async fn retry(
        &self,
        delivery: Delivery,
        envelope: &Envelope,
        attempt: u32,
        at: UnixMillis,
        failure: Option<(&'static str, String)>,
    ) -> bool {
        let now = self.surroundings.clock.now();
        let tier = self.tier(at);
        let facts = &envelope.facts;
        if let Some((kind, error)) = &failure {
            let in_ms = at.since(now).as_millis() as u64;
            info!(task_id = %facts.id, task = facts.task, attempt = facts.attempt, kind, in_ms, "attempt failed, trying again: {error}");
        } else {
            debug!(task_id = %facts.id, task = facts.task, %at, tier, "not yet to be run");
        }
        let failure = failure.map(|(kind, error)| self.failure(kind, error, now));
        let message = wire::retry(envelope, self.queue(), &tier, attempt, at, failure.as_ref());
        self.put_off(delivery, envelope, &tier, message).await
    }

    /// The tier for the next step until then.
    fn tier(&self, at: UnixMillis) -> String {
        self.queue.tier(self.tiers.step(at.since(self.surroundings.clock.now())))
    }

    async fn put_off(
        &self,
        delivery: Delivery,
        envelope: &Envelope,
        tier: &str,
        message: Result<Outgoing, TooLong>,
    ) -> bool {
        let facts = &envelope.facts;
        let stored = self.store(message).await;
        let is_stored = stored.is_ok();
        match stored {
            Ok(()) => delivery.ack(),
            Err(error @ PublishError::Invalid(_)) => {
                warn!(task_id = %facts.id, task = facts.task, tier, "cannot ever move the task to its tier, it is dead: {error}");
                delivery.dead_letter();
            }
            Err(error) => {
                warn!(task_id = %facts.id, task = facts.task, tier, "cannot move the task to its tier, it goes back to its queue: {error}");
                delivery.requeue();
            }
        }
        is_stored
    }

    async fn bury(
        &self,
        delivery: Delivery,
        envelope: &Envelope,
        reason: DeadReason,
        kind: &'static str,
        error: String,
    ) -> bool {
        let facts = &envelope.facts;
        let why = reason.as_str();
        error!(task_id = %facts.id, task = facts.task, attempt = facts.attempt, reason = why, kind, "dead: {error}");
        let note = json!({ "reason": why, "kind": kind, "error": error });
        let failure = self.failure(kind, error, self.surroundings.clock.now());
        let message = wire::dead(envelope, self.queue(), self.names.dead(), reason, &failure);
        // Whoever asked is told first: a reply that is refused after the dead letter is stored would leave one more
        // dead letter at each attempt to send it.
        if !self.reply(envelope, ReplyStatus::Dead, note).await {
            delivery.requeue();
            return false;
        }
        match self.store(message).await {
            Ok(()) => delivery.ack(),
            Err(error) => {
                // The broker knows the way to the dead-letter queue as well; only the reason gets lost.
                warn!(task_id = %facts.id, task = facts.task, "cannot park the task with its reason, the broker is to move it: {error}");
                delivery.dead_letter();
            }
        }
        true
    }

    /// Tells whoever asked how the task ended; false when they must still be told.
    async fn reply(&self, envelope: &Envelope, status: ReplyStatus, body: serde_json::Value) -> bool {
        if envelope.facts.reply_to.is_none() {
            return true;
        }
        let body = serde_json::to_vec(&body).unwrap_or_default().into();
        let sent = match wire::reply(&envelope.facts, Reply { status, body }) {
            Ok(None) => return true,
            Ok(Some(message)) => self.publisher.publish(message).await,
            Err(error) => Err(PublishError::Invalid(error.into())),
        };
        let facts = &envelope.facts;
        match sent {
            Ok(()) => true,
            Err(error @ (PublishError::Refused | PublishError::Unconfirmed { .. } | PublishError::Closed)) => {
                warn!(task_id = %facts.id, task = facts.task, reply_to = facts.reply_to, "the reply is not stored, the task goes back to its queue: {error}");
                false
            }
            Err(error) => {
                // It would fail again each time: the task is done, only its reply cannot be sent.
                warn!(task_id = %facts.id, task = facts.task, reply_to = facts.reply_to, "the reply cannot be sent: {error}");
                true
            }
        }
    }

    async fn store(&self, message: Result<Outgoing, TooLong>) -> Result<(), PublishError> {
        let message = message.map_err(|error| PublishError::Invalid(error.into()))?;
        self.publisher.publish(message).await
    }

    fn failure(&self, kind: &str, error: String, at: UnixMillis) -> Failure {
        Failure { error, kind: kind.to_owned(), at, worker: self.surroundings.worker.clone() }
    }
}
