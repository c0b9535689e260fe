//! What goes in and out by the channels of clients: publishes, deliveries, and how they are settled.

use std::collections::{BTreeMap, BTreeSet};

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
    queue::{Consumer, Queue, Stored},
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
    last_tag: u64,
}

/// A message that a client has in hand.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) queue: String,
    consumer: Option<ShortString>,
    message: Stored,
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

    fn send(&self, number: u16, method: basic::AMQPMethod, properties: BasicProperties, body: &[u8]) {
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
        let headers = message.properties.headers().as_ref();
        let queues = self.route(message.exchange.as_str(), message.routing_key.as_str(), headers)?;
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
        let headers = properties.headers().as_ref();
        let queues = self.route(exchange.as_str(), routing_key.as_str(), headers).unwrap_or_default();
        self.journal.dead_lettered(name, message, why);
        for queue in queues.iter().filter(|queue| !death::is_cycle(&properties, queue)) {
            self.store(queue, exchange.clone(), routing_key.clone(), properties.clone(), message.body.clone());
        }
    }

    /// Gives out what waits in a queue, as far as somebody has room for it.
    pub(super) fn dispatch(&mut self, name: &str) {
        if self.held.contains(name) {
            return;
        }
        let Some(queue) = self.queues.get_mut(name) else { return };
        while queue.ready() > 0 {
            let quorum = queue.quorum;
            let Some(consumer) = queue.next_consumer() else { return };
            let (key, tag, no_ack) = (consumer.channel, consumer.tag.clone(), consumer.no_ack);
            let Some(channel) = self.channels.get_mut(&key) else { return };
            consumer.unsettled += usize::from(!no_ack);
            let Some(message) = queue.pop() else { return };
            channel.last_tag += 1;
            let deliver = basic::Deliver {
                consumer_tag: tag.clone(),
                delivery_tag: channel.last_tag,
                redelivered: message.returns > 0,
                exchange: message.exchange.clone(),
                routing_key: message.routing_key.clone(),
            };
            let properties = message.properties(quorum, false);
            channel.send(key.1, basic::AMQPMethod::Deliver(deliver), properties, &message.body);
            self.journal.delivered((key, channel.last_tag), name, &message, self.clock.now());
            if !no_ack {
                queue.unsettled += 1;
                let taken = Taken { queue: name.to_owned(), consumer: Some(tag), message };
                channel.unsettled.insert(channel.last_tag, taken);
            }
        }
    }

    /// Gives out the next message of a queue to a client that asks for it.
    pub(super) fn get(&mut self, key: ChannelKey, name: &str, no_ack: bool) -> Result<bool, Fault> {
        let queue = self.queue(name, key.0)?;
        let quorum = queue.quorum;
        let Some(message) = queue.pop() else { return Ok(false) };
        queue.unsettled += usize::from(!no_ack);
        let left = u32::try_from(queue.ready()).unwrap_or(u32::MAX);
        let Some(channel) = self.channels.get_mut(&key) else { return Ok(false) };
        channel.last_tag += 1;
        let got = basic::GetOk {
            delivery_tag: channel.last_tag,
            redelivered: message.returns > 0,
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
            message_count: left,
        };
        channel.send(key.1, basic::AMQPMethod::GetOk(got), message.properties(quorum, true), &message.body);
        if !no_ack {
            let taken = Taken { queue: name.to_owned(), consumer: None, message };
            channel.unsettled.insert(channel.last_tag, taken);
        }
        Ok(true)
    }

    /// Settles one delivery, or all up to it; tag 0 then stands for all there are.
    pub(super) fn settle(&mut self, key: ChannelKey, tag: u64, multiple: bool, verdict: Verdict) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(&key) else { return Ok(()) };
        if !(channel.unsettled.contains_key(&tag) || (multiple && tag == 0)) {
            return Err(Fault::precondition(format_args!("unknown delivery tag {tag}")));
        }
        let tags: Vec<u64> = match (multiple, tag) {
            (false, tag) => vec![tag],
            (true, 0) => channel.unsettled.keys().copied().collect(),
            (true, tag) => channel.unsettled.range(..=tag).map(|(tag, _)| *tag).collect(),
        };
        self.finish(key, tags, verdict);
        Ok(())
    }

    fn finish(&mut self, key: ChannelKey, tags: Vec<u64>, verdict: Verdict) {
        let mut touched = BTreeSet::new();
        for tag in tags {
            let taken = self.channels.get_mut(&key).and_then(|channel| channel.unsettled.remove(&tag));
            let Some(Taken { queue: name, consumer, mut message }) = taken else { continue };
            self.journal.settled((key, tag), verdict);
            let Some(queue) = self.queues.get_mut(&name) else { continue };
            queue.unsettled = queue.unsettled.saturating_sub(1);
            if let Some(consumer) = consumer.and_then(|tag| queue.consumer(key, &tag)) {
                consumer.unsettled = consumer.unsettled.saturating_sub(1);
            }
            match verdict {
                Verdict::Ack => {}
                Verdict::Reject => self.dead_letter(&name, &message, Why::Rejected),
                Verdict::Requeue => {
                    message.returns += 1;
                    if queue.delivery_limit().is_some_and(|limit| u64::from(message.returns) > limit) {
                        self.dead_letter(&name, &message, Why::DeliveryLimit);
                    } else {
                        queue.put_back(message);
                    }
                }
            }
            touched.insert(name);
        }
        for name in touched {
            self.dispatch(&name);
        }
        self.tell();
    }

    pub(super) fn consume(&mut self, name: &str, consumer: Consumer) -> Result<(), Fault> {
        let queue = self.queue(name, consumer.channel.0)?;
        if queue.consumers.iter().any(|other| other.exclusive) || (consumer.exclusive && !queue.consumers.is_empty()) {
            return Err(Fault::in_use("queue", name));
        }
        queue.consumers.push(consumer);
        queue.abandoned = false;
        Ok(())
    }

    /// Ends a subscription; what its client has in hand stays there.
    pub(super) fn cancel(&mut self, key: ChannelKey, tag: &ShortString) {
        if let Some(channel) = self.channels.get_mut(&key)
            && channel.replies.as_ref() == Some(tag)
        {
            channel.replies = None;
        }
        self.unsubscribe(true, |consumer| consumer.channel == key && consumer.tag == *tag);
    }

    fn unsubscribe(&mut self, on_purpose: bool, of: impl Fn(&Consumer) -> bool) {
        let mut unused = Vec::new();
        for (name, queue) in &mut self.queues {
            let before = queue.consumers.len();
            queue.consumers.retain(|consumer| !of(consumer));
            if queue.consumers.len() < before && queue.consumers.is_empty() {
                queue.abandoned = on_purpose;
                unused.extend(queue.auto_delete.then(|| name.clone()));
            }
        }
        for name in unused {
            self.delete_queue(&name);
        }
        self.tell();
    }

    /// Ends a channel: what its client has in hand goes back.
    pub(super) fn close_channel(&mut self, key: ChannelKey) {
        self.unsubscribe(false, |consumer| consumer.channel == key);
        let tags = self.channels.get(&key).map(|channel| channel.unsettled.keys().copied().collect());
        self.finish(key, tags.unwrap_or_default(), Verdict::Requeue);
        self.channels.remove(&key);
    }

    /// Ends all connections.
    pub(super) fn close_connections(&mut self) {
        let connections: BTreeSet<_> = self.channels.keys().map(|(connection, _)| *connection).collect();
        connections.into_iter().for_each(|connection| self.close_connection(connection));
    }

    /// Ends the channels of a connection, and takes the queues away that it had to itself.
    pub(super) fn close_connection(&mut self, connection: u64) {
        let keys: Vec<_> = self.channels.range((connection, 0)..=(connection, u16::MAX)).map(|(key, _)| *key).collect();
        for key in keys {
            self.close_channel(key);
        }
        let owned = |queue: &Queue| queue.owner == Some(connection);
        let names: Vec<_> =
            self.queues.iter().filter(|(_, queue)| owned(queue)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.delete_queue(&name);
        }
    }
}
