//! Consuming from one queue: a channel of its own, subscribed again whenever the broker, the channel or the
//! connection ends the subscription.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    Channel,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    ChannelPool, Delivery, Inlet, Link, Live, Settler, delivery::Receipt, error::reason, error::reply_code, runtime,
    supervisor::own, window::Verdict,
};
use crate::{
    metrics::{Instruments, QueueMetrics},
    topology::{Topology, declare},
    wire::{TooLong, short},
};

/// What to consume and how.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// The queue.
    pub queue: String,
    /// How many deliveries may be here without having been settled.
    pub prefetch: u16,
    /// Start of the consumer tag, shown in the console; a number is added, for each subscription has a tag of
    /// its own.
    pub tag: String,
    /// What is declared before each subscription, so that a queue which someone deleted comes back.
    pub topology: Option<(ChannelPool, Arc<Topology>)>,
    /// Whether what it has may not be overtaken by what the broker gives to the next consumer, as in a shard with an
    /// order. It then has one delivery at a time, whatever the prefetch. See [`Consumer::release`].
    pub ordered: bool,
}

/// Whether the broker delivers to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attachment {
    /// It does.
    Attached,
    /// It does not; why, once something has stood in the way. It is tried again.
    Detached(Option<String>),
    /// The user may not consume from the queue, in the broker's words. It is tried again, for permissions change.
    Forbidden(String),
}

/// A subscription to a queue that lasts until it is stopped.
#[derive(Debug)]
pub struct Consumer {
    stop: CancellationToken,
    release: CancellationToken,
    finish: CancellationToken,
    attached: watch::Receiver<Attachment>,
    task: runtime::JoinHandle<()>,
}

impl Consumer {
    /// Starts consuming. The deliveries go into `inlet`; their number is bounded by the prefetch.
    ///
    /// # Errors
    /// [`TooLong`] when the queue's name or the tag does not fit.
    pub fn start(link: Link, settings: ConsumerSettings, inlet: Inlet<Delivery>) -> Result<Self, TooLong> {
        let (attach, attached) = watch::channel(Attachment::Detached(None));
        let token = CancellationToken::new;
        let (stop, finish) = (token(), token());
        // One without an order has nothing to wait for.
        let release = if settings.ordered { token() } else { stop.clone() };
        let subscriber = Subscriber {
            queue: short("queue", &settings.queue)?,
            // The longest number that can follow still fits.
            tag: short("consumer tag", &format!("{}-{}", settings.tag, u64::MAX)).map(|_| settings.tag.clone())?,
            metrics: Arc::new(Instruments::global().queue(&settings.queue)),
            link,
            settings,
            inlet,
            attach,
            stop: stop.clone(),
            release: release.clone(),
            finish: finish.clone(),
        };
        let task = runtime::spawn(subscriber.run());
        Ok(Self { stop, release, finish, attached, task })
    }

    /// Whether the broker delivers to us at present.
    pub fn is_attached(&self) -> bool {
        *self.attached.borrow() == Attachment::Attached
    }

    /// Follows whether the broker delivers to us, and what stands in the way.
    pub fn attached(&self) -> watch::Receiver<Attachment> {
        self.attached.clone()
    }

    /// Leaves the queue to the next consumer. One without an order stops. One with an order leaves as soon as it can do so
    /// without being overtaken: when it settles a task, in the same moment; until then it goes on.
    /// [`released`](Self::released) waits for that.
    pub fn release(&self) {
        self.release.cancel();
    }

    /// Waits until it has left.
    pub async fn released(&mut self) {
        self.release();
        let _ = (&mut self.task).await;
    }

    /// Asks the broker for no more. What is here already can still be taken and settled.
    ///
    /// One with an order takes no more, but stays subscribed until its connection ends: RabbitMQ would give the next
    /// consumer what follows before it takes back what is left here (seen on 3.10, with a cancel and with the end of
    /// the channel; with the end of the connection it does not).
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether it was stopped, and all that it delivered has been settled.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until what was taken has been settled and the broker told, at most `patience`; then closes the
    /// channel, upon which the broker gives out again what is left.
    pub async fn finish(self, patience: Duration) {
        self.stop.cancel();
        let mut task = self.task;
        if tokio::time::timeout(patience, &mut task).await.is_err() {
            self.finish.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
        }
    }
}

struct Subscriber {
    link: Link,
    settings: ConsumerSettings,
    queue: ShortString,
    tag: String,
    inlet: Inlet<Delivery>,
    attach: watch::Sender<Attachment>,
    stop: CancellationToken,
    release: CancellationToken,
    finish: CancellationToken,
    metrics: Arc<QueueMetrics>,
}

/// Why a subscription ended.
enum End {
    /// It was stopped, and all is settled or the time for that is over.
    Stopped,
    /// The broker, the channel or the connection ended it.
    Lost(String),
    /// The user may not consume from the queue.
    Forbidden(String),
}

impl Subscriber {
    async fn run(self) {
        let mut failures: u32 = 0;
        while !self.stop.is_cancelled() && !self.release.is_cancelled() {
            let live = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.release.cancelled() => return,
                live = self.link.live() => match live {
                    Ok(live) => live,
                    Err(_) => return,
                },
            };
            let ended = self.subscription(&live, &mut failures).await;
            self.attach.send_replace(match &ended {
                End::Stopped => Attachment::Detached(None),
                End::Lost(reason) => Attachment::Detached(Some(reason.clone())),
                End::Forbidden(reason) => Attachment::Forbidden(reason.clone()),
            });
            match ended {
                End::Stopped => return,
                End::Lost(reason) | End::Forbidden(reason) => {
                    let queue = self.queue.as_str();
                    if !live.lost.is_cancelled() {
                        warn!(queue, %reason, "the subscription ended, subscribing again");
                    }
                    failures = failures.saturating_add(1);
                    let pause = Duration::from_millis(50).saturating_mul(1 << failures.min(7));
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = self.release.cancelled() => return,
                        () = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
                    }
                }
            }
        }
    }

    /// One subscription, from its channel to its end.
    async fn subscription(&self, live: &Arc<Live>, failures: &mut u32) -> End {
        if let Some((pool, topology)) = &self.settings.topology
            && let Err(error) = declare(pool, topology).await
        {
            return End::Lost(error.to_string());
        }
        let opened = tokio::time::timeout(self.link.settings().timeout, self.open(live)).await;
        let (channel, mut deliveries) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) if reply_code(&error) == Some(403) => return End::Forbidden(reason(&error)),
            Ok(Err(error)) => return End::Lost(reason(&error)),
            Err(_) => {
                return End::Lost("the broker does not answer the request to consume".to_owned());
            }
        };
        *failures = 0;
        self.attach.send_replace(Attachment::Attached);
        debug!(
            queue = self.queue.as_str(),
            prefetch = self.settings.prefetch,
            generation = live.generation,
            "consuming"
        );

        let settler = Settler::new(self.metrics.clone());
        let settling = channel.clone();
        let sending = settler.run(&settling);
        tokio::pin!(sending);
        let (mut cancelled, mut releasing) = (false, false);
        let end = loop {
            tokio::select! {
                biased;
                sent = &mut sending => break End::Lost(sent.err().map_or_else(String::new, |error| reason(&error))),
                delivery = deliveries.next(), if !cancelled => match delivery {
                    Some(Ok(delivery)) => self.forward(delivery, &settler),
                    Some(Err(error)) => break End::Lost(reason(&error)),
                    // It was cancelled by the settler, which is about to say that it has.
                    None if releasing => cancelled = true,
                    None => break End::Lost("the broker cancelled the subscription".to_owned()),
                },
                () = self.release.cancelled(), if self.settings.ordered && !releasing => {
                    releasing = true;
                    settler.release(deliveries.tag());
                }
                () = settler.released() => break End::Stopped,
                () = self.stop.cancelled(), if !cancelled => {
                    cancelled = true;
                    if self.settings.ordered {
                        continue;
                    }
                    let tag = deliveries.tag();
                    let cancelling = channel.basic_cancel(tag, BasicCancelOptions::default());
                    if !matches!(tokio::time::timeout(self.link.settings().timeout, cancelling).await, Ok(Ok(()))) {
                        break End::Stopped;
                    }
                    // What the broker had sent before it heard of the cancel goes straight back. The stream ends
                    // with the subscription; should it not, the channel's end gives back the rest.
                    let giving_back = async {
                        while let Some(Ok(delivery)) = deliveries.next().await {
                            settler.delivered(delivery.delivery_tag);
                            settler.settle(delivery.delivery_tag, Verdict::GiveBack);
                        }
                    };
                    let _ = tokio::time::timeout(self.link.settings().timeout, giving_back).await;
                }
                () = settler.drained(), if cancelled => break End::Stopped,
                () = self.finish.cancelled(), if cancelled => break End::Stopped,
            }
        };
        let left = !self.settings.ordered || settler.is_released();
        settler.abandon();
        if !left && matches!(end, End::Stopped) {
            keep(live, channel, deliveries);
        } else if matches!(end, End::Stopped) {
            let _ = tokio::time::timeout(self.link.settings().timeout, channel.close(200, own("bye"))).await;
            info!(queue = self.queue.as_str(), "stopped consuming");
        }
        end
    }

    async fn open(&self, live: &Live) -> lapin::Result<(Channel, lapin::Consumer)> {
        let channel = live.channel().await?;
        let prefetch = if self.settings.ordered { 1 } else { self.settings.prefetch };
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        static SUBSCRIPTIONS: AtomicU64 = AtomicU64::new(1);
        let tag = format!("{}-{}", self.tag, SUBSCRIPTIONS.fetch_add(1, Ordering::Relaxed));
        let tag = ShortString::try_new(tag).unwrap_or_default();
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(self.queue.clone(), tag, options, FieldTable::default()).await?;
        Ok((channel, consumer))
    }

    fn forward(&self, delivery: lapin::message::Delivery, settler: &Settler) {
        settler.delivered(delivery.delivery_tag);
        let receipt = Receipt { tag: delivery.delivery_tag, settler: settler.clone(), settled: false };
        let (redelivered, properties, body) = (delivery.redelivered, delivery.properties, delivery.data);
        // Nobody takes it any more once the handover is closed: dropped, it gives itself back.
        let inlet = &self.inlet;
        let _ = inlet.put(Delivery { redelivered, properties, body, receipt });
    }
}

/// Keeps a subscription as it is until its connection ends: dropped, both would tell the broker that they end.
fn keep(live: &Arc<Live>, channel: Channel, deliveries: lapin::Consumer) {
    let live = live.clone();
    runtime::spawn(async move {
        live.lost.cancelled().await;
        while live.connection.status().connected() || live.connection.status().closing() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop((channel, deliveries));
    });
}
