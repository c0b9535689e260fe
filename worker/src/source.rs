//! One queue that a pool consumes from, and whether it does at present.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use leveret_common::{
    link::{Attachment, Consumer, ConsumerSettings, Delivery, Inlet, Link},
    wire::TooLong,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::lane::Lane;

/// A subscription that can be paused and resumed.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) lane: Arc<Lane>,
    link: Link,
    settings: ConsumerSettings,
    pub(crate) inlet: Inlet<Delivery>,
    state: Mutex<State>,
    /// Follows whichever consumer there is.
    attachment: watch::Sender<watch::Receiver<Attachment>>,
}

#[derive(Debug)]
struct State {
    /// `None` while it is paused.
    consumer: Option<Consumer>,
    /// Those that take no more and end once all that they delivered has been settled.
    ending: Vec<Consumer>,
    paused: Option<String>,
    /// No more is consumed, whatever anybody says.
    stopped: bool,
}

impl Source {
    /// Begins to consume.
    pub(crate) fn start(
        lane: Arc<Lane>,
        link: Link,
        settings: ConsumerSettings,
        inlet: Inlet<Delivery>,
        paused: Option<String>,
    ) -> Result<Self, TooLong> {
        // Checked even if it is paused, so that a name that does not fit is told at the start.
        let consumer = Consumer::start(link.clone(), settings.clone(), inlet.clone())?;
        let attachment = watch::Sender::new(consumer.attached());
        let state = Mutex::new(State { consumer: Some(consumer), ending: Vec::new(), paused: None, stopped: false });
        let source = Self { lane, link, settings, inlet, state, attachment };
        if let Some(reason) = paused {
            source.pause(reason);
        }
        Ok(source)
    }

    /// The name of the queue at the broker.
    pub(crate) fn queue(&self) -> &str {
        &self.settings.queue
    }

    /// The most deliveries that may be here unsettled.
    pub(crate) fn prefetch(&self) -> u16 {
        self.settings.prefetch
    }

    /// Why it is paused, if it is.
    pub(crate) fn paused(&self) -> Option<String> {
        self.state.lock().paused.clone()
    }

    /// Whether the broker delivers to us.
    pub(crate) fn attachment(&self) -> Attachment {
        self.attachment.borrow().borrow().clone()
    }

    /// Follows whether the broker delivers to the consumer that there is now.
    pub(crate) fn follow_attachment(&self) -> watch::Receiver<Attachment> {
        self.attachment.borrow().clone()
    }

    /// Takes no more from the queue, and gives back what no runner has taken. What runs goes on.
    pub(crate) fn pause(&self, reason: String) {
        let mut state = self.state.lock();
        if let Some(consumer) = state.consumer.take() {
            info!(queue = self.queue(), reason, "paused");
            consumer.stop();
            self.inlet.clear().into_iter().for_each(Delivery::give_back);
            state.ending.retain(|consumer| !consumer.has_ended());
            state.ending.push(consumer);
        }
        state.paused = Some(reason);
    }

    /// Consumes again. False when it was not paused.
    pub(crate) fn resume(&self) -> bool {
        let mut state = self.state.lock();
        if state.paused.take().is_none() || state.stopped {
            return false;
        }
        match Consumer::start(self.link.clone(), self.settings.clone(), self.inlet.clone()) {
            Ok(consumer) => {
                info!(queue = self.queue(), "resumed");
                self.attachment.send_replace(consumer.attached());
                state.consumer = Some(consumer);
            }
            // The names fitted when it was started.
            Err(error) => warn!(queue = self.queue(), "cannot consume again: {error}"),
        }
        true
    }

    /// Takes no more, for good.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        if let Some(consumer) = &state.consumer {
            consumer.stop();
        }
    }

    /// Waits until the broker has been told of all that was settled.
    pub(crate) async fn finish(&self) {
        self.stop();
        let consumers: Vec<_> = {
            let mut state = self.state.lock();
            let last = state.consumer.take();
            state.ending.drain(..).chain(last).collect()
        };
        join_all(consumers.into_iter().map(|consumer| consumer.finish(Duration::from_secs(5)))).await;
    }
}
