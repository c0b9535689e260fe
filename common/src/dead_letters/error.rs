//! What can go wrong with dead letters.

use crate::{
    link::{ConnectError, PublishError},
    topology::InvalidName,
    wire::TooLong,
};

/// Dead letters could not be looked at or moved. Those that were not moved are still in their queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLettersError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The queue is not there.
    #[error("there is no queue {queue:?}: check its name, or run `leveret topology apply`")]
    NoQueue {
        /// The queue.
        queue: String,
    },
    /// The queue does not give rejected messages back to its work queue, so that a replay would drop them.
    #[error(
        "queue {queue:?} is not declared as Leveret declares it ({reason}), so that replaying could drop its \
         messages: let it run empty, delete it, and run `leveret topology apply`"
    )]
    Different {
        /// The queue.
        queue: String,
        /// What the broker says of the difference.
        reason: String,
    },
    /// The broker ended it on the way.
    #[error("the broker ended it after {settled} dead letters ({reason}): run it again, it goes on where it stopped")]
    Interrupted {
        /// How many were moved or removed until then, at most.
        settled: u64,
        /// What the broker said, or how the channel failed.
        reason: String,
    },
    /// The broker does not deliver what is in the queue.
    #[error("queue {queue:?} has messages, but the broker delivers none: look at its members in the console")]
    Stalled {
        /// The queue.
        queue: String,
    },
    /// A lost message could not be published again.
    #[error("a lost message could not be published again, it stays where it is")]
    Publish(#[source] PublishError),
    /// A name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A name breaks the rules.
    #[error(transparent)]
    Name(#[from] InvalidName),
}
