//! Exchanges: which of their bindings take a routing key.

use std::hash::{DefaultHasher, Hash, Hasher};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{fault::Fault, table};

/// An exchange and its bindings.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) kind: Kind,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) arguments: FieldTable,
    pub(super) bindings: Vec<Binding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Direct,
    Topic,
    Fanout,
    Headers,
    /// That of RabbitMQ's plug-in: each routing key has its one binding, by shares. Which key goes where is not the
    /// same as at RabbitMQ.
    ConsistentHash,
}

impl Kind {
    pub(super) fn parse(name: &str) -> Result<Self, Fault> {
        match name {
            "direct" => Ok(Self::Direct),
            "topic" => Ok(Self::Topic),
            "fanout" => Ok(Self::Fanout),
            "headers" => Ok(Self::Headers),
            "x-consistent-hash" => Ok(Self::ConsistentHash),
            other => Err(Fault::unknown_kind(other)),
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Topic => "topic",
            Self::Fanout => "fanout",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Binding {
    pub(super) to: Target,
    pub(super) routing_key: String,
    pub(super) arguments: FieldTable,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Queue(String),
    Exchange(String),
}

impl Exchange {
    pub(super) fn new(kind: Kind, durable: bool, auto_delete: bool, arguments: FieldTable) -> Self {
        Self { kind, durable, auto_delete, arguments, bindings: Vec::new() }
    }

    /// Where what no binding takes goes.
    pub(super) fn alternate(&self) -> Option<&str> {
        table::text(&self.arguments, "alternate-exchange")
    }

    /// Where a message goes from here.
    pub(super) fn targets(&self, routing_key: &str, properties: &BasicProperties) -> Vec<&Target> {
        let taking = |takes: &dyn Fn(&Binding) -> bool| {
            self.bindings.iter().filter(|binding| takes(binding)).map(|binding| &binding.to).collect()
        };
        match self.kind {
            Kind::Direct => taking(&|binding| binding.routing_key == routing_key),
            Kind::Topic => taking(&|binding| topic_takes(&binding.routing_key, routing_key)),
            Kind::Fanout => taking(&|_| true),
            Kind::Headers => taking(&|binding| headers_take(&binding.arguments, properties.headers().as_ref())),
            Kind::ConsistentHash => {
                let header =
                    || table::text(properties.headers().as_ref()?, table::text(&self.arguments, "hash-header")?);
                let key = match table::text(&self.arguments, "hash-property") {
                    Some("message_id") => properties.message_id().as_ref().map(ShortString::as_str),
                    Some("correlation_id") => properties.correlation_id().as_ref().map(ShortString::as_str),
                    _ if table::text(&self.arguments, "hash-header").is_some() => header(),
                    _ => Some(routing_key),
                };
                self.share(key.unwrap_or_default()).into_iter().collect()
            }
        }
    }

    /// The binding that has a key: each has as many lots as its routing key says, and the highest lot wins.
    fn share(&self, key: &str) -> Option<&Target> {
        let lot = |binding: &Binding| {
            let weight = binding.routing_key.parse::<u32>().unwrap_or(0).min(1_000);
            let draw = |number| {
                let mut hasher = DefaultHasher::new();
                (key, format!("{:?}", binding.to), number).hash(&mut hasher);
                hasher.finish()
            };
            (0..weight).map(draw).max()
        };
        let drawn = self.bindings.iter().filter_map(|binding| Some((lot(binding)?, &binding.to)));
        drawn.max_by_key(|(lot, _)| *lot).map(|(_, to)| to)
    }
}

/// Whether the headers of a message are those that a binding asks for: all of them, or any. A value that is void stands
/// for any value.
fn headers_take(wanted: &FieldTable, headers: Option<&FieldTable>) -> bool {
    let there = |name: &ShortString, value: &AMQPValue| {
        let found = headers.and_then(|headers| headers.inner().get(name.as_str()));
        found.is_some_and(|found| *value == AMQPValue::Void || found == value)
    };
    let mut wanted_headers = wanted.inner().iter().filter(|(name, _)| !name.as_str().starts_with("x-"));
    match table::text(wanted, "x-match") {
        Some("any") => wanted_headers.any(|(name, value)| there(name, value)),
        _ => wanted_headers.all(|(name, value)| there(name, value)),
    }
}

/// Whether a pattern takes a routing key: `*` stands for one word, `#` for any number of them.
fn topic_takes(pattern: &str, routing_key: &str) -> bool {
    fn takes(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern, words) {
            ([], []) => true,
            (["#", rest @ ..], _) => (0..=words.len()).any(|skipped| takes(rest, &words[skipped..])),
            (["*", rest @ ..], [_, words @ ..]) => takes(rest, words),
            ([word, rest @ ..], [first, words @ ..]) if word == first => takes(rest, words),
            _ => false,
        }
    }
    let pattern: Vec<_> = pattern.split('.').collect();
    let words: Vec<_> = routing_key.split('.').filter(|_| !routing_key.is_empty()).collect();
    takes(&pattern, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_what_they_take_at_rabbitmq() {
        for (pattern, key, taken) in [
            ("mail.#", "mail", true),
            ("mail.#", "mail.bulk.eu", true),
            ("mail.#", "mailbox", false),
            ("mail.*", "mail", false),
            ("mail.*", "mail.bulk", true),
            ("#", "", true),
            ("#.eu", "a.b.eu", true),
            ("*.b.#", "a.b", true),
        ] {
            assert_eq!(topic_takes(pattern, key), taken, "{pattern} {key}");
        }
    }

    #[test]
    fn a_key_keeps_its_share_of_a_consistent_hash() {
        let mut exchange = Exchange::new(Kind::ConsistentHash, true, false, FieldTable::default());
        for queue in ["a", "b"] {
            let to = Target::Queue(queue.to_owned());
            exchange.bindings.push(Binding { to, routing_key: "10".to_owned(), arguments: FieldTable::default() });
        }
        let of = |key: usize| exchange.targets(&format!("key-{key}"), &BasicProperties::default());
        assert!((0..100).all(|key| of(key).len() == 1 && of(key) == of(key)));
        assert!((1..100).any(|key| of(key) != of(0)), "both queues have a share");
    }
}
