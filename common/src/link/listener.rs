//! Listening with a queue of one's own: exclusive, bound to what one wants to hear, and made again with every
//! connection.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{FieldTable, ShortString},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Attachment, Link, Live, error::reason, error::reply_code, runtime, supervisor::own};
use crate::{
    topology::{Argument, argument_table},
    wire::{TooLong, short},
};

/// The longest pause between attempts to subscribe again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What to listen to.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Name of the queue. It is gone when its connection is.
    pub queue: String,
    /// Exchanges and routing keys, or patterns, that it is bound to.
    pub bindings: Vec<(String, String)>,
    /// Messages that may be here without having been heard.
    pub prefetch: u16,
    /// Messages that may wait at the broker; beyond it the oldest is dropped.
    pub room: u32,
    /// How long a message may wait at the broker; after that it is dropped.
    pub patience: Duration,
}

/// A message that was heard.
#[derive(Debug)]
pub struct Heard {
    /// The exchange it was published to; empty for the default exchange.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Properties and headers.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Vec<u8>,
}

/// Listens until it is dropped or closed.
#[derive(Debug)]
pub struct Listener {
    stop: CancellationToken,
    attached: watch::Receiver<Attachment>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Listener {
    /// Starts listening on the link's own runtime, one message after the other: the next comes once `hear` has
    /// returned, which must be soon.
    ///
    /// # Errors
    /// [`TooLong`] when a name does not fit.
    pub fn start<F, R>(link: Link, settings: ListenerSettings, hear: F) -> Result<Self, TooLong>
    where
        F: FnMut(Heard) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let bindings = settings.bindings.iter();
        let bindings = bindings.map(|(exchange, key)| Ok((short("exchange", exchange)?, short("routing key", key)?)));
        let (attach, attached) = watch::channel(Attachment::Detached(None));
        let stop = CancellationToken::new();
        let subscriber = Subscriber {
            queue: short("queue", &settings.queue)?,
            bindings: bindings.collect::<Result<_, _>>()?,
            link,
            settings,
            attach,
            stop: stop.clone(),
        };
        runtime::spawn(subscriber.run(hear));
        Ok(Self { stop, attached })
    }

    /// Follows whether the broker delivers to us, and what stands in the way.
    pub fn attached(&self) -> watch::Receiver<Attachment> {
        self.attached.clone()
    }

    /// Ends it. A message that is being heard is heard to its end.
    pub fn close(&self) {
        self.stop.cancel();
    }
}

struct Subscriber {
    link: Link,
    settings: ListenerSettings,
    queue: ShortString,
    bindings: Vec<(ShortString, ShortString)>,
    attach: watch::Sender<Attachment>,
    stop: CancellationToken,
}

impl Subscriber {
    async fn run<F, R>(self, mut hear: F)
    where
        F: FnMut(Heard) -> R,
        R: Future<Output = ()>,
    {
        let mut failures: u32 = 0;
        loop {
            let live = tokio::select! {
                () = self.stop.cancelled() => return,
                live = self.link.live() => match live {
                    Ok(live) => live,
                    Err(_) => return,
                },
            };
            let Some(ended) = self.subscription(&live, &mut failures, &mut hear).await else {
                self.attach.send_replace(Attachment::Detached(None));
                return;
            };
            // Said once, not at every attempt: permissions and exchanges may be missing for long.
            if !live.lost.is_cancelled() && *self.attach.borrow() != ended {
                warn!(queue = self.queue.as_str(), "cannot listen, trying again: {}", why(&ended));
            }
            self.attach.send_replace(ended);
            failures = failures.saturating_add(1);
            let pause = Duration::from_millis(50).saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
            }
        }
    }

    /// One subscription, and how it ended; `None` when we ended it.
    async fn subscription<F, R>(&self, live: &Live, failures: &mut u32, hear: &mut F) -> Option<Attachment>
    where
        F: FnMut(Heard) -> R,
        R: Future<Output = ()>,
    {
        let opened = tokio::time::timeout(self.link.settings().timeout, self.open(live)).await;
        let (channel, mut deliveries) = match opened {
            Ok(Ok(opened)) => opened,
            // Of an exclusive queue that an older connection still holds the broker says 405, until it has found
            // that connection dead.
            Ok(Err(error)) if reply_code(&error) == Some(403) => return Some(Attachment::Forbidden(reason(&error))),
            Ok(Err(error)) => return Some(lost(reason(&error))),
            Err(_) => return Some(lost("the broker does not answer the request to listen")),
        };
        *failures = 0;
        self.attach.send_replace(Attachment::Attached);
        debug!(queue = self.queue.as_str(), generation = live.generation, "listening");
        loop {
            let delivery = tokio::select! {
                () = self.stop.cancelled() => {
                    // The connection may live on, and with it the queue.
                    let closing = async {
                        let _ = channel.queue_delete(self.queue.clone(), QueueDeleteOptions::default()).await;
                        let _ = channel.close(200, own("bye")).await;
                    };
                    let _ = tokio::time::timeout(self.link.settings().timeout, closing).await;
                    return None;
                }
                delivery = deliveries.next() => match delivery {
                    Some(Ok(delivery)) => delivery,
                    Some(Err(error)) => return Some(lost(reason(&error))),
                    None => return Some(lost("the broker cancelled the subscription")),
                },
            };
            let tag = delivery.delivery_tag;
            hear(Heard {
                exchange: delivery.exchange.to_string(),
                routing_key: delivery.routing_key.to_string(),
                properties: delivery.properties,
                body: delivery.data,
            })
            .await;
            if let Err(error) = channel.basic_ack(tag, BasicAckOptions::default()).await {
                return Some(lost(reason(&error)));
            }
        }
    }

    async fn open(&self, live: &Live) -> lapin::Result<(Channel, lapin::Consumer)> {
        let channel = live.channel().await?;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let lifetime = i64::try_from(self.settings.patience.as_millis()).unwrap_or(i64::MAX);
        let arguments = BTreeMap::from([
            ("x-queue-type", Argument::Text("classic".to_owned())),
            ("x-message-ttl", Argument::Number(lifetime)),
            ("x-max-length", Argument::Number(self.settings.room.into())),
            ("x-overflow", Argument::Text("drop-head".to_owned())),
        ]);
        channel.queue_declare(self.queue.clone(), options, argument_table(&arguments)).await?;
        for (exchange, key) in &self.bindings {
            let options = QueueBindOptions::default();
            channel
                .queue_bind(self.queue.clone(), exchange.clone(), key.clone(), options, FieldTable::default())
                .await?;
        }
        channel.basic_qos(self.settings.prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let tag = ShortString::default();
        let deliveries = channel.basic_consume(self.queue.clone(), tag, options, FieldTable::default()).await?;
        Ok((channel, deliveries))
    }
}

fn lost(why: impl Into<String>) -> Attachment {
    Attachment::Detached(Some(why.into()))
}

fn why(attachment: &Attachment) -> &str {
    match attachment {
        Attachment::Detached(Some(why)) | Attachment::Forbidden(why) => why,
        _ => "no reason was given",
    }
}
