//! The topology as a definitions file, which RabbitMQ loads at its start or through the console.

use serde_json::{Value, json};

use super::Topology;

/// The definitions for a virtual host, in the form of RabbitMQ's own export. It holds no users and no
/// permissions: loading it into a running broker adds and changes nothing else.
pub fn definitions(topology: &Topology, vhost: &str) -> Value {
    json!({
        "vhosts": [{ "name": vhost }],
        "exchanges": topology.exchanges().iter().map(|exchange| json!({
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
        "bindings": topology.bindings().iter().map(|binding| json!({
            "source": binding.exchange,
            "vhost": vhost,
            "destination": binding.queue,
            "destination_type": "queue",
            "routing_key": binding.routing_key,
            "arguments": {},
        })).collect::<Vec<_>>(),
    })
}
