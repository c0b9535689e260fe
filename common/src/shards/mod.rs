//! Queues in shards: how their number changes while they are at work, and which worker has which of them.
//!
//! To go from 4 shards to 5, the fifth gets a *gate* as its very first message, and is then bound: from that one step on
//! the tasks of some keys go there. Behind it each of the older shards gets a *barrier*. Whoever comes to a barrier has
//! done all that was published to that shard before the step, and lowers the barrier's *flag*, a queue that exists for
//! no other reason. Whoever holds the gate lets nothing pass until all flags are down. So a task runs after all earlier
//! ones of its key, wherever they lie; and as each message goes to one shard at any time, none is lost and none doubled.
//!
//! To go back to 4, the gates go into the four before the fifth is unbound, and the barrier into the fifth after it.

mod assign;
mod flags;
mod reshard;

pub use assign::owners;
pub use flags::{Flags, FlagsError};
pub use reshard::{Reshard, ReshardError, Step};

use serde::{Deserialize, Serialize};

use crate::topology::QueueName;

/// The task name of a gate.
pub const GATE: &str = "leveret.gate";
/// The task name of a barrier.
pub const BARRIER: &str = "leveret.barrier";

/// The arguments of a gate: nothing passes it until these flags are down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// The names of the flags.
    pub flags: Vec<String>,
}

/// The arguments of a barrier: whoever comes to it lowers this flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// The name of the flag.
    pub flag: String,
}

impl QueueName {
    /// The name of a flag of this queue.
    pub fn flag(&self, name: &str) -> String {
        format!("{self}.flag.{name}")
    }

    /// Whether this is the name of a flag of this queue: no other queue is ever lowered.
    pub fn has_flag(&self, name: &str) -> bool {
        name.strip_prefix(self.as_str()).is_some_and(|rest| rest.starts_with(".flag."))
    }
}
