//! Publishes, and says what came of it.

use std::time::Duration;

use leveret_common::{
    client::Client,
    clock::{Clock, UnixMillis},
    link::{LinkState, PublishError},
    message::Message,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{centre::store::tasks::TaskRecord, plan::ScheduleName};

/// So many go together: what comes of them is known when it is known of all of them.
const TOGETHER: usize = 256;

/// What is known of a message on its way to the broker.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// What is told of its task: so far, that it is held.
    pub(crate) record: TaskRecord,
    pub(crate) due_at: UnixMillis,
    pub(crate) tries: i64,
    pub(crate) give_up_at: Option<UnixMillis>,
    /// Of a tick: its schedule.
    pub(crate) schedule: Option<ScheduleName>,
}

/// What came of a publish.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) parcel: Parcel,
    pub(crate) result: Result<(), PublishError>,
    pub(crate) at: UnixMillis,
    pub(crate) took: Duration,
}

/// Publishes from memory what has been written down.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    client: Client,
    clock: Clock,
    outcomes: mpsc::UnboundedSender<Vec<Outcome>>,
    on_their_way: TaskTracker,
}

impl Dispatcher {
    pub(crate) fn new(client: Client, clock: Clock) -> (Self, mpsc::UnboundedReceiver<Vec<Outcome>>) {
        let (outcomes, receiver) = mpsc::unbounded_channel();
        (Self { client, clock, outcomes, on_their_way: TaskTracker::new() }, receiver)
    }

    /// Whether the broker takes anything at the moment.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.client.link().state(), LinkState::Up(live) if live.blocked.borrow().is_none())
    }

    /// Sends these on their way.
    pub(crate) fn send(&self, parcels: Vec<(Parcel, Message)>) {
        let mut parcels = parcels.into_iter();
        loop {
            let (batch, messages): (Vec<_>, Vec<_>) = parcels.by_ref().take(TOGETHER).unzip();
            if batch.is_empty() {
                return;
            }
            let (client, clock, outcomes) = (self.client.clone(), self.clock.clone(), self.outcomes.clone());
            self.on_their_way.spawn(async move {
                let sent = Instant::now();
                let results = client.publish_many(messages).await;
                let (at, took) = (clock.now(), sent.elapsed());
                let outcome =
                    |(parcel, result): (_, Result<_, _>)| Outcome { parcel, result: result.map(drop), at, took };
                // Whoever wanted to know has stopped waiting.
                drop(outcomes.send(batch.into_iter().zip(results).map(outcome).collect()));
            });
        }
    }
}

/// Whether the failure is the broker's or the connection's, not the message's.
pub(crate) fn is_passing(error: &PublishError) -> bool {
    !matches!(
        error,
        PublishError::Invalid(_)
            | PublishError::Unacceptable { .. }
            | PublishError::Unroutable { .. }
            | PublishError::Refused
    )
}
