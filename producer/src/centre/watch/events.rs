//! From the queue of events into the database, many at once, and acknowledged when they are there.

use std::{sync::Arc, time::Duration};

use leveret_common::{
    event::Happening,
    link::{Attachment, Consumer, ConsumerSettings, Delivery, Handover, Link, Runner, Share},
    wire::TooLong,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{metrics::Metrics, read::Read, relay::Relay};
use crate::centre::{
    database::DatabaseError,
    store::{
        Store,
        tasks::{Applied, Task, TaskState, Told},
    },
};

/// Events in one transaction, about: then whoever else writes into SQLite has a turn.
const MOST_EVENTS: usize = 256;
/// Bytes of messages in one transaction, about.
const MOST_BYTES: usize = 4 << 20;
/// Failures of one transaction after which its messages are tried one by one, and after which one is given up, if the
/// database takes other writes.
const FAILURES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Takes events in, from one queue.
#[derive(Clone)]
pub(super) struct Intake {
    /// Reads a message of that queue.
    pub(super) read: fn(&mut Delivery) -> Read,
    pub(super) store: Store,
    pub(super) relay: Arc<Relay>,
    pub(super) metrics: Metrics,
    /// How long an event waits for company.
    pub(super) patience: Duration,
    /// To where those are told that were begun although they are to be cancelled.
    pub(super) begun: mpsc::UnboundedSender<Task>,
    pub(super) stop: CancellationToken,
}

/// A message, its events read.
struct Message {
    delivery: Delivery,
    events: Vec<Told>,
}

/// An intake at work.
pub(super) struct RunningIntake {
    pub(super) attached: watch::Receiver<Attachment>,
    pub(super) tasks: [JoinHandle<()>; 2],
}

/// Hands deliveries on, so that one can wait for them for a while and then do something else.
async fn hand_on(mut runner: Runner<Delivery>, inbox: mpsc::Sender<Delivery>) {
    while let Some((_, delivery)) = runner.next().await {
        // Dropped, it goes back to its queue.
        if inbox.send(delivery).await.is_err() {
            return;
        }
    }
}

impl Intake {
    /// Begins to take events in.
    pub(super) fn start(self, link: Link, settings: ConsumerSettings) -> Result<RunningIntake, TooLong> {
        let handover = Handover::new(1, 1);
        let consumer = Consumer::start(link, settings, handover.inlet(Share::default()))?;
        let attached = consumer.attached();
        let (outbox, inbox) = mpsc::channel(1);
        let handing = tokio::spawn(hand_on(handover.runner(), outbox));
        Ok(RunningIntake { attached, tasks: [handing, tokio::spawn(self.run(inbox, handover, consumer))] })
    }

    /// Takes events in until it is told to stop; what is not in the database by then goes back to the queue.
    async fn run(self, mut inbox: mpsc::Receiver<Delivery>, handover: Handover<Delivery>, consumer: Consumer) {
        loop {
            let first = tokio::select! {
                () = self.stop.cancelled() => break,
                first = inbox.recv() => first,
            };
            let Some(first) = first else { break };
            let messages = self.gather(first, &mut inbox).await;
            self.take_in(messages).await;
        }
        consumer.stop();
        drop((inbox, handover.close()));
        consumer.finish(Duration::from_secs(2)).await;
    }

    async fn gather(&self, first: Delivery, inbox: &mut mpsc::Receiver<Delivery>) -> Vec<Message> {
        let (mut messages, mut events, mut bytes) = (Vec::new(), 0, 0);
        let deadline = Instant::now() + self.patience;
        let mut next = Some(first);
        while let Some(mut delivery) = next {
            let read = (self.read)(&mut delivery);
            if read.unreadable > 0 {
                self.metrics.unreadable(read.unreadable);
                let (events, error) = (read.unreadable, read.error.unwrap_or_default());
                warn!(events, "events of tasks cannot be read and are dropped: {error}");
            }
            events += read.events.len();
            bytes += read.bytes;
            messages.push(Message { delivery, events: read.events });
            if events >= MOST_EVENTS || bytes >= MOST_BYTES || self.stop.is_cancelled() {
                break;
            }
            next = timeout_at(deadline, inbox.recv()).await.ok().flatten();
        }
        messages
    }

    /// Writes the events of messages and acknowledges those, however long the database is away; unless it is told to
    /// stop, upon which they go back to the queue.
    async fn take_in(&self, messages: Vec<Message>) {
        let mut failures = 0;
        loop {
            let Err(error) = self.write(&messages).await else {
                for message in messages {
                    message.delivery.ack();
                }
                if failures > 0 {
                    info!("the database takes the events of tasks again");
                }
                return;
            };
            failures += 1;
            self.metrics.failed();
            if failures == 1 || failures % 20 == 0 {
                warn!(failures, "the events of tasks cannot be written, they wait: {}", chain(&error));
            }
            if failures >= FAILURES && self.store.takes_events().await {
                return self.one_by_one(messages).await;
            }
            if !self.pause(failures).await {
                return;
            }
        }
    }

    /// Something about these messages is not to the database's liking, and the others must not wait for that.
    async fn one_by_one(&self, messages: Vec<Message>) {
        for message in messages {
            let alone = [message];
            let mut failures = 0;
            while let Err(error) = self.write(&alone).await {
                failures += 1;
                self.metrics.failed();
                if failures >= FAILURES && self.store.takes_events().await {
                    self.metrics.refused();
                    let events = alone[0].events.len();
                    warn!(events, "the database refuses the events of a message, they are dropped: {}", chain(&error));
                    break;
                }
                if !self.pause(failures).await {
                    return;
                }
            }
            let [message] = alone;
            message.delivery.ack();
        }
    }

    async fn write(&self, messages: &[Message]) -> Result<(), DatabaseError> {
        let events: Vec<&Told> = messages.iter().flat_map(|message| &message.events).collect();
        let began = Instant::now();
        let applied = self.store.apply(events.iter().copied()).await?;
        self.metrics.taken_in(messages.len(), events.len(), applied.changed.len(), began.elapsed());
        self.metrics.deaths(events.iter().filter(|told| told.worker.is_none()).count());
        if let Some(newest) = events.iter().map(|told| told.event.at).max() {
            self.metrics.lag(newest, self.store.clock().now());
        }
        let Applied { changed } = applied;
        let begun = changed.iter().filter(|task| {
            let is_start =
                |told: &Told| told.event.id == task.id && matches!(told.event.what, Happening::Started { .. });
            let is_unwanted = task.state == TaskState::Running && task.cancel_requested_at.is_some();
            is_unwanted && events.iter().copied().any(is_start)
        });
        for task in begun {
            // Whoever hears it ends with this centre.
            let _ = self.begun.send(task.clone());
        }
        self.relay.announce(changed).await;
        Ok(())
    }

    /// False when it is told to stop meanwhile.
    async fn pause(&self, failures: u32) -> bool {
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE);
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = sleep(pause) => true,
        }
    }
}

/// An error and what it comes from.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
