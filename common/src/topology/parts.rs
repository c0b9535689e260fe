//! What a topology is made of: exchanges, queues, bindings and their arguments.

use std::collections::BTreeMap;

use serde::Serialize;

/// A value of an argument of a queue, an exchange or a binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// In a binding to an exchange of type `headers`: any value will do.
    Any,
}

/// An exchange, durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// `topic`, `direct`, `fanout`, `headers` or `x-consistent-hash`.
    pub kind: &'static str,
    /// Its arguments.
    pub arguments: BTreeMap<&'static str, Argument>,
}

/// A queue, durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: BTreeMap<&'static str, Argument>,
}

/// A binding to an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The exchange that messages come from.
    pub exchange: String,
    /// Where they go.
    pub target: Target,
    /// The routing key; at a topic exchange the pattern, at a consistent-hash exchange the weight.
    pub routing_key: String,
    /// Its arguments: the headers to match, at an exchange of type `headers`.
    pub arguments: BTreeMap<&'static str, Argument>,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the queue of this name.
    Queue(String),
    /// To the exchange of this name.
    Exchange(String),
}

impl Target {
    /// The name of the queue or exchange.
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Exchange(name) => name,
        }
    }

    /// `queue` or `exchange`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Queue(_) => "queue",
            Self::Exchange(_) => "exchange",
        }
    }
}
