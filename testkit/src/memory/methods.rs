//! What a client asks for on a channel: exchanges, queues, messages.

use amq_protocol::protocol::{AMQPClass, basic, exchange, queue};
use lapin::types::ShortString;

use super::{
    ChannelKey,
    channel::{REPLY_TO, Verdict},
    exchange::{Binding, Kind, Target},
    fault::Fault,
    queue::Consumer,
    session::{Coming, Session},
    state::{Declaration, name},
};

impl Session {
    pub(super) fn exchange(&mut self, number: u16, method: exchange::AMQPMethod) -> Result<(), Fault> {
        use exchange::AMQPMethod as Method;
        let (answer, nowait) = match method {
            Method::Declare(asked) if asked.passive => {
                self.shared.state().exchange(asked.exchange.as_str()).map(|_| ())?;
                (Method::DeclareOk(exchange::DeclareOk {}), asked.nowait)
            }
            Method::Declare(asked) => {
                let kind = Kind::parse(asked.kind.as_str())?;
                let as_said =
                    Declaration { durable: asked.durable, auto_delete: asked.auto_delete, arguments: asked.arguments };
                self.shared.state().declare_exchange(asked.exchange.as_str(), kind, as_said)?;
                (Method::DeclareOk(exchange::DeclareOk {}), asked.nowait)
            }
            Method::Delete(asked) => {
                self.shared.state().delete_exchange(asked.exchange.as_str(), asked.if_unused)?;
                (Method::DeleteOk(exchange::DeleteOk {}), asked.nowait)
            }
            Method::Bind(asked) => {
                let to = Target::Exchange(asked.destination.into());
                let binding = Binding { to, routing_key: asked.routing_key.into(), arguments: asked.arguments };
                self.shared.state().bind(asked.source.as_str(), binding)?;
                (Method::BindOk(exchange::BindOk {}), asked.nowait)
            }
            Method::Unbind(asked) => {
                let to = Target::Exchange(asked.destination.into());
                let binding = Binding { to, routing_key: asked.routing_key.into(), arguments: asked.arguments };
                self.shared.state().unbind(asked.source.as_str(), &binding);
                (Method::UnbindOk(exchange::UnbindOk {}), asked.nowait)
            }
            _ => return Err(Fault::not_implemented("this method of exchanges")),
        };
        if !nowait {
            self.say(number, AMQPClass::Exchange(answer));
        }
        Ok(())
    }

    /// The queue that a client names; an empty name is the one that it declared last.
    fn named(&self, number: u16, queue: ShortString) -> String {
        match self.channels.get(&number) {
            Some(open) if queue.as_str().is_empty() => open.last_queue.clone(),
            _ => queue.into(),
        }
    }

    pub(super) fn queue(&mut self, number: u16, method: queue::AMQPMethod) -> Result<(), Fault> {
        use queue::AMQPMethod as Method;
        let connection = self.number;
        let (answer, nowait) = match method {
            Method::Declare(asked) if asked.queue.as_str().starts_with(REPLY_TO) => {
                let ok = queue::DeclareOk { queue: asked.queue, message_count: 0, consumer_count: 0 };
                (Method::DeclareOk(ok), asked.nowait)
            }
            Method::Declare(asked) => {
                let mut state = self.shared.state();
                let queue: String = if asked.queue.as_str().is_empty() { state.new_name() } else { asked.queue.into() };
                if !asked.passive {
                    let as_said = Declaration {
                        durable: asked.durable,
                        auto_delete: asked.auto_delete,
                        arguments: asked.arguments,
                    };
                    state.declare_queue(&queue, connection, asked.exclusive, as_said)?;
                }
                let found = state.queue(&queue, connection)?;
                let ok = queue::DeclareOk {
                    queue: name(&queue),
                    message_count: u32::try_from(found.ready()).unwrap_or(u32::MAX),
                    consumer_count: u32::try_from(found.consumers.len()).unwrap_or(u32::MAX),
                };
                drop(state);
                self.open(number).last_queue = queue;
                (Method::DeclareOk(ok), asked.nowait)
            }
            Method::Bind(asked) => {
                let queue = self.named(number, asked.queue);
                let mut state = self.shared.state();
                state.queue(&queue, connection)?;
                let to = Target::Queue(queue);
                let binding = Binding { to, routing_key: asked.routing_key.into(), arguments: asked.arguments };
                state.bind(asked.exchange.as_str(), binding)?;
                (Method::BindOk(queue::BindOk {}), asked.nowait)
            }
            Method::Unbind(asked) => {
                let to = Target::Queue(self.named(number, asked.queue));
                let binding = Binding { to, routing_key: asked.routing_key.into(), arguments: asked.arguments };
                self.shared.state().unbind(asked.exchange.as_str(), &binding);
                (Method::UnbindOk(queue::UnbindOk {}), false)
            }
            Method::Purge(asked) => {
                let queue = self.named(number, asked.queue);
                let message_count = self.shared.state().queue(&queue, connection)?.clear();
                let message_count = u32::try_from(message_count).unwrap_or(u32::MAX);
                (Method::PurgeOk(queue::PurgeOk { message_count }), asked.nowait)
            }
            Method::Delete(asked) => {
                let name = self.named(number, asked.queue);
                let mut state = self.shared.state();
                if let Ok(queue) = state.queue(&name, connection) {
                    if asked.if_unused && !queue.consumers.is_empty() {
                        return Err(Fault::precondition(format_args!("queue '{name}' in vhost '/' in use")));
                    }
                    if asked.if_empty && queue.ready() > 0 {
                        return Err(Fault::precondition(format_args!("queue '{name}' in vhost '/' is not empty")));
                    }
                }
                let message_count = u32::try_from(state.delete_queue(&name)).unwrap_or(u32::MAX);
                (Method::DeleteOk(queue::DeleteOk { message_count }), asked.nowait)
            }
            _ => return Err(Fault::not_implemented("this method of queues")),
        };
        if !nowait {
            self.say(number, AMQPClass::Queue(answer));
        }
        Ok(())
    }

    pub(super) fn basic(&mut self, number: u16, method: basic::AMQPMethod) -> Result<(), Fault> {
        use basic::AMQPMethod as Method;
        let key = (self.number, number);
        let settle = |tag, multiple, verdict| self.shared.state().settle(key, tag, multiple, verdict);
        let back = |requeue| if requeue { Verdict::Requeue } else { Verdict::Reject };
        match method {
            Method::Ack(ack) => settle(ack.delivery_tag, ack.multiple, Verdict::Ack)?,
            Method::Nack(nack) => settle(nack.delivery_tag, nack.multiple, back(nack.requeue))?,
            Method::Reject(reject) => settle(reject.delivery_tag, false, back(reject.requeue))?,
            Method::Recover(_) => {
                settle(0, true, Verdict::Requeue)?;
                self.say(number, AMQPClass::Basic(Method::RecoverOk(basic::RecoverOk {})));
            }
            Method::Publish(method) => {
                self.open(number).coming = Some(Coming { method, header: None, body: Vec::new() });
            }
            Method::Qos(qos) => {
                if let Some(channel) = self.shared.state().channels.get_mut(&key) {
                    channel.prefetch = qos.prefetch_count;
                }
                self.say(number, AMQPClass::Basic(Method::QosOk(basic::QosOk {})));
            }
            Method::Get(get) => {
                let queue = self.named(number, get.queue);
                if !self.shared.state().get(key, &queue, get.no_ack)? {
                    self.say(number, AMQPClass::Basic(Method::GetEmpty(basic::GetEmpty {})));
                }
            }
            Method::Consume(asked) => self.consume(key, asked)?,
            Method::Cancel(cancel) => {
                let mut state = self.shared.state();
                state.cancel(key, &cancel.consumer_tag);
                if !cancel.nowait {
                    let ok = basic::CancelOk { consumer_tag: cancel.consumer_tag };
                    self.say(number, AMQPClass::Basic(Method::CancelOk(ok)));
                }
            }
            _ => return Err(Fault::not_implemented("this method of messages")),
        }
        Ok(())
    }

    fn consume(&mut self, key: ChannelKey, mut asked: basic::Consume) -> Result<(), Fault> {
        let open = self.open(key.1);
        if asked.consumer_tag.as_str().is_empty() {
            open.tags += 1;
            asked.consumer_tag = name(&format!("amq.ctag-{}-{}-{}", key.0, key.1, open.tags));
        }
        let queue = self.named(key.1, asked.queue);
        let mut state = self.shared.state();
        let ok = basic::ConsumeOk { consumer_tag: asked.consumer_tag.clone() };
        let Some(channel) = state.channels.get_mut(&key) else { return Ok(()) };
        if queue == REPLY_TO {
            channel.replies = Some(asked.consumer_tag);
        } else {
            let consumer = Consumer {
                channel: key,
                tag: asked.consumer_tag,
                no_ack: asked.no_ack,
                exclusive: asked.exclusive,
                prefetch: channel.prefetch,
                unsettled: 0,
            };
            state.consume(&queue, consumer)?;
        }
        // Said before the lock is given up, so that it comes before the first delivery.
        if !asked.nowait {
            self.say(key.1, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)));
        }
        state.dispatch(&queue);
        Ok(())
    }
}
