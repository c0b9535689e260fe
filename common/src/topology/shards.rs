//! A queue in shards: several queues behind one name, with the tasks of one key always in the same one.
//!
//! ```text
//! leveret.tasks ──┐                  key  ┌─► mail.shards.keyed   ──┐
//! leveret.publish ┼─► mail.shards ────────┤                         ├─► mail.00, mail.01, …
//! leveret.return ─┘                no key └─► mail.shards.keyless ──┘
//! ```
//!
//! The key decides by its place in a ring, which RabbitMQ makes of the bindings in the order in which they came. A broker
//! that keeps its metadata in Mnesia forgets that order when all of its nodes stop, and makes the ring anew in any other
//! (seen on 3.10): keys then change their shards. Khepri keeps it.

use std::collections::BTreeMap;

use super::{Argument, Binding, Exchange, QueueName, QueueSettings, Target, Topology, text};
use crate::{
    link::{ChannelPool, reply_code},
    topology::{TopologyError, declare},
    wire::header,
};

/// The most shards that a queue can have: their numbers have two digits, so that lists of queues show them in order.
pub const MAX_SHARDS: u16 = 100;

impl QueueName {
    /// The name of a shard of this queue, such as `mail.03`.
    pub fn shard(&self, index: u16) -> String {
        format!("{self}.{index:02}")
    }

    /// The exchange that leads to the shards of this queue. It is declared after all that is behind it: where it is,
    /// the queue is in shards, and they are ready.
    pub fn shards(&self) -> String {
        format!("{self}.shards")
    }

    /// The exchange that spreads tasks with a key over the shards.
    pub fn keyed(&self) -> String {
        format!("{self}.shards.keyed")
    }

    /// The exchange that spreads tasks without a key over the shards.
    pub fn keyless(&self) -> String {
        format!("{self}.shards.keyless")
    }
}

impl Topology {
    /// The ring by key, the ring for tasks without one, and the exchange in front of them.
    pub(super) fn shard_exchanges(&self, name: &QueueName) -> [Exchange; 3] {
        let ring = |name, hashed: (&'static str, Argument)| Exchange {
            name,
            kind: "x-consistent-hash",
            arguments: BTreeMap::from([hashed, ("alternate-exchange", text(self.names.lost()))]),
        };
        [
            ring(name.keyed(), ("hash-header", text(header::KEY))),
            ring(name.keyless(), ("hash-property", text("message_id"))),
            // What has no key matches no binding and takes the alternate: in the ring by key, all tasks without one
            // would go to a single shard.
            Exchange {
                name: name.shards(),
                kind: "headers",
                arguments: BTreeMap::from([("alternate-exchange", text(&name.keyless()))]),
            },
        ]
    }

    /// The bindings of the shards, in the order in which they must be made.
    pub(super) fn shard_bindings(&self, name: &QueueName, shards: u16) -> Vec<Binding> {
        (0..shards).flat_map(|index| shard_binding(name, index)).collect()
    }

    /// The bindings of the exchange in front of the shards.
    pub(super) fn front_bindings(&self, name: &QueueName) -> Vec<Binding> {
        let bind = |exchange: &str, routing_key: String| Binding {
            exchange: exchange.to_owned(),
            target: Target::Exchange(name.shards()),
            routing_key,
            arguments: BTreeMap::new(),
        };
        let names = &self.names;
        vec![
            Binding {
                exchange: name.shards(),
                target: Target::Exchange(name.keyed()),
                routing_key: String::new(),
                // Whatever its value.
                arguments: BTreeMap::from([(header::KEY, Argument::Any)]),
            },
            bind(names.tasks(), format!("{name}.#")),
            bind(names.publish(), format!("{name}.#")),
            bind(names.retry_return(), name.to_string()),
        ]
    }

    pub(super) fn shard_arguments(
        &self,
        name: &QueueName,
        settings: &QueueSettings,
    ) -> BTreeMap<&'static str, Argument> {
        let mut arguments = self.work_arguments(name, settings);
        if settings.order {
            arguments.insert("x-single-active-consumer", Argument::Flag(true));
        }
        arguments
    }

    /// The same without this work queue.
    pub(super) fn without(mut self, name: &QueueName) -> Self {
        self.queues.remove(name);
        self
    }

    /// The same with so many shards of `name` as `shards` says.
    #[must_use]
    pub fn with_shards(mut self, name: &QueueName, shards: u16) -> Self {
        if let Some(settings) = self.queues.get_mut(name) {
            settings.shards = Some(shards);
        }
        self
    }
}

/// The bindings of one shard: by key, and for tasks without one.
pub(crate) fn shard_binding(name: &QueueName, index: u16) -> [Binding; 2] {
    [name.keyed(), name.keyless()].map(|exchange| Binding {
        exchange,
        target: Target::Queue(name.shard(index)),
        // At an exchange of this type the routing key of a binding is its weight.
        routing_key: "1".to_owned(),
        arguments: BTreeMap::new(),
    })
}

/// Whether the broker has `name` in shards.
///
/// # Errors
/// [`TopologyError`] when the broker cannot be asked.
pub async fn is_sharded(pool: &ChannelPool, name: &QueueName) -> Result<bool, TopologyError> {
    declare::exchange_is_there(pool, &name.shards()).await
}

/// The shards of `name` that the broker has, by their numbers. Looked for are the first `expected`, and what follows
/// them without a gap.
///
/// # Errors
/// [`TopologyError`] when the broker cannot be asked.
pub async fn present_shards(pool: &ChannelPool, name: &QueueName, expected: u16) -> Result<Vec<u16>, TopologyError> {
    let mut present = Vec::new();
    for index in 0..MAX_SHARDS {
        if declare::queue_is_there(pool, &name.shard(index)).await? {
            present.push(index);
        } else if index >= expected {
            break;
        }
    }
    Ok(present)
}

/// Whether an answer says that there is no such queue or exchange. A queue whose node is down gets the same code.
pub(crate) fn says_absent(error: &lapin::Error) -> bool {
    reply_code(error) == Some(404) && error.to_string().contains("no ")
}
