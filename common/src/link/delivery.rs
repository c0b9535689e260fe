//! A message that a worker holds, and its verdict.

use lapin::{
    BasicProperties,
    types::{AMQPValue, DeliveryTag},
};

use super::{Settler, window::Verdict};

/// A message that a worker holds. Dropped without a verdict, it goes back to its queue.
#[derive(Debug)]
pub struct Delivery {
    /// Whether the broker has given it out before.
    pub redelivered: bool,
    /// Its properties and headers.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Vec<u8>,
    pub(super) receipt: Receipt,
}

/// The right to settle one delivery, once.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) tag: DeliveryTag,
    pub(super) settler: Settler,
    pub(super) settled: bool,
}

impl Delivery {
    /// Whether its channel is gone: the broker gives the message out again, and a verdict changes nothing.
    pub fn is_stale(&self) -> bool {
        self.receipt.settler.is_gone()
    }

    /// Waits until everything that the broker gave out before it on its channel is settled, and the broker was told.
    pub async fn others_settled(&self) {
        self.receipt.settler.settled_before(self.receipt.tag).await;
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            _ => None,
        }
    }

    /// It is done with.
    pub fn ack(self) {
        self.receipt.settle(Verdict::Ack);
    }

    /// It was not started: back to its queue at no cost to its attempts.
    pub fn give_back(self) {
        self.receipt.settle(Verdict::GiveBack);
    }

    /// Nothing could be done about it: back to its queue, counted towards the broker's delivery limit.
    pub fn requeue(self) {
        self.receipt.settle(Verdict::Requeue);
    }

    /// The broker is to move it to the dead-letter queue.
    pub fn dead_letter(self) {
        self.receipt.settle(Verdict::DeadLetter);
    }

    /// Takes out properties and body for reading; what is left can only be settled.
    pub fn take_content(&mut self) -> (BasicProperties, Vec<u8>) {
        (std::mem::take(&mut self.properties), std::mem::take(&mut self.body))
    }
}

impl Receipt {
    fn settle(mut self, verdict: Verdict) {
        self.settled = true;
        self.settler.settle(self.tag, verdict);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.settled && !self.settler.is_gone() {
            self.settler.settle(self.tag, Verdict::GiveBack);
        }
    }
}
