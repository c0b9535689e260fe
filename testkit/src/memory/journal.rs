//! What was published, and what became of each task that a worker was given.

use std::collections::BTreeMap;

use leveret_common::{
    clock::UnixMillis,
    wire::{Envelope, Facts, Limits},
};

use super::{
    ChannelKey,
    channel::{Incoming, Publish, Verdict},
    death::Why,
    queue::Stored,
    report::{End, Handled},
    table,
};
use crate::Message;

/// What was published, and what became of each task that a worker was given.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// What was published to a way in and stored, in its order.
    pub(super) published: Vec<Message>,
    /// Given to a worker and not settled, by channel and delivery tag.
    running: BTreeMap<(ChannelKey, u64), Running>,
    /// Settled since the journal was last read.
    handled: Vec<Handled>,
    /// What the handlers of a test's workers said, by task id, where the broker cannot see it.
    said: BTreeMap<String, End>,
}

#[derive(Debug)]
struct Running {
    queue: String,
    facts: Facts,
    given_at: UnixMillis,
    /// Where it was moved, ahead of its settlement.
    moved: Option<Moved>,
}

/// Where a worker moves a task.
#[derive(Clone, Copy)]
enum Way {
    Later,
    Dead,
}

#[derive(Debug)]
enum Moved {
    /// It was not yet to be run, and its handler was not called.
    Ahead,
    Ended(End),
}

impl Journal {
    /// What has been settled of these work queues since this was last asked.
    pub(super) fn take_handled(&mut self, work: &[String]) -> Vec<Handled> {
        self.handled.extract_if(.., |handled| work.contains(&handled.queue)).collect()
    }

    /// What is with workers, for people.
    pub(super) fn running(&self) -> Vec<String> {
        let shown =
            |running: &Running| format!("{} {} of queue {}", running.facts.task, running.facts.id, running.queue);
        self.running.values().map(shown).collect()
    }

    pub(super) fn published(&mut self, message: &Incoming, published: Publish, now: UnixMillis) {
        let exchange = message.exchange.as_str();
        if published != Publish::Stored {
            return;
        }
        if exchange.ends_with(".publish") || exchange.ends_with(".tasks") {
            self.published.push(Message {
                exchange: exchange.to_owned(),
                routing_key: message.routing_key.as_str().to_owned(),
                redelivered: false,
                properties: message.properties.clone(),
                body: message.body.to_vec(),
            });
            return;
        }
        let key = message.routing_key.as_str();
        match (exchange, key.split_once(".retry.")) {
            ("", Some((queue, _))) => self.moved(queue, Some(Way::Later), message, now),
            ("", None) => self.moved(table::work_queue(key), None, message, now),
            (exchange, None) if exchange.ends_with(".dead") => self.moved(key, Some(Way::Dead), message, now),
            _ => {}
        }
    }

    /// A worker has published where a task of its goes next: to a tier, to the dead or, with no `way`, to another queue
    /// of the same work.
    fn moved(&mut self, queue: &str, way: Option<Way>, message: &Incoming, now: UnixMillis) {
        let id = message.properties.message_id().as_ref().map(|id| id.as_str());
        // A task that came without an id has been given one since: it is then the only one of its name there.
        let is_it = |running: &&mut Running| {
            table::work_queue(&running.queue) == queue
                && running.moved.is_none()
                && (Some(running.facts.id.as_str()) == id || (!running.facts.id_was_given && way.is_some()))
        };
        let Some(running) = self.running.values_mut().find(is_it) else { return };
        let headers = message.properties.headers().clone().unwrap_or_default();
        let text = |name: &str| table::text(&headers, name).unwrap_or_default().to_owned();
        let error = text("leveret-error");
        match way {
            Some(Way::Later) => {}
            Some(Way::Dead) => {
                running.moved = Some(Moved::Ended(End::Dead { reason: text("leveret-dead-reason"), error }));
                return;
            }
            None => {
                running.moved = Some(Moved::Ahead);
                return;
            }
        }
        let at = table::number(&headers, "leveret-not-before").map_or(now, UnixMillis);
        let attempt = table::number(&headers, "leveret-attempt").and_then(|attempt| u32::try_from(attempt).ok());
        running.moved = Some(match attempt {
            Some(attempt) if attempt > running.facts.attempt => Moved::Ended(End::Retried { attempt, at, error }),
            _ if running.facts.not_before.is_some_and(|at| at > running.given_at) => Moved::Ahead,
            _ => Moved::Ended(End::Snoozed { until: at }),
        });
    }

    pub(super) fn delivered(&mut self, key: (ChannelKey, u64), queue: &str, message: &Stored, now: UnixMillis) {
        let body = message.body.to_vec();
        let envelope =
            Envelope::decode(queue, message.returns > 0, message.properties.clone(), body, &Limits::default());
        let facts = match envelope {
            Ok(envelope) => envelope.facts,
            Err(unreadable) => unreadable.envelope.facts,
        };
        self.running.insert(key, Running { queue: queue.to_owned(), facts, given_at: now, moved: None });
    }

    pub(super) fn settled(&mut self, key: (ChannelKey, u64), verdict: Verdict) {
        let Some(running) = self.running.remove(&key) else { return };
        let said = self.said.remove(running.facts.id.as_str());
        let end = match (verdict, running.moved) {
            (Verdict::Ack, Some(Moved::Ahead)) => return,
            (Verdict::Ack, Some(Moved::Ended(end))) => end,
            (Verdict::Ack, None) => said.unwrap_or(End::Done),
            (Verdict::Requeue, _) => End::Returned,
            (Verdict::Reject, _) => End::Dead {
                reason: Why::Rejected.as_str().to_owned(),
                error: "the worker left it to the broker".to_owned(),
            },
        };
        self.handled.push(Handled {
            task: running.facts.task,
            id: running.facts.id.to_string(),
            queue: table::work_queue(&running.queue).to_owned(),
            attempt: running.facts.attempt,
            end,
        });
    }

    /// A handler has said what only the worker hears.
    pub(super) fn said(&mut self, id: &str, end: End) {
        self.said.insert(id.to_owned(), end);
    }

    /// The broker has moved a message by itself.
    pub(super) fn dead_lettered(&mut self, queue: &str, message: &Stored, why: Why) {
        // What expires in a tier comes back; what a worker rejected is told already.
        if why != Why::DeliveryLimit {
            return;
        }
        let id = message.properties.message_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
        let returned =
            |handled: &&mut Handled| handled.queue == queue && handled.id == id && handled.end == End::Returned;
        if let Some(handled) = self.handled.iter_mut().rev().find(returned) {
            let error = format!("given out {} times and never settled", message.returns);
            handled.end = End::Dead { reason: "delivery-limit".to_owned(), error };
        }
    }
}
