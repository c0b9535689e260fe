//! Copies of dead letters for the scheduling centre, in such a way that they are never more than copies.
//!
//! ```text
//!                  mail ┌─► mail.dead ◄╌╌╌╌╌╌╌╌╌╌ no message takes this, it only has to be there
//! leveret.dead ─────────┤                       ╎
//!                  mail └─► leveret.centre.deaths.mail ──► leveret.centre.deaths (its alternate exchange) ─► the queue
//! ```
//!
//! `leveret.dead` has an alternate exchange, `leveret.lost`, which takes dead letters whose queue `<q>.dead` is gone. A queue
//! of ours that is bound to `leveret.dead` would be a place to go to: such a letter would be there alone, and lost with it.
//! So between the two is an exchange for each work queue, which lives only as long as `<q>.dead` does: it deletes itself
//! with the last of its bindings, and the only one that it has leads there, with a key that no letter has. All letters
//! take its alternate exchange, which is no binding. When `<q>.dead` is deleted, the broker deletes in one step that
//! binding, this exchange, and the way that led to it.

use std::collections::BTreeMap;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, ExchangeDeleteOptions},
};

use super::{
    Argument, Binding, Names, Part, QueueName, Target, TopologyError, bind,
    declare::{exchange_is_there, table},
    error::Fault,
    queue_is_there, says_absent, text,
};
use crate::{link::ChannelPool, wire::short};

/// What has come of [`copy_deaths`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The dead letters of the queue are copied.
    Yes,
    /// There is no dead-letter queue to copy them from.
    NoQueue,
}

/// Sees to it that dead letters of `queue` are copied to the queue of [`Topology::deaths`](super::Topology::deaths), which
/// has to be there, as long as their own queue is there. `known` says that this has been done before: then it is only
/// looked whether it still is so.
///
/// # Errors
/// [`TopologyError::Forbidden`] when the user may not do this, and others when the broker cannot be asked.
pub async fn copy_deaths(
    pool: &ChannelPool,
    names: &Names,
    queue: &QueueName,
    known: bool,
) -> Result<Copied, TopologyError> {
    let way = names.deaths_of(queue);
    if known && exchange_is_there(pool, &way).await? {
        return Ok(Copied::Yes);
    }
    if !queue_is_there(pool, &queue.dead()).await? {
        return Ok(Copied::NoQueue);
    }
    declare(&*pool.get().await?, names, &way).await.map_err(|fault| fault.about(Part::Exchange(way.clone())))?;
    let binding = |exchange: &str, target, routing_key: &str| Binding {
        exchange: exchange.to_owned(),
        target,
        routing_key: routing_key.to_owned(),
        arguments: BTreeMap::new(),
    };
    // In this order: what leads to the exchange comes last, when it already hangs on the queue. Without its own way to
    // that queue a letter would have none but ours.
    let dead = || Target::Queue(queue.dead());
    for binding in [
        binding(&way, dead(), &queue.dead()),
        binding(names.dead(), dead(), queue.as_str()),
        binding(names.dead(), Target::Exchange(way.clone()), queue.as_str()),
    ] {
        match bind(&*pool.get().await?, &binding).await {
            Ok(()) => {}
            // The queue was deleted just now. The exchange went with it, unless it did not hang on it yet.
            Err(Fault::Broker(error)) if says_absent(&error) => {
                delete_unused(pool, &way).await?;
                return Ok(Copied::NoQueue);
            }
            Err(fault) => return Err(fault.about(Part::of(&binding))),
        }
    }
    Ok(Copied::Yes)
}

async fn declare(channel: &Channel, names: &Names, way: &str) -> Result<(), Fault> {
    let options = ExchangeDeclareOptions { durable: true, auto_delete: true, ..Default::default() };
    let arguments: BTreeMap<_, Argument> = BTreeMap::from([("alternate-exchange", text(names.deaths()))]);
    Ok(channel.exchange_declare(short("exchange", way)?, ExchangeKind::Direct, options, table(&arguments)).await?)
}

/// Deletes an exchange that leads to no queue.
async fn delete_unused(pool: &ChannelPool, way: &str) -> Result<(), TopologyError> {
    let options = ExchangeDeleteOptions { if_unused: true, ..Default::default() };
    let deleted = pool.get().await?.exchange_delete(short("exchange", way)?, options).await;
    // Another centre may use it: then it hangs on a queue that is there.
    deleted.or_else(|error| match crate::link::reply_code(&error) {
        Some(404 | 406) => Ok(()),
        _ => Err(Fault::Broker(error).about(Part::Exchange(way.to_owned()))),
    })
}
