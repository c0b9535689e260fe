//! Settling deliveries of one channel: acknowledgements are gathered and sent as few frames, the rest at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicCancelOptions, BasicNackOptions, BasicRejectOptions},
    types::{DeliveryTag, ShortString},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::window::{BATCH, Frame, Verdict, Window};
use crate::metrics::QueueMetrics;

/// How long an acknowledgement may wait for company.
const PATIENCE: Duration = Duration::from_millis(1);

/// Settles the deliveries of one channel; on a channel that is gone it does nothing, for the broker gives
/// those deliveries out again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Settler(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    window: Mutex<Window>,
    /// There is something to send: the first of a batch, a full batch, or a verdict that does not wait.
    work: Notify,
    /// Everything has been settled and sent.
    idle: Notify,
    /// Something has been sent.
    flushed: Notify,
    gone: AtomicBool,
    /// The consumer that is to be cancelled in the moment in which the next task is done.
    leaving: Mutex<Option<ShortString>>,
    released: AtomicBool,
    metrics: Arc<QueueMetrics>,
}

impl Settler {
    pub(super) fn new(metrics: Arc<QueueMetrics>) -> Self {
        Self(Arc::new(Shared {
            window: Mutex::default(),
            work: Notify::new(),
            idle: Notify::new(),
            flushed: Notify::new(),
            gone: AtomicBool::new(false),
            leaving: Mutex::default(),
            released: AtomicBool::new(false),
            metrics,
        }))
    }

    /// Takes note of a delivery. They must be told in the order of their tags.
    pub(super) fn delivered(&self, tag: DeliveryTag) {
        self.0.window.lock().delivered(tag);
    }

    /// The channel is gone: nothing is sent any more.
    pub(super) fn abandon(&self) {
        self.0.gone.store(true, Ordering::Release);
        self.0.work.notify_one();
        self.0.idle.notify_waiters();
        self.0.flushed.notify_waiters();
    }

    /// Whether the channel is gone, so that its deliveries will come again.
    pub fn is_gone(&self) -> bool {
        self.0.gone.load(Ordering::Acquire)
    }

    pub(super) fn settle(&self, tag: DeliveryTag, verdict: Verdict) {
        if self.is_gone() {
            self.0.metrics.stale_settlement();
            return;
        }
        let urgent = {
            let mut window = self.0.window.lock();
            let waiting = window.finish(tag, verdict);
            waiting == 1 || waiting == BATCH || verdict != Verdict::Ack
        };
        if urgent {
            self.0.work.notify_one();
        }
    }

    /// Waits until every delivery has been settled and the broker been told, or the channel is gone.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.is_gone() || self.0.window.lock().is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// Waits until everything delivered before this one is settled and the broker was told, or the channel is gone.
    pub(super) async fn settled_before(&self, tag: DeliveryTag) {
        loop {
            let flushed = self.0.flushed.notified();
            if self.is_gone() || self.0.window.lock().has_settled_before(tag) {
                return;
            }
            flushed.await;
        }
    }

    /// Cancels the consumer with this tag in the moment in which the next task is done, for one that has a single
    /// delivery at a time. Before, the broker could give more; after, the next consumer would overtake what is here.
    pub(super) fn release(&self, tag: ShortString) {
        *self.0.leaving.lock() = Some(tag);
    }

    pub(super) fn is_released(&self) -> bool {
        self.0.released.load(Ordering::Acquire)
    }

    /// Waits until that has happened.
    pub(super) async fn released(&self) {
        loop {
            let flushed = self.0.flushed.notified();
            if self.is_released() {
                return;
            }
            flushed.await;
        }
    }

    /// Sends what is settled, until the channel is gone.
    pub(super) async fn run(&self, channel: &Channel) -> lapin::Result<()> {
        loop {
            let (late, urgent) = {
                let window = self.0.window.lock();
                (window.is_late(), window.is_urgent())
            };
            if !late && !urgent {
                self.0.work.notified().await;
            }
            if !self.0.window.lock().is_urgent() {
                // The first of a batch: wait for others, but not for long.
                let _ = tokio::time::timeout(PATIENCE, self.0.work.notified()).await;
            }
            if self.is_gone() {
                return Ok(());
            }
            let (frames, settled) = self.0.window.lock().take_frames();
            if !frames.is_empty() {
                self.0.metrics.flushed(settled);
                // What goes back to the queue comes to us again: only without it is nothing left here.
                let done = frames.iter().all(|frame| matches!(frame.verdict, Verdict::Ack | Verdict::DeadLetter));
                let leaving = if done { self.0.leaving.lock().take() } else { None };
                if let Some(tag) = &leaving {
                    channel.basic_cancel(tag.clone(), BasicCancelOptions { nowait: true }).await?;
                }
                // Polled together, they are written to the socket in one piece, in this order.
                for sent in join_all(frames.into_iter().map(|frame| frame.send(channel))).await {
                    sent?;
                }
                self.0.window.lock().written();
                if leaving.is_some() {
                    self.0.released.store(true, Ordering::Release);
                }
                self.0.flushed.notify_waiters();
            }
            if self.0.window.lock().is_idle() {
                self.0.idle.notify_waiters();
            }
        }
    }
}

impl Frame {
    async fn send(self, channel: &Channel) -> lapin::Result<()> {
        match self.verdict {
            Verdict::Ack => channel.basic_ack(self.tag, BasicAckOptions { multiple: self.multiple }).await,
            Verdict::GiveBack => {
                channel.basic_nack(self.tag, BasicNackOptions { multiple: false, requeue: true }).await
            }
            Verdict::Requeue => channel.basic_reject(self.tag, BasicRejectOptions { requeue: true }).await,
            Verdict::DeadLetter => channel.basic_reject(self.tag, BasicRejectOptions { requeue: false }).await,
        }
    }
}
