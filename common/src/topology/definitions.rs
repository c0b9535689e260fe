//! The topology as a definitions file, which RabbitMQ loads at its start or through the console.

use serde_json::{Value, json};

use super::{Binding, Topology};

/// The definitions for a virtual host, in the form of RabbitMQ's own export. It holds no users and no
/// permissions: loading it into a running broker adds and changes nothing else.
///
/// Of a queue in shards it has the queues, not the exchanges and bindings that lead to its shards: RabbitMQ makes the
/// bindings of a file in any order, and their order says which key goes to which shard. [`declare`](super::declare)
/// makes them.
pub fn definitions(topology: &Topology, vhost: &str) -> Value {
    let own: Vec<_> = topology
        .work_queues()
        .filter(|(_, settings)| settings.shards.is_some())
        .flat_map(|(name, _)| [name.shards(), name.keyed(), name.keyless()])
        .collect();
    let leads_to_shards = |binding: &&Binding| {
        own.contains(&binding.exchange) || own.iter().any(|exchange| exchange == binding.target.name())
    };
    let exchanges = topology.exchanges();
    let exchanges = exchanges.iter().filter(|exchange| !own.contains(&exchange.name));
    let bindings = topology.bindings();
    let bindings = bindings.iter().filter(|binding| !leads_to_shards(binding));
    json!({
        "vhosts": [{ "name": vhost }],
        "exchanges": exchanges.map(|exchange| json!({
            "name": exchange.name,
            "vhost": vhost,
            "type": exchange.kind,
            "durable": true,
            "auto_delete": false,
            "internal": false,
            "arguments": exchange.arguments,
        })).collect::<Vec<_>>(),
        "queues": topology.queues().iter().map(|queue| json!({
            "name": queue.name,
            "vhost": vhost,
            "durable": true,
            "auto_delete": false,
            "arguments": queue.arguments,
        })).collect::<Vec<_>>(),
        "bindings": bindings.map(|binding| json!({
            "source": binding.exchange,
            "vhost": vhost,
            "destination": binding.target.name(),
            "destination_type": binding.target.kind(),
            "routing_key": binding.routing_key,
            "arguments": binding.arguments,
        })).collect::<Vec<_>>(),
    })
}
