//! What is given out to clients, and how they settle it.

use std::collections::BTreeSet;

use amq_protocol::protocol::basic;
use lapin::types::ShortString;

use super::{
    ChannelKey,
    channel::{Taken, Verdict},
    death::Why,
    fault::Fault,
    queue::{Consumer, Queue},
    state::State,
};

impl State {
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
        let now = self.clock.now();
        let queue = self.queue(name, key.0)?;
        queue.used(now);
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
                queue.used(self.clock.now());
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
