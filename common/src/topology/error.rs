//! What can go wrong with a topology.

use super::{Difference, InvalidName, Part, QueueName, difference::inequivalent};
use crate::{
    link::{PoolError, reason, reply_code},
    wire::TooLong,
};

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
    /// The queue is in shards at the broker, and the topology does not say so. A queue beside them would get each of
    /// their tasks once more.
    #[error("queue \"{queue}\" is in shards at the broker: write `shards` into its table [queues.{queue}]")]
    Sharded {
        /// The queue.
        queue: QueueName,
    },
    /// The queue is to be in shards, and there is one of its name, which would get each of their tasks once more.
    #[error(
        "queue \"{queue}\" is not in shards at the broker: remove `shards` from its table, or let the queue run empty, \
         delete it and start again"
    )]
    Whole {
        /// The queue.
        queue: QueueName,
    },
    /// The broker does not know the type of an exchange. It has closed the connection.
    #[error(
        "the broker cannot have queues in shards, for it has no exchanges of the type x-consistent-hash: run \
         `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` on each of its nodes"
    )]
    NoConsistentHash,
    /// No channel could be had.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A name breaks the rules.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

/// What one question to the broker can come back with.
#[derive(Debug)]
pub(crate) enum Fault {
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
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Broker(error) => reply_code(error),
            Self::TooLong(_) => None,
        }
    }

    pub(super) fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    pub(crate) fn about(self, part: Part) -> TopologyError {
        match self {
            Self::TooLong(error) => error.into(),
            Self::Broker(error) => match inequivalent(&part, &error.to_string()) {
                Some(difference) => TopologyError::Different { difference },
                None if reply_code(&error) == Some(403) => TopologyError::Forbidden { part, reason: reason(&error) },
                None if reply_code(&error) == Some(503) && error.to_string().contains("x-consistent-hash") => {
                    TopologyError::NoConsistentHash
                }
                None => TopologyError::Broker { part, reason: reason(&error) },
            },
        }
    }
}
