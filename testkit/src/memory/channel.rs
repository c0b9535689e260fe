//! The channels of clients, and what is published on them.

use std::collections::BTreeMap;

use amq_protocol::protocol::{AMQPClass, basic};
use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, ShortString},
};

use super::{
    ChannelKey,
    death::{self, Why},
    fault::Fault,
    frames::Outbox,
    queue::{Queue, Stored},
    state::State,
    table,
};

/// The name under which RabbitMQ lets a client have replies without a queue.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A channel of a client.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) outbox: Outbox,
    pub(super) frame_max: usize,
    /// For the consumers that come.
    pub(super) prefetch: u16,
    /// Given out on this channel and not settled, by delivery tag.
    pub(super) unsettled: BTreeMap<u64, Taken>,
    /// The consumer that gets direct replies.
    pub(super) replies: Option<ShortString>,
    pub(super) last_tag: u64,
}

/// A message that a client has in hand.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) queue: String,
    /// The subscription by which it was given out, if not asked for singly.
    pub(super) consumer: Option<ShortString>,
    pub(super) message: Stored,
}

/// What becomes of a message that a client has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ack,
    Requeue,
    Reject,
}

/// A message as it comes from a client.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publish {
    Stored,
    /// No queue takes it.
    Unroutable,
    /// A queue is full.
    Refused,
}

impl Channel {
    pub(super) fn new(outbox: Outbox, frame_max: usize) -> Self {
        Self { outbox, frame_max, prefetch: 0, unsettled: BTreeMap::new(), replies: None, last_tag: 0 }
    }

    /// Tells a client that its subscription has ended.
    pub(super) fn cancelled(&self, number: u16, tag: ShortString) {
        let cancel = basic::Cancel { consumer_tag: tag, nowait: true };
        self.outbox.method(number, AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)));
    }

    pub(super) fn send(&self, number: u16, method: basic::AMQPMethod, properties: BasicProperties, body: &[u8]) {
        self.outbox.content(number, AMQPClass::Basic(method), properties, body, self.frame_max);
    }
}

impl State {
    /// Stores a message in every queue that takes it.
    pub(super) fn publish(&mut self, from: ChannelKey, mut message: Incoming) -> Result<Publish, Fault> {
        self.check(from, &mut message)?;
        if message.exchange.as_str().is_empty()
            && let Some(asker) = message.routing_key.as_str().strip_prefix(REPLY_TO)
        {
            self.answer(asker, &message);
            // It went to no queue: that is what its publisher hears, whether the asker is there or not.
            return Ok(Publish::Unroutable);
        }
        let queues = self.route(message.exchange.as_str(), message.routing_key.as_str(), &message.properties)?;
        let mut published = if queues.is_empty() { Publish::Unroutable } else { Publish::Stored };
        for name in queues {
            let Some(queue) = self.queues.get(&name) else { continue };
            if queue.is_full() && queue.refuses() {
                published = Publish::Refused;
            } else {
                let Incoming { exchange, routing_key, properties, body } = message.clone();
                self.store(&name, exchange, routing_key, properties, body);
            }
        }
        self.journal.published(&message, published, self.clock.now());
        Ok(published)
    }

    fn check(&self, from: ChannelKey, message: &mut Incoming) -> Result<(), Fault> {
        let properties = &message.properties;
        if let Some(user) = properties.user_id().as_ref().filter(|user| user.as_str() != "guest") {
            let text = format!("user_id property set to '{user}' but authenticated user was 'guest'");
            return Err(Fault::precondition(text));
        }
        for name in ["CC", "BCC"] {
            let value = properties.headers().as_ref().and_then(|headers| headers.inner().get(name));
            if value.is_some_and(|value| !matches!(value, AMQPValue::FieldArray(_))) {
                return Err(Fault::precondition(format_args!("invalid message: unacceptable_type_in_{name}_header")));
            }
        }
        if properties.reply_to().as_ref().is_some_and(|to| to.as_str() == REPLY_TO) {
            if self.channels.get(&from).is_none_or(|channel| channel.replies.is_none()) {
                return Err(Fault::precondition("fast reply consumer does not exist"));
            }
            let to = table::short(format!("{REPLY_TO}.{}.{}", from.0, from.1));
            message.properties = std::mem::take(&mut message.properties).with_reply_to(to);
        }
        Ok(())
    }

    /// Hands a direct reply to the one who asked.
    fn answer(&mut self, asker: &str, message: &Incoming) {
        let key = asker.strip_prefix('.').and_then(|asker| asker.split_once('.'));
        let key = key.and_then(|(connection, channel)| Some((connection.parse().ok()?, channel.parse().ok()?)));
        let asker = key.and_then(|key: ChannelKey| Some((key, self.channels.get_mut(&key)?)));
        let Some((key, channel, tag)) =
            asker.and_then(|(key, asker)| asker.replies.clone().map(|tag| (key, asker, tag)))
        else {
            return;
        };
        channel.last_tag += 1;
        let deliver = basic::Deliver {
            consumer_tag: tag,
            delivery_tag: channel.last_tag,
            redelivered: false,
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
        };
        channel.send(key.1, basic::AMQPMethod::Deliver(deliver), message.properties.clone(), &message.body);
    }

    fn store(
        &mut self,
        name: &str,
        exchange: ShortString,
        routing_key: ShortString,
        properties: BasicProperties,
        body: Bytes,
    ) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        self.arrivals += 1;
        let own = properties.expiration().as_ref().and_then(|ms| ms.as_str().parse().ok());
        let stay = own.map(std::time::Duration::from_millis).into_iter().chain(queue.ttl()).min();
        let expires_at = stay.map(|stay| self.clock.now() + stay);
        let number = self.arrivals;
        queue.push(Stored { number, exchange, routing_key, properties, body, returns: 0, expires_at });
        let oldest = if queue.is_over() && !queue.refuses() { queue.pop() } else { None };
        if let Some(oldest) = oldest {
            self.dead_letter(name, &oldest, Why::MaxLength);
        }
        self.dispatch(name);
        self.tell();
    }

    /// Moves a message that has died in a queue to where the queue's dead letters go.
    pub(super) fn dead_letter(&mut self, name: &str, message: &Stored, why: Why) {
        let Some((exchange, routing_key)) = self.queues.get(name).and_then(Queue::dead_letters_to) else { return };
        let exchange = table::short(exchange);
        let routing_key = routing_key.map_or_else(|| message.routing_key.clone(), table::short);
        let properties = death::noted(message, name, why, self.clock.now());
        let queues = self.route(exchange.as_str(), routing_key.as_str(), &properties).unwrap_or_default();
        self.journal.dead_lettered(name, message, why);
        for queue in queues.iter().filter(|queue| !death::is_cycle(&properties, queue)) {
            self.store(queue, exchange.clone(), routing_key.clone(), properties.clone(), message.body.clone());
        }
    }
}
