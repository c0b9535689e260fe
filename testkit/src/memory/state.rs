//! All that the broker holds: exchanges, queues, and the channels of its clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lapin::{
    BasicProperties,
    types::{FieldTable, ShortString},
};
use leveret_common::clock::{Clock, UnixMillis};
use tokio::sync::Notify;

use super::{
    ChannelKey,
    channel::Channel,
    exchange::{Binding, Exchange, Kind, Target},
    fault::Fault,
    journal::Journal,
    queue::{Queue, Stored},
    table,
};

/// All that the broker holds.
#[derive(Debug)]
pub(super) struct State {
    pub(super) clock: Clock,
    pub(super) exchanges: BTreeMap<String, Exchange>,
    pub(super) queues: BTreeMap<String, Queue>,
    pub(super) channels: BTreeMap<ChannelKey, Channel>,
    pub(super) journal: Journal,
    /// Queues that give nothing out for the time being.
    pub(super) held: BTreeSet<String>,
    /// Messages that came into a queue so far.
    pub(super) arrivals: u64,
    /// Something has changed that somebody may wait for.
    pub(super) changed: Arc<Notify>,
}

/// What a declaration says beside its name.
#[derive(Debug)]
pub(super) struct Declaration {
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) arguments: FieldTable,
}

impl State {
    pub(super) fn new(clock: Clock, changed: Arc<Notify>) -> Self {
        let mut state = Self {
            clock,
            exchanges: BTreeMap::new(),
            queues: BTreeMap::new(),
            channels: BTreeMap::new(),
            journal: Journal::default(),
            held: BTreeSet::new(),
            arrivals: 0,
            changed,
        };
        for kind in [Kind::Direct, Kind::Topic, Kind::Fanout, Kind::Headers] {
            let exchange = Exchange::new(kind, true, false, FieldTable::default());
            state.exchanges.insert(format!("amq.{}", kind.as_str()), exchange);
        }
        state
    }

    pub(super) fn declare_exchange(&mut self, name: &str, kind: Kind, as_said: Declaration) -> Result<(), Fault> {
        let Some(there) = self.exchanges.get(name) else {
            let exchange = Exchange::new(kind, as_said.durable, as_said.auto_delete, as_said.arguments);
            self.exchanges.insert(name.to_owned(), exchange);
            return Ok(());
        };
        let flags = [
            ("type", kind.as_str().to_owned(), there.kind.as_str().to_owned()),
            ("durable", as_said.durable.to_string(), there.durable.to_string()),
            ("auto_delete", as_said.auto_delete.to_string(), there.auto_delete.to_string()),
        ];
        same("exchange", name, flags, (&as_said.arguments, &there.arguments))
    }

    pub(super) fn exchange(&self, name: &str) -> Result<&Exchange, Fault> {
        self.exchanges.get(name).ok_or_else(|| Fault::no_exchange(name))
    }

    pub(super) fn delete_exchange(&mut self, name: &str, if_unused: bool) -> Result<(), Fault> {
        match self.exchanges.get(name) {
            Some(exchange) if if_unused && !exchange.bindings.is_empty() => {
                return Err(Fault::precondition(format_args!("exchange '{name}' in vhost '/' in use")));
            }
            _ => self.exchanges.remove(name),
        };
        self.forget(&Target::Exchange(name.to_owned()));
        Ok(())
    }

    /// Declares a queue for a connection, which has it to itself if it is `exclusive`.
    pub(super) fn declare_queue(
        &mut self,
        name: &str,
        connection: u64,
        exclusive: bool,
        as_said: Declaration,
    ) -> Result<(), Fault> {
        let now = self.clock.now();
        let Some(there) = self.queues.get_mut(name) else {
            let owner = exclusive.then_some(connection);
            let mut queue = Queue::new(as_said.durable, as_said.auto_delete, owner, as_said.arguments);
            queue.used(now);
            self.queues.insert(name.to_owned(), queue);
            return Ok(());
        };
        if there.owner.is_some_and(|owner| owner != connection) {
            return Err(Fault::locked(name));
        }
        there.used(now);
        let flags = [
            ("durable", as_said.durable.to_string(), there.durable.to_string()),
            ("auto_delete", as_said.auto_delete.to_string(), there.auto_delete.to_string()),
            ("exclusive", exclusive.to_string(), there.owner.is_some().to_string()),
        ];
        same("queue", name, flags, (&as_said.arguments, &there.arguments))
    }

    /// A queue that a connection may use.
    pub(super) fn queue(&mut self, name: &str, connection: u64) -> Result<&mut Queue, Fault> {
        match self.queues.get_mut(name) {
            None => Err(Fault::no_queue(name)),
            Some(queue) if queue.owner.is_some_and(|owner| owner != connection) => Err(Fault::locked(name)),
            Some(queue) => Ok(queue),
        }
    }

    /// Deletes a queue with all that is in it, and gives how much that was.
    pub(super) fn delete_queue(&mut self, name: &str) -> usize {
        let Some(queue) = self.queues.remove(name) else { return 0 };
        for consumer in &queue.consumers {
            if let Some(channel) = self.channels.get(&consumer.channel) {
                channel.cancelled(consumer.channel.1, consumer.tag.clone());
            }
        }
        for channel in self.channels.values_mut() {
            channel.unsettled.retain(|_, taken| taken.queue != name);
        }
        self.forget(&Target::Queue(name.to_owned()));
        queue.ready()
    }

    pub(super) fn bind(&mut self, source: &str, binding: Binding) -> Result<(), Fault> {
        match &binding.to {
            Target::Queue(queue) if !self.queues.contains_key(queue) => return Err(Fault::no_queue(queue)),
            Target::Exchange(exchange) => self.exchange(exchange).map(|_| ())?,
            Target::Queue(_) => {}
        }
        let exchange = self.exchanges.get_mut(source).ok_or_else(|| Fault::no_exchange(source))?;
        if !exchange.bindings.contains(&binding) {
            exchange.bindings.push(binding);
        }
        Ok(())
    }

    pub(super) fn unbind(&mut self, source: &str, binding: &Binding) {
        if let Some(exchange) = self.exchanges.get_mut(source) {
            exchange.bindings.retain(|other| other != binding);
        }
    }

    fn forget(&mut self, target: &Target) {
        for exchange in self.exchanges.values_mut() {
            exchange.bindings.retain(|binding| binding.to != *target);
        }
    }

    /// The queues that take a message.
    pub(super) fn route(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: &BasicProperties,
    ) -> Result<BTreeSet<String>, Fault> {
        let mut queues = BTreeSet::new();
        if exchange.is_empty() {
            queues.extend(self.queues.contains_key(routing_key).then(|| routing_key.to_owned()));
            return Ok(queues);
        }
        self.exchange(exchange)?;
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![exchange]);
        while let Some(name) = ahead.pop() {
            let Some(exchange) = self.exchanges.get(name).filter(|_| seen.insert(name)) else { continue };
            let targets = exchange.targets(routing_key, properties);
            if targets.is_empty() {
                ahead.extend(exchange.alternate());
            }
            for target in targets {
                match target {
                    Target::Queue(queue) => drop(queues.insert(queue.clone())),
                    Target::Exchange(exchange) => ahead.push(exchange),
                }
            }
        }
        Ok(queues)
    }

    /// When the next message is to leave a queue because its time there is over.
    pub(super) fn next_expiry(&self) -> Option<UnixMillis> {
        let messages = self.queues.values().filter_map(|queue| queue.head()?.expires_at);
        messages.chain(self.queues.values().filter_map(Queue::expires_at)).min()
    }

    /// Moves on what has been in its queue for as long as it may, in the order in which that comes to pass.
    pub(super) fn expire(&mut self) {
        let now = self.clock.now();
        let due = |message: &Stored| message.expires_at.filter(|at| *at <= now).map(|at| (at, message.number));
        while let Some((_, name)) =
            self.queues.iter().filter_map(|(name, queue)| Some((due(queue.head()?)?, name))).min()
        {
            let name = name.clone();
            if let Some(message) = self.queues.get_mut(&name).and_then(Queue::pop) {
                self.dead_letter(&name, &message, super::death::Why::Expired);
            }
        }
        let unused = |queue: &Queue| queue.expires_at().is_some_and(|at| at <= now);
        let unused: Vec<_> =
            self.queues.iter().filter(|(_, queue)| unused(queue)).map(|(name, _)| name.clone()).collect();
        for name in unused {
            self.delete_queue(&name);
        }
    }

    /// A name for a queue whose client leaves the choice to the broker.
    pub(super) fn new_name(&mut self) -> String {
        self.arrivals += 1;
        format!("amq.gen-{}", self.arrivals)
    }

    /// When the next message returns to one of these work queues, or leaves it.
    pub(super) fn next_return(&self, work: &[String]) -> Option<UnixMillis> {
        self.of_work(work).filter_map(|(_, queue)| queue.head()?.expires_at).min()
    }

    /// Whether there is nothing to do in these work queues and their parts, tiers and dead letters aside: nothing waits
    /// that somebody would take, nothing is unsettled.
    pub(super) fn is_idle(&self, work: &[String]) -> bool {
        let is_done = |queue: &Queue| {
            queue.unsettled == 0 && (queue.ready() == 0 || (queue.consumers.is_empty() && queue.abandoned))
        };
        self.of_work(work).all(|(name, queue)| table::is_aside(name) || is_done(queue))
    }

    /// The queues of these work queues: themselves, and those with a name behind theirs.
    fn of_work<'a>(&'a self, work: &'a [String]) -> impl Iterator<Item = (&'a str, &'a Queue)> {
        let queues = self.queues.iter().map(|(name, queue)| (name.as_str(), queue));
        queues.filter(|(name, _)| work.iter().any(|work| work == table::work_queue(name)))
    }

    pub(super) fn tell(&self) {
        self.changed.notify_waiters();
    }
}

fn same<const N: usize>(
    what: &str,
    name: &str,
    flags: [(&str, String, String); N],
    (wanted, there): (&FieldTable, &FieldTable),
) -> Result<(), Fault> {
    let differs = |argument: &str, received: &str, current: &str| {
        Err(Fault::precondition(format_args!(
            "inequivalent arg '{argument}' for {what} '{name}' in vhost '/': received {received} but current is {current}"
        )))
    };
    for (flag, wanted, there) in flags {
        if wanted != there {
            return differs(flag, &format!("'{wanted}'"), &format!("'{there}'"));
        }
    }
    match table::difference(wanted, there) {
        Some((argument, received, current)) => differs(&argument, &received, &current),
        None => Ok(()),
    }
}

/// A text as the name of a queue, an exchange or a consumer.
pub(super) fn name(text: &str) -> ShortString {
    table::short(text)
}
