//! The topology value against a broker: declare it, or see what differs.

use std::collections::BTreeMap;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tracing::debug;

use super::{
    Argument, Binding, Difference, Exchange, Part, Queue, QueueName, Target, Topology, TopologyError, error::Fault,
    is_sharded, present_shards, says_absent,
};
use crate::{
    link::{ChannelPool, reply_code},
    wire::{TooLong, short},
};

/// Declares everything in `topology` that is not there yet. What is there already, with the same arguments,
/// stays as it is; nothing is ever deleted. A user that may not declare takes what is there as it is.
///
/// A queue that is in shards at the broker keeps the number that it has there: a binding more or less would send keys
/// to other shards while tasks of theirs still wait. Only [`reshard`](crate::shards::Reshard) changes it.
///
/// # Errors
/// [`TopologyError::Different`] when a queue or exchange is there with other arguments,
/// [`TopologyError::Forbidden`] when it is not there and the user may not declare it, [`TopologyError::Sharded`] and
/// [`TopologyError::Whole`] when a queue is in shards and was not to be, or the other way round.
pub async fn declare(pool: &ChannelPool, topology: &Topology) -> Result<(), TopologyError> {
    let (present, topology) = as_at_broker(pool, topology.clone()).await?;
    // The front of a queue in shards comes last: where it is, all that is behind it is ready.
    let fronts: Vec<_> = sharded(&topology).map(|(name, _)| name.shards()).collect();
    let is_front =
        |binding: &Binding| fronts.iter().any(|front| *front == binding.exchange || *front == binding.target.name());
    let (front, behind): (Vec<_>, Vec<_>) =
        topology.exchanges().into_iter().partition(|exchange| fronts.contains(&exchange.name));
    let is_ring = |name: &String| present.iter().any(|queue| [queue.keyed(), queue.keyless()].contains(name));
    for exchange in &behind {
        declare_one_exchange(pool, exchange, is_ring(&exchange.name)).await?;
    }
    for queue in topology.queues() {
        let part = Part::Queue(queue.name.clone());
        let declared = declare_queue(&*pool.get().await?, &queue, false).await;
        let there = async |channel: &Channel| declare_queue(channel, &queue, true).await;
        declared_or_there(pool, part, declared, there).await?;
    }
    let (front_bindings, bindings): (Vec<_>, Vec<_>) = topology.bindings().into_iter().partition(is_front);
    let (_, bindings): (Vec<_>, Vec<_>) = bindings.into_iter().partition(|binding| is_ring(&binding.exchange));
    bind_all(pool, &bindings).await?;
    for exchange in &front {
        declare_one_exchange(pool, exchange, false).await?;
    }
    bind_all(pool, &front_bindings).await
}

/// The topology with as many shards as the broker has of the queues that are there, and the names of those.
async fn as_at_broker(pool: &ChannelPool, mut topology: Topology) -> Result<(Vec<QueueName>, Topology), TopologyError> {
    let mut present = Vec::new();
    let queues: Vec<_> = topology.work_queues().map(|(name, settings)| (name.clone(), settings.shards)).collect();
    for (queue, shards) in queues {
        match (shards, is_sharded(pool, &queue).await?) {
            (None, true) => return Err(TopologyError::Sharded { queue }),
            (Some(shards), true) => {
                let there = present_shards(pool, &queue, shards).await?;
                // What is missing below the last one comes back; without a binding nothing goes there.
                topology = topology.with_shards(&queue, there.last().map_or(shards, |last| last + 1));
                present.push(queue);
            }
            (Some(_), false) if queue_is_there(pool, queue.as_str()).await? => {
                return Err(TopologyError::Whole { queue });
            }
            (_, false) => {}
        }
    }
    Ok((present, topology))
}

fn sharded(topology: &Topology) -> impl Iterator<Item = (&QueueName, u16)> {
    topology.work_queues().filter_map(|(name, settings)| Some((name, settings.shards?)))
}

/// One that is known to be there is only asked for: were its type gone from the broker since, declaring it would end
/// the connection.
async fn declare_one_exchange(pool: &ChannelPool, exchange: &Exchange, known: bool) -> Result<(), TopologyError> {
    let part = Part::Exchange(exchange.name.clone());
    let declared = declare_exchange(&*pool.get().await?, exchange, known).await;
    let there = async |channel: &Channel| declare_exchange(channel, exchange, true).await;
    declared_or_there(pool, part, declared, there).await
}

async fn bind_all(pool: &ChannelPool, bindings: &[Binding]) -> Result<(), TopologyError> {
    for binding in bindings {
        let part = Part::of(binding);
        match bind(&*pool.get().await?, binding).await {
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
    let mut topology = topology.clone();
    let queues: Vec<_> = topology.work_queues().map(|(name, settings)| (name.clone(), settings.shards)).collect();
    for (queue, shards) in queues {
        let there = match (shards, is_sharded(pool, &queue).await?) {
            (_, true) => Some(present_shards(pool, &queue, shards.unwrap_or(0)).await?.len()),
            (Some(_), false) if queue_is_there(pool, queue.as_str()).await? => None,
            (_, false) => continue,
        };
        let there = there.and_then(|shards| u16::try_from(shards).ok());
        if there != shards {
            differences.push(Difference::Shards { queue: queue.to_string(), there, wanted: shards });
            // The rest of it is no difference of its own.
            topology = topology.without(&queue);
        }
    }
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

/// Whether there is an exchange of this name.
pub(super) async fn exchange_is_there(pool: &ChannelPool, name: &str) -> Result<bool, TopologyError> {
    let exchange = Exchange { name: name.to_owned(), kind: "direct", arguments: BTreeMap::new() };
    present(Part::Exchange(name.to_owned()), declare_exchange(&*pool.get().await?, &exchange, true).await)
}

/// Whether there is a queue of this name.
pub(crate) async fn queue_is_there(pool: &ChannelPool, name: &str) -> Result<bool, TopologyError> {
    let queue = Queue { name: name.to_owned(), arguments: BTreeMap::new() };
    present(Part::Queue(name.to_owned()), declare_queue(&*pool.get().await?, &queue, true).await)
}

fn present(part: Part, asked: Result<(), Fault>) -> Result<bool, TopologyError> {
    match asked {
        Ok(()) => Ok(true),
        Err(Fault::Broker(error)) if says_absent(&error) => Ok(false),
        Err(fault) => Err(fault.about(part)),
    }
}

/// A passive declare only asks whether it is there.
async fn declare_exchange(channel: &Channel, exchange: &Exchange, passive: bool) -> Result<(), Fault> {
    let options = ExchangeDeclareOptions { passive, durable: true, ..Default::default() };
    let kind = match exchange.kind {
        "topic" => ExchangeKind::Topic,
        "fanout" => ExchangeKind::Fanout,
        "headers" => ExchangeKind::Headers,
        "direct" => ExchangeKind::Direct,
        other => ExchangeKind::Custom(other.to_owned()),
    };
    let name = short("exchange", &exchange.name)?;
    Ok(channel.exchange_declare(name, kind, options, table(&exchange.arguments)).await?)
}

pub(crate) async fn bind(channel: &Channel, binding: &Binding) -> Result<(), Fault> {
    let (source, target, routing_key) = ends(binding)?;
    let arguments = table(&binding.arguments);
    match binding.target {
        Target::Queue(_) => {
            channel.queue_bind(target, source, routing_key, QueueBindOptions::default(), arguments).await?;
        }
        Target::Exchange(_) => {
            channel.exchange_bind(target, source, routing_key, ExchangeBindOptions::default(), arguments).await?;
        }
    }
    Ok(())
}

/// Takes the binding of a queue away, if it is there.
pub(crate) async fn unbind(channel: &Channel, binding: &Binding) -> Result<(), Fault> {
    let (source, target, routing_key) = ends(binding)?;
    let arguments = table(&binding.arguments);
    Ok(channel.queue_unbind(target, source, routing_key, arguments).await?)
}

fn ends(binding: &Binding) -> Result<(ShortString, ShortString, ShortString), TooLong> {
    let routing_key = if binding.routing_key.is_empty() {
        ShortString::default()
    } else {
        short("routing key", &binding.routing_key)?
    };
    Ok((short("exchange", &binding.exchange)?, short(binding.target.kind(), binding.target.name())?, routing_key))
}

pub(crate) async fn declare_queue(channel: &Channel, queue: &Queue, passive: bool) -> Result<(), Fault> {
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
            Argument::Any => AMQPValue::Void,
        };
        if let Ok(name) = ShortString::try_new(*name) {
            table.insert(name, value);
        }
    }
    table
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
