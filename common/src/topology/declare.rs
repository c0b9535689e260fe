//! The topology value against a broker: declare it, or see what differs.

use std::{collections::BTreeMap, fmt};

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde::Serialize;
use tracing::debug;

use super::{Argument, Topology};
use crate::{
    link::{ChannelPool, PoolError, reason, reply_code},
    wire::{TooLong, short},
};

/// Declares everything in `topology` that is not there yet. What is there already, with the same arguments,
/// stays as it is; nothing is ever deleted. A user that may not declare takes what is there as it is.
///
/// # Errors
/// [`TopologyError::Different`] when a queue or exchange is there with other arguments,
/// [`TopologyError::Forbidden`] when it is not there and the user may not declare it.
pub async fn declare(pool: &ChannelPool, topology: &Topology) -> Result<(), TopologyError> {
    for exchange in topology.exchanges() {
        let part = Part::Exchange(exchange.name.clone());
        let declared = declare_exchange(&*pool.get().await?, &exchange, false).await;
        let there = async |channel: &Channel| declare_exchange(channel, &exchange, true).await;
        declared_or_there(pool, part, declared, there).await?;
    }
    for queue in topology.queues() {
        let part = Part::Queue(queue.name.clone());
        let declared = declare_queue(&*pool.get().await?, &queue, false).await;
        let there = async |channel: &Channel| declare_queue(channel, &queue, true).await;
        declared_or_there(pool, part, declared, there).await?;
    }
    for binding in topology.bindings() {
        let part = Part::Binding { exchange: binding.exchange.clone(), queue: binding.queue.clone() };
        match bind(&*pool.get().await?, &binding).await {
            // Nobody can ask for a binding. Whoever declared its two ends for this user has bound them as well; if
            // not, a publish comes back as unroutable.
            Err(fault) if fault.is_forbidden() => debug!("may not bind: taking the {part} to be there"),
            bound => bound.map_err(|fault| fault.about(part))?,
        }
    }
    Ok(())
}

async fn declared_or_there(
    pool: &ChannelPool,
    part: Part,
    declared: Result<(), Fault>,
    there: impl AsyncFnOnce(&Channel) -> Result<(), Fault>,
) -> Result<(), TopologyError> {
    match declared {
        Err(fault) if fault.is_forbidden() => match there(&*pool.get().await?).await {
            Err(absent) if absent.code() == Some(404) => Err(fault.about(part)),
            there => there.map_err(|fault| fault.about(part)),
        },
        declared => declared.map_err(|fault| fault.about(part)),
    }
}

/// What stands between the broker and `topology`, without changing anything. Bindings cannot be seen over
/// AMQP; [`declare`] sets them again, which is harmless.
///
/// # Errors
/// [`TopologyError`] when the broker cannot be asked.
pub async fn diff(pool: &ChannelPool, topology: &Topology) -> Result<Vec<Difference>, TopologyError> {
    let mut differences = Vec::new();
    for exchange in topology.exchanges() {
        let part = Part::Exchange(exchange.name.clone());
        // A passive declare tells whether it is there; declaring it again, whether it is the same. The broker
        // answers a "no" by closing the channel, so each question gets a channel of its own from the pool.
        let mut same = declare_exchange(&*pool.get().await?, &exchange, true).await;
        if same.is_ok() {
            same = declare_exchange(&*pool.get().await?, &exchange, false).await;
        }
        differences.extend(difference(part, same)?);
    }
    for queue in topology.queues() {
        let part = Part::Queue(queue.name.clone());
        let mut same = declare_queue(&*pool.get().await?, &queue, true).await;
        if same.is_ok() {
            same = declare_queue(&*pool.get().await?, &queue, false).await;
        }
        differences.extend(difference(part, same)?);
    }
    Ok(differences)
}

/// A passive declare only asks whether it is there.
async fn declare_exchange(channel: &Channel, exchange: &super::Exchange, passive: bool) -> Result<(), Fault> {
    let options = ExchangeDeclareOptions { passive, durable: true, ..Default::default() };
    let kind = match exchange.kind {
        "topic" => ExchangeKind::Topic,
        "fanout" => ExchangeKind::Fanout,
        _ => ExchangeKind::Direct,
    };
    let name = short("exchange", &exchange.name)?;
    Ok(channel.exchange_declare(name, kind, options, table(&exchange.arguments)).await?)
}

async fn bind(channel: &Channel, binding: &super::Binding) -> Result<(), Fault> {
    let queue = short("queue", &binding.queue)?;
    let exchange = short("exchange", &binding.exchange)?;
    let routing_key = short("routing key", &binding.routing_key)?;
    Ok(channel.queue_bind(queue, exchange, routing_key, QueueBindOptions::default(), FieldTable::default()).await?)
}

async fn declare_queue(channel: &Channel, queue: &super::Queue, passive: bool) -> Result<(), Fault> {
    let options = QueueDeclareOptions { passive, durable: true, ..Default::default() };
    channel.queue_declare(short("queue", &queue.name)?, options, table(&queue.arguments)).await?;
    Ok(())
}

pub(crate) fn table(arguments: &BTreeMap<&'static str, Argument>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
            Argument::Flag(flag) => AMQPValue::Boolean(*flag),
        };
        if let Ok(name) = lapin::types::ShortString::try_new(*name) {
            table.insert(name, value);
        }
    }
    table
}

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
        /// The queue.
        queue: String,
    },
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
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { part } => write!(f, "{part} is missing"),
            Self::Different { part, argument, there, wanted } => {
                write!(f, "{part} has {argument} = {there}, the topology says {wanted}")
            }
        }
    }
}

/// The topology could not be declared or compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Something is there with other arguments, which RabbitMQ cannot change in place.
    #[error(
        "{difference}; set the configuration to what is there, or let the queue run empty, delete it \
         (`rabbitmqctl delete_queue`, or the console) and apply the topology again"
    )]
    Different {
        /// What differs.
        difference: Difference,
    },
    /// It is not there, and the user may not declare it.
    #[error(
        "may not declare the {part} ({reason}): give the user permission to configure it, or let one who may run \
         `leveret topology apply` first"
    )]
    Forbidden {
        /// What was being declared.
        part: Part,
        /// What the broker said.
        reason: String,
    },
    /// The broker refused or the channel failed.
    #[error("cannot declare the {part}: {reason}")]
    Broker {
        /// What was being declared.
        part: Part,
        /// What the broker said, or how the channel failed.
        reason: String,
    },
    /// No channel could be had.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A name breaks the rules.
    #[error(transparent)]
    Name(#[from] super::InvalidName),
}

/// What one question to the broker can come back with.
enum Fault {
    Broker(lapin::Error),
    TooLong(TooLong),
}

impl From<lapin::Error> for Fault {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error)
    }
}

impl From<TooLong> for Fault {
    fn from(error: TooLong) -> Self {
        Self::TooLong(error)
    }
}

impl Fault {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Broker(error) => reply_code(error),
            Self::TooLong(_) => None,
        }
    }

    fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    fn about(self, part: Part) -> TopologyError {
        match self {
            Self::TooLong(error) => error.into(),
            Self::Broker(error) => match inequivalent(&part, &error.to_string()) {
                Some(difference) => TopologyError::Different { difference },
                None if reply_code(&error) == Some(403) => TopologyError::Forbidden { part, reason: reason(&error) },
                None => TopologyError::Broker { part, reason: reason(&error) },
            },
        }
    }
}

fn difference(part: Part, asked: Result<(), Fault>) -> Result<Option<Difference>, TopologyError> {
    match asked {
        Ok(()) => Ok(None),
        Err(Fault::Broker(error)) if reply_code(&error) == Some(404) => Ok(Some(Difference::Missing { part })),
        Err(fault) => match fault.about(part) {
            TopologyError::Different { difference } => Ok(Some(difference)),
            error => Err(error),
        },
    }
}

/// Reads RabbitMQ's sentence about an argument that is not the same, such as `inequivalent arg 'x-message-ttl'
/// for queue 'a' in vhost '/': received the value '5' of type 'signedint' but current is none`.
fn inequivalent(part: &Part, text: &str) -> Option<Difference> {
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
}
