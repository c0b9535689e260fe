//! One queue that a pool consumes from, and whether it does at present.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use leveret_common::{
    link::{Attachment, Consumer, ConsumerSettings, Delivery, Inlet, Link},
    topology::QueueName,
    wire::TooLong,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{lane::Lane, shards::Shards};

/// How long the broker is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Consuming from one queue, which can be paused and resumed.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) lane: Arc<Lane>,
    /// Its name at the broker.
    queue: String,
    prefetch: AtomicU16,
    pause: Mutex<PauseState>,
    way: Way,
}

#[derive(Debug, Default)]
struct PauseState {
    reason: Option<String>,
    /// No more is consumed, whatever anybody says.
    stopped: bool,
}

/// How it consumes.
#[derive(Debug)]
enum Way {
    Whole(Whole),
    Shards(Mutex<Option<Shards>>, watch::Receiver<Attachment>),
}

/// A queue that is one.
#[derive(Debug)]
struct Whole {
    link: Link,
    settings: Mutex<ConsumerSettings>,
    inlet: Inlet<Delivery>,
    consumers: Mutex<Consumers>,
    /// Follows whichever consumer there is.
    attachment: watch::Sender<watch::Receiver<Attachment>>,
}

#[derive(Debug)]
struct Consumers {
    /// `None` while it is paused.
    now: Option<Consumer>,
    /// Those that take no more and end once all that they delivered has been settled.
    ending: Vec<Consumer>,
}

impl Source {
    /// Begins to consume from a queue that is one.
    pub(crate) fn whole(
        lane: Arc<Lane>,
        link: Link,
        settings: ConsumerSettings,
        inlet: Inlet<Delivery>,
        paused: Option<String>,
    ) -> Result<Self, TooLong> {
        let (queue, prefetch) = (settings.queue.clone(), settings.prefetch);
        let consumer =
            if paused.is_none() { Some(Consumer::start(link.clone(), settings.clone(), inlet.clone())?) } else { None };
        let detached = || watch::channel(Attachment::Detached(None)).1;
        let attachment = watch::Sender::new(consumer.as_ref().map_or_else(detached, Consumer::attached));
        let consumers = Mutex::new(Consumers { now: consumer, ending: Vec::new() });
        let way = Way::Whole(Whole { link, settings: Mutex::new(settings), inlet, consumers, attachment });
        let prefetch = AtomicU16::new(prefetch);
        Ok(Self { lane, queue, prefetch, pause: Mutex::new(PauseState { reason: paused, stopped: false }), way })
    }

    /// Consumes from a queue in shards.
    pub(crate) fn shards(
        lane: Arc<Lane>,
        queue: &QueueName,
        prefetch: u16,
        shards: Shards,
        paused: Option<String>,
    ) -> Self {
        let attached = shards.attached();
        let way = Way::Shards(Mutex::new(Some(shards)), attached);
        let pause = Mutex::new(PauseState { reason: paused, stopped: false });
        Self { lane, queue: queue.to_string(), prefetch: AtomicU16::new(prefetch), pause, way }
    }

    /// The name of the queue at the broker.
    pub(crate) fn queue(&self) -> &str {
        &self.queue
    }

    /// The most deliveries that may be here unsettled; of a queue in shards, for each of them.
    pub(crate) fn prefetch(&self) -> u16 {
        self.prefetch.load(Ordering::Relaxed)
    }

    /// Changes how many deliveries may be here unsettled: by a new subscription, for the broker knows no other way.
    /// Shards keep theirs, which is small.
    pub(crate) fn set_prefetch(&self, prefetch: u16) {
        let pause = self.pause.lock();
        if let Way::Whole(whole) = &self.way {
            self.prefetch.store(prefetch, Ordering::Relaxed);
            whole.settings.lock().prefetch = prefetch;
            if pause.reason.is_none() && !pause.stopped {
                whole.pause();
                whole.resume();
            }
        }
    }

    /// Why it is paused, if it is.
    pub(crate) fn paused(&self) -> Option<String> {
        self.pause.lock().reason.clone()
    }

    /// Whether the broker delivers to us.
    pub(crate) fn attachment(&self) -> Attachment {
        self.follow_attachment().borrow().clone()
    }

    /// Follows whether the broker delivers to the consumer that there is now.
    pub(crate) fn follow_attachment(&self) -> watch::Receiver<Attachment> {
        match &self.way {
            Way::Whole(whole) => whole.attachment.borrow().clone(),
            Way::Shards(_, attached) => attached.clone(),
        }
    }

    /// Takes no more from the queue, and gives back what no runner has taken. What runs goes on.
    pub(crate) fn pause(&self, reason: String) {
        let mut pause = self.pause.lock();
        if pause.reason.is_none() {
            info!(queue = self.queue(), reason, "paused");
            match &self.way {
                Way::Whole(whole) => whole.pause(),
                Way::Shards(shards, _) => shards.lock().iter().for_each(|shards| shards.pause(true)),
            }
        }
        pause.reason = Some(reason);
    }

    /// Consumes again, if it was paused.
    pub(crate) fn resume(&self) {
        let mut pause = self.pause.lock();
        if pause.reason.take().is_none() || pause.stopped {
            return;
        }
        info!(queue = self.queue(), "resumed");
        match &self.way {
            Way::Whole(whole) => whole.resume(),
            Way::Shards(shards, _) => shards.lock().iter().for_each(|shards| shards.pause(false)),
        }
    }

    /// Takes no more, for good.
    pub(crate) fn stop(&self) {
        self.pause.lock().stopped = true;
        match &self.way {
            Way::Whole(whole) => whole.consumers.lock().now.iter().for_each(Consumer::stop),
            Way::Shards(shards, _) => shards.lock().iter().for_each(Shards::stop),
        }
    }

    /// Waits until the broker has been told of all that was settled.
    pub(crate) async fn finish(&self) {
        self.stop();
        match &self.way {
            Way::Whole(whole) => {
                let consumers: Vec<_> = {
                    let mut consumers = whole.consumers.lock();
                    let last = consumers.now.take();
                    consumers.ending.drain(..).chain(last).collect()
                };
                join_all(consumers.into_iter().map(|consumer| consumer.finish(PATIENCE))).await;
            }
            Way::Shards(shards, _) => {
                let shards = shards.lock().take();
                if let Some(shards) = shards {
                    shards.finish().await;
                }
            }
        }
    }
}

impl Whole {
    fn pause(&self) {
        let mut consumers = self.consumers.lock();
        if let Some(consumer) = consumers.now.take() {
            consumer.stop();
            self.inlet.clear().into_iter().for_each(Delivery::give_back);
            consumers.ending.retain(|consumer| !consumer.has_ended());
            consumers.ending.push(consumer);
        }
    }

    fn resume(&self) {
        let settings = self.settings.lock().clone();
        match Consumer::start(self.link.clone(), settings, self.inlet.clone()) {
            Ok(consumer) => {
                self.attachment.send_replace(consumer.attached());
                self.consumers.lock().now = Some(consumer);
            }
            // The names were measured when the worker was built.
            Err(error) => warn!("cannot consume again: {error}"),
        }
    }
}
