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
    BasicProperties, Channel,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, DeliveryTag, FieldTable, ShortString},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    ChannelPool, Inlet, Link, Live, Settler, error::reason, error::reply_code, runtime, supervisor::own,
    window::Verdict,
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
}

/// A message that a worker holds. Dropped without a verdict, it goes back to its queue.
#[derive(Debug)]
pub struct Delivery {
    /// Whether the broker has given it out before.
    pub redelivered: bool,
    /// Its properties and headers.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Vec<u8>,
    receipt: Receipt,
}

/// The right to settle one delivery, once.
#[derive(Debug)]
struct Receipt {
    tag: DeliveryTag,
    settler: Settler,
    settled: bool,
}

impl Delivery {
    /// Whether its channel is gone: the broker gives the message out again, and a verdict changes nothing.
    pub fn is_stale(&self) -> bool {
        self.receipt.settler.is_gone()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            _ => None,
        }
    }

    /// It is done with.
    pub fn ack(self) {
        self.receipt.settle(Verdict::Ack);
    }

    /// It was not started: back to its queue at no cost to its attempts.
    pub fn give_back(self) {
        self.receipt.settle(Verdict::GiveBack);
    }

    /// Nothing could be done about it: back to its queue, counted towards the broker's delivery limit.
    pub fn requeue(self) {
        self.receipt.settle(Verdict::Requeue);
    }

    /// The broker is to move it to the dead-letter queue.
    pub fn dead_letter(self) {
        self.receipt.settle(Verdict::DeadLetter);
    }

    /// Takes out properties and body for reading; what is left can only be settled.
    pub fn take_content(&mut self) -> (BasicProperties, Vec<u8>) {
        (std::mem::take(&mut self.properties), std::mem::take(&mut self.body))
    }
}

impl Receipt {
    fn settle(mut self, verdict: Verdict) {
        self.settled = true;
        self.settler.settle(self.tag, verdict);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.settled && !self.settler.is_gone() {
            self.settler.settle(self.tag, Verdict::GiveBack);
        }
    }
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
        let (stop, finish) = (CancellationToken::new(), CancellationToken::new());
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
            finish: finish.clone(),
        };
        let task = runtime::spawn(subscriber.run());
        Ok(Self { stop, finish, attached, task })
    }

    /// Whether the broker delivers to us at present.
    pub fn is_attached(&self) -> bool {
        *self.attached.borrow() == Attachment::Attached
    }

    /// Follows whether the broker delivers to us, and what stands in the way.
    pub fn attached(&self) -> watch::Receiver<Attachment> {
        self.attached.clone()
    }

    /// Asks the broker for no more. What is here already can still be taken and settled.
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
        while !self.stop.is_cancelled() {
            let live = tokio::select! {
                () = self.stop.cancelled() => return,
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
                        () = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
                    }
                }
            }
        }
    }

    /// One subscription, from its channel to its end.
    async fn subscription(&self, live: &Live, failures: &mut u32) -> End {
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
        let sending = settler.run(&channel);
        tokio::pin!(sending);
        let mut cancelled = false;
        let end = loop {
            tokio::select! {
                biased;
                sent = &mut sending => break End::Lost(sent.err().map_or_else(String::new, |error| reason(&error))),
                delivery = deliveries.next(), if !cancelled => match delivery {
                    Some(Ok(delivery)) => self.forward(delivery, &settler),
                    Some(Err(error)) => break End::Lost(reason(&error)),
                    None => break End::Lost("the broker cancelled the subscription".to_owned()),
                },
                () = self.stop.cancelled(), if !cancelled => {
                    cancelled = true;
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
        settler.abandon();
        if matches!(end, End::Stopped) {
            let _ = tokio::time::timeout(self.link.settings().timeout, channel.close(200, own("bye"))).await;
            info!(queue = self.queue.as_str(), "stopped consuming");
        }
        end
    }

    async fn open(&self, live: &Live) -> lapin::Result<(Channel, lapin::Consumer)> {
        let channel = live.connection.create_channel().await?;
        channel.basic_qos(self.settings.prefetch, BasicQosOptions::default()).await?;
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
