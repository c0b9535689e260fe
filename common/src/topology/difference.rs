//! What stands between the broker and the topology.

use std::fmt;

use serde::Serialize;

use super::Binding;

/// A part of the topology, as the console shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Part {
    /// An exchange by its name.
    Exchange(String),
    /// A queue by its name.
    Queue(String),
    /// A binding of a queue to an exchange.
    Binding {
        /// The exchange.
        exchange: String,
        /// The queue; or the exchange that messages go on to.
        queue: String,
    },
}

impl Part {
    pub(super) fn of(binding: &Binding) -> Self {
        Self::Binding { exchange: binding.exchange.clone(), queue: binding.target.name().to_owned() }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(name) => write!(f, "exchange {name:?}"),
            Self::Queue(name) => write!(f, "queue {name:?}"),
            Self::Binding { exchange, queue } => {
                write!(f, "binding of queue {queue:?} to exchange {exchange:?}")
            }
        }
    }
}

/// Where the broker and the topology differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "difference", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Difference {
    /// It is not there.
    Missing {
        /// What is missing.
        part: Part,
    },
    /// It is there with another type or argument.
    Different {
        /// What differs.
        part: Part,
        /// The argument, as the broker names it.
        argument: String,
        /// What the broker has.
        there: String,
        /// What the topology says.
        wanted: String,
    },
    /// The queue has another number of shards.
    Shards {
        /// The queue.
        queue: String,
        /// How many the broker has; none when it is a single queue there.
        there: Option<u16>,
        /// How many the topology says.
        wanted: Option<u16>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { part } => write!(f, "{part} is missing"),
            Self::Different { part, argument, there, wanted } => {
                write!(f, "{part} has {argument} = {there}, the topology says {wanted}")
            }
            Self::Shards { queue, there, wanted } => {
                let shards = |number: &Option<u16>| match number {
                    Some(1) => "1 shard".to_owned(),
                    Some(number) => format!("{number} shards"),
                    None => "none".to_owned(),
                };
                write!(f, "queue {queue:?} has {}, the topology says {}", shards(there), shards(wanted))?;
                match (there, wanted) {
                    (Some(_), Some(to)) => write!(f, " (`leveret queues reshard {queue} --to {to}` makes it so)"),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// Reads RabbitMQ's sentence about an argument that is not the same, such as `inequivalent arg 'x-message-ttl'
/// for queue 'a' in vhost '/': received the value '5' of type 'signedint' but current is none`.
pub(super) fn inequivalent(part: &Part, text: &str) -> Option<Difference> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("received ")?;
    let (wanted, there) = rest.split_once(" but current is ")?;
    let value = |side: &str| {
        let quoted = side.split_once('\'').and_then(|(_, rest)| rest.split_once('\''));
        quoted.map_or_else(|| side.trim_matches(['"', ')', ' ', '\'']).to_owned(), |(value, _)| value.to_owned())
    };
    Some(Difference::Different {
        part: part.clone(),
        argument: argument.to_owned(),
        there: value(there),
        wanted: value(wanted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_sentence_gives_argument_and_both_values() {
        let part = Part::Queue("mail".to_owned());
        let sentence = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'mail' in vhost '/': received \
                        the value '10' of type 'long' but current is the value '1000' of type 'signedint'";
        let difference = inequivalent(&part, sentence).unwrap();
        assert_eq!(difference.to_string(), "queue \"mail\" has x-max-length = 1000, the topology says 10");
        let sentence = "inequivalent arg 'x-overflow' for queue 'mail' in vhost '/': received none but current is the value 'reject-publish' of type 'longstr'";
        let difference = inequivalent(&part, sentence).unwrap();
        assert_eq!(difference.to_string(), "queue \"mail\" has x-overflow = reject-publish, the topology says none");
    }

    #[test]
    fn another_number_of_shards_names_the_command() {
        let difference = Difference::Shards { queue: "mail".to_owned(), there: Some(8), wanted: Some(4) };
        let said = "queue \"mail\" has 8 shards, the topology says 4 shards (`leveret queues reshard mail --to 4` makes it so)";
        assert_eq!(difference.to_string(), said);
    }
}
