//! A broker in the memory of the test: no RabbitMQ, and time stands still until the test moves it.
//!
//! It speaks AMQP on a port of this machine, so that clients and workers are the real ones, down to the bytes they
//! send. What it does with a message is what RabbitMQ does, and one list of scenarios is run against both to keep it
//! so. `docs/testing.md` shows how to use it.

mod broker;
mod channel;
mod death;
mod deliveries;
mod exchange;
mod fault;
mod frames;
mod journal;
mod methods;
mod one;
mod published;
mod queue;
mod report;
mod session;
mod state;
mod table;
mod worker;

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use broker::MemoryBroker;
pub use one::{TestTask, Worked};
pub use report::{End, Handled, Report};
pub use worker::TestWorker;

/// A connection, and the number of a channel on it.
type ChannelKey = (u64, u16);

/// What the handles of a broker and the connections to it share.
#[derive(Debug)]
struct Shared {
    state: Mutex<state::State>,
    /// Something has changed that somebody may wait for.
    changed: Arc<Notify>,
    /// Cuts the connections that there are.
    cut: Mutex<CancellationToken>,
}

impl Shared {
    /// All that the broker holds, with what was due to expire moved on.
    fn state(&self) -> MutexGuard<'_, state::State> {
        let mut state = self.state.lock();
        state.expire();
        state
    }
}
