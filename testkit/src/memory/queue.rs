//! A queue: what waits in it, in which order it goes out, and who takes it.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use leveret_common::clock::UnixMillis;

use super::{ChannelKey, table};

/// A message in a queue.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Counts what comes into any queue.
    pub(super) number: u64,
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    /// How often it was given out and came back.
    pub(super) returns: u32,
    /// When its time in this queue is over.
    pub(super) expires_at: Option<UnixMillis>,
}

impl Stored {
    /// The properties as they are given out. A quorum queue tells the returns: to a consumer once there are any, to one
    /// who asks for a single message always.
    pub(super) fn properties(&self, quorum: bool, asked: bool) -> BasicProperties {
        if !quorum || !(asked || self.returns > 0) {
            return self.properties.clone();
        }
        let mut headers = self.properties.headers().clone().unwrap_or_default();
        headers.insert(table::short("x-delivery-count"), AMQPValue::LongLongInt(self.returns.into()));
        self.properties.clone().with_headers(headers)
    }
}

/// Who takes messages from a queue.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) channel: ChannelKey,
    pub(super) tag: ShortString,
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    /// How many it may have unsettled; 0 is any number.
    pub(super) prefetch: u16,
    pub(super) unsettled: usize,
}

impl Consumer {
    fn has_room(&self) -> bool {
        self.prefetch == 0 || self.unsettled < usize::from(self.prefetch)
    }
}

/// A queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    /// The connection that has it to itself.
    pub(super) owner: Option<u64>,
    pub(super) arguments: FieldTable,
    pub(super) quorum: bool,
    pub(super) consumers: Vec<Consumer>,
    /// Given out and not settled.
    pub(super) unsettled: usize,
    /// The last consumer went because it wanted to, not because its connection was lost.
    pub(super) abandoned: bool,
    /// What came back goes out first.
    returned: VecDeque<Stored>,
    waiting: VecDeque<Stored>,
    /// Whose turn it is.
    turn: usize,
    /// When somebody last declared it, asked it for a message or stopped consuming from it.
    used: UnixMillis,
}

impl Queue {
    pub(super) fn new(durable: bool, auto_delete: bool, owner: Option<u64>, arguments: FieldTable) -> Self {
        let quorum = table::text(&arguments, "x-queue-type") == Some("quorum");
        Self {
            durable,
            auto_delete,
            owner,
            arguments,
            quorum,
            consumers: Vec::new(),
            unsettled: 0,
            abandoned: false,
            returned: VecDeque::new(),
            waiting: VecDeque::new(),
            turn: 0,
            used: UnixMillis::default(),
        }
    }

    /// Takes note that somebody uses it.
    pub(super) fn used(&mut self, now: UnixMillis) {
        self.used = now;
    }

    /// When it is to be deleted, unless somebody uses it before.
    pub(super) fn expires_at(&self) -> Option<UnixMillis> {
        let unused = self.limit("x-expires").filter(|_| self.consumers.is_empty())?;
        Some(self.used + Duration::from_millis(unused))
    }

    fn limit(&self, name: &str) -> Option<u64> {
        table::number(&self.arguments, name).and_then(|number| u64::try_from(number).ok())
    }

    /// How long a message may stay.
    pub(super) fn ttl(&self) -> Option<Duration> {
        self.limit("x-message-ttl").map(Duration::from_millis)
    }

    /// How often a message may come back.
    pub(super) fn delivery_limit(&self) -> Option<u64> {
        self.limit("x-delivery-limit").filter(|_| self.quorum)
    }

    /// Whether it takes no more.
    pub(super) fn is_full(&self) -> bool {
        self.limit("x-max-length").is_some_and(|most| self.ready() as u64 >= most)
    }

    /// Whether it has more than it takes.
    pub(super) fn is_over(&self) -> bool {
        self.limit("x-max-length").is_some_and(|most| self.ready() as u64 > most)
    }

    /// Whether it refuses what is too much, rather than dropping what is oldest.
    pub(super) fn refuses(&self) -> bool {
        table::text(&self.arguments, "x-overflow").is_some_and(|overflow| overflow.starts_with("reject-publish"))
    }

    /// The exchange for what dies here, and the routing key if it is not the message's own.
    pub(super) fn dead_letters_to(&self) -> Option<(&str, Option<&str>)> {
        let exchange = table::text(&self.arguments, "x-dead-letter-exchange")?;
        Some((exchange, table::text(&self.arguments, "x-dead-letter-routing-key")))
    }

    /// How many wait.
    pub(super) fn ready(&self) -> usize {
        self.returned.len() + self.waiting.len()
    }

    /// What waits, in the order in which it goes out.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.returned.iter().chain(&self.waiting)
    }

    /// What goes out next.
    pub(super) fn head(&self) -> Option<&Stored> {
        self.iter().next()
    }

    pub(super) fn push(&mut self, message: Stored) {
        self.waiting.push_back(message);
    }

    /// Takes a message back that was given out. With a delivery limit it goes out before all others again; a quorum
    /// queue without one puts it behind them.
    pub(super) fn put_back(&mut self, message: Stored) {
        if !self.quorum {
            let place = self.waiting.partition_point(|other| other.number < message.number);
            self.waiting.insert(place, message);
        } else if self.delivery_limit().is_some() {
            self.returned.push_back(message);
        } else {
            self.waiting.push_back(message);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Stored> {
        self.returned.pop_front().or_else(|| self.waiting.pop_front())
    }

    pub(super) fn clear(&mut self) -> usize {
        let removed = self.ready();
        self.returned.clear();
        self.waiting.clear();
        removed
    }

    /// The consumer whose turn it is among those that have room.
    pub(super) fn next_consumer(&mut self) -> Option<&mut Consumer> {
        let single = matches!(self.arguments.inner().get("x-single-active-consumer"), Some(AMQPValue::Boolean(true)));
        let count = if single { self.consumers.len().min(1) } else { self.consumers.len() };
        let place = (0..count).map(|step| (self.turn + step) % count).find(|at| self.consumers[*at].has_room())?;
        self.turn = place + 1;
        self.consumers.get_mut(place)
    }

    pub(super) fn consumer(&mut self, channel: ChannelKey, tag: &ShortString) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.channel == channel && consumer.tag == *tag)
    }
}
