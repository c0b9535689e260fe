//! One walk through a queue, from its head to where its end was at the start: each message is taken in hand
//! and removed, moved or held, and what is held goes back at the end.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions,
        BasicRejectOptions, QueueDeclareOptions,
    },
    types::{DeliveryTag, FieldTable, ShortString},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::DeadLettersError;
use crate::{
    link::{Link, PublishError, Publisher, reason, reply_code},
    wire::{Outgoing, short},
};

/// Bytes of bodies that may be on their way to us, as far as the bodies seen so far tell.
const BYTES_AHEAD: usize = 32 << 20;
/// Messages that may be on their way to us, however small.
const MOST_AHEAD: usize = 1024;
/// How long no message may come before the broker is asked whether there are more.
const SILENCE: Duration = Duration::from_millis(300);
/// How long a delivery that is on its way may take.
const OVERTAKEN: Duration = Duration::from_millis(100);
/// How long to wait for held messages to be back in their queue.
const GIVING_BACK: Duration = Duration::from_secs(2);

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Messages in the queue at the start: the walk goes no further.
    pub depth: u64,
    /// Messages that were looked at.
    pub seen: u64,
    /// Messages that were meant.
    pub matched: u64,
    /// Messages that left the queue: moved or removed.
    pub settled: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// What is to be done with a message.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Not meant: it is held, and goes back.
    Pass,
    /// Meant, and held: it goes back.
    Look,
    /// The broker is to dead-letter it.
    Reject,
    /// It is removed.
    Remove,
    /// It is published, and then removed.
    Publish(Box<Outgoing>),
}

/// A walk about to begin.
pub(super) struct Walk<'a> {
    pub(super) link: &'a Link,
    pub(super) queue: &'a str,
    /// Time between two messages that leave the queue.
    pub(super) interval: Option<Duration>,
    /// How many messages may be meant.
    pub(super) most: u64,
    pub(super) stop: &'a CancellationToken,
    /// For [`Verdict::Publish`].
    pub(super) publisher: Option<Publisher>,
}

impl Walk<'_> {
    /// Walks. `judge` decides on each message, `progress` hears after each.
    pub(super) async fn run(
        self,
        judge: impl FnMut(Delivery) -> Result<Verdict, DeadLettersError> + Send,
        progress: impl FnMut(&Tally) + Send,
    ) -> Result<Tally, DeadLettersError> {
        let queue = short("queue", self.queue)?;
        let (_, channel) = self.link.channel().await?;
        let tally = Tally { depth: depth(&channel, &queue).await?, ..Tally::default() };
        let mut steps = Steps {
            channel,
            queue,
            tally,
            consumers: Vec::new(),
            ahead: 0,
            largest: 0,
            publishing: FuturesUnordered::new(),
        };
        let walked = steps.walk(&self, judge, progress).await;
        // After a failure too: what is held goes back at once, and what was rejected is counted.
        let finished = steps.finish().await;
        walked.and(finished).map(|()| steps.tally)
    }
}

/// How many messages a queue holds that nobody has in hand.
pub(super) async fn depth(channel: &Channel, queue: &ShortString) -> Result<u64, DeadLettersError> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(queue.clone(), passive, FieldTable::default()).await {
        Ok(queue) => Ok(queue.message_count().into()),
        Err(error) if reply_code(&error) == Some(404) => Err(DeadLettersError::NoQueue { queue: queue.to_string() }),
        Err(error) => Err(interrupted(&error, 0)),
    }
}

pub(super) fn interrupted(error: &lapin::Error, settled: u64) -> DeadLettersError {
    DeadLettersError::Interrupted { settled, reason: reason(error) }
}

/// A walk on its way.
struct Steps {
    channel: Channel,
    queue: ShortString,
    tally: Tally,
    /// The last of them delivers; the windows of the others are full of what is held.
    consumers: Vec<Consumer>,
    /// Messages that the broker may still send before one of ours is settled.
    ahead: usize,
    /// The largest body so far, in bytes.
    largest: usize,
    publishing: FuturesUnordered<BoxFuture<'static, (DeliveryTag, Result<(), PublishError>)>>,
}

impl Steps {
    async fn walk(
        &mut self,
        walk: &Walk<'_>,
        mut judge: impl FnMut(Delivery) -> Result<Verdict, DeadLettersError> + Send,
        mut progress: impl FnMut(&Tally) + Send,
    ) -> Result<(), DeadLettersError> {
        let mut next_at = Instant::now();
        let mut first = self.first().await?;
        while self.tally.seen < self.tally.depth && self.tally.matched < walk.most {
            let delivery = match first.take() {
                Some(delivery) => delivery,
                None => match self.next(walk, &mut progress).await? {
                    Some(delivery) => delivery,
                    None => break,
                },
            };
            self.tally.seen += 1;
            self.largest = self.largest.max(delivery.data.len());
            let tag = delivery.delivery_tag;
            let verdict = judge(delivery)?;
            if !matches!(verdict, Verdict::Pass | Verdict::Look)
                && let Some(interval) = walk.interval
            {
                tokio::select! {
                    () = tokio::time::sleep_until(next_at) => {}
                    () = walk.stop.cancelled() => {
                        self.tally.stopped = true;
                        break;
                    }
                }
                // Time that was lost is not made up for by a burst.
                next_at = (next_at + interval).max(Instant::now());
            }
            self.tally.matched += u64::from(!matches!(verdict, Verdict::Pass));
            match verdict {
                Verdict::Pass | Verdict::Look => {}
                Verdict::Reject => {
                    let rejected = self.channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await;
                    self.settled(tag, rejected)?;
                }
                Verdict::Remove => {
                    let removed = self.channel.basic_ack(tag, BasicAckOptions::default()).await;
                    self.settled(tag, removed)?;
                }
                Verdict::Publish(message) => {
                    if let Some(publisher) = &walk.publisher {
                        let confirm = publisher.submit(*message).await.map_err(DeadLettersError::Publish)?;
                        self.publishing.push(confirm.map(move |published| (tag, published)).boxed());
                    }
                }
            }
            progress(&self.tally);
        }
        while let Some((tag, published)) = self.publishing.next().await {
            self.published(tag, published).await?;
            progress(&self.tally);
        }
        Ok(())
    }

    /// The message at the head of the queue. Its size tells how many may be on their way at once.
    async fn first(&mut self) -> Result<Option<Delivery>, DeadLettersError> {
        let got = self.channel.basic_get(self.queue.clone(), BasicGetOptions::default()).await;
        let got = got.map_err(|error| interrupted(&error, 0))?.map(|message| message.delivery);
        self.largest = got.as_ref().map_or(0, |delivery| delivery.data.len());
        Ok(got)
    }

    /// The next message; `None` when there are no more, or the walk was stopped.
    async fn next(
        &mut self,
        walk: &Walk<'_>,
        progress: &mut (impl FnMut(&Tally) + Send),
    ) -> Result<Option<Delivery>, DeadLettersError> {
        let deadline = Instant::now() + walk.link.settings().timeout;
        loop {
            if self.ahead == 0 && self.publishing.is_empty() {
                self.consume().await?;
            }
            let delivery = tokio::select! {
                biased;
                () = walk.stop.cancelled() => {
                    self.tally.stopped = true;
                    return Ok(None);
                }
                Some((tag, published)) = self.publishing.next() => {
                    self.published(tag, published).await?;
                    progress(&self.tally);
                    continue;
                }
                delivery = next_of(&mut self.consumers) => delivery,
                () = tokio::time::sleep(SILENCE) => {
                    // Others may have taken some of what was there at the start.
                    if depth(&self.channel, &self.queue).await? == 0 {
                        return Ok(None);
                    }
                    if Instant::now() > deadline && self.publishing.is_empty() {
                        return Err(DeadLettersError::Stalled { queue: self.queue.to_string() });
                    }
                    continue;
                }
            };
            self.ahead = self.ahead.saturating_sub(1);
            return match delivery {
                Some(Ok(delivery)) => Ok(Some(delivery)),
                Some(Err(error)) => Err(interrupted(&error, self.tally.settled)),
                None => {
                    let reason = "it cancelled the subscription".to_owned();
                    Err(DeadLettersError::Interrupted { settled: self.tally.settled, reason })
                }
            };
        }
    }

    /// Adds a consumer, when what is held has filled the window of the last. The broker remembers what is held, and we
    /// keep no body of it.
    async fn consume(&mut self) -> Result<(), DeadLettersError> {
        let most = usize::try_from(self.tally.depth - self.tally.seen).unwrap_or(MOST_AHEAD).clamp(1, MOST_AHEAD);
        self.ahead = (BYTES_AHEAD / self.largest.max(1)).clamp(1, most);
        let tag = short("consumer tag", &format!("leveret-dead-letters-{}", self.consumers.len() + 1))?;
        let consuming = async {
            let prefetch = u16::try_from(self.ahead).unwrap_or(u16::MAX);
            self.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            self.channel.basic_consume(self.queue.clone(), tag, options, FieldTable::default()).await
        };
        self.consumers.push(consuming.await.map_err(|error| interrupted(&error, self.tally.settled))?);
        Ok(())
    }

    fn settled(&mut self, tag: DeliveryTag, sent: lapin::Result<()>) -> Result<(), DeadLettersError> {
        sent.map_err(|error| interrupted(&error, self.tally.settled))?;
        self.tally.settled += 1;
        // The head of the queue came without a consumer, and gives none any room.
        self.ahead += usize::from(tag > 1);
        Ok(())
    }

    async fn published(
        &mut self,
        tag: DeliveryTag,
        published: Result<(), PublishError>,
    ) -> Result<(), DeadLettersError> {
        match published {
            Ok(()) => {
                let removed = self.channel.basic_ack(tag, BasicAckOptions::default()).await;
                self.settled(tag, removed)
            }
            // Still no queue takes it: it stays.
            Err(PublishError::Unroutable { .. }) => Ok(()),
            Err(error) => Err(DeadLettersError::Publish(error)),
        }
    }

    /// Gives back what is held, and waits until the broker has done all that it was told.
    async fn finish(&mut self) -> Result<(), DeadLettersError> {
        let settled = self.tally.settled;
        let mut held = self.tally.seen.saturating_sub(settled);
        let broken = |error: lapin::Error| interrupted(&error, settled);
        // Deliveries that a cancel overtakes would go back only when the channel closes.
        while self.ahead > 0
            && let Ok(Some(Ok(_))) = tokio::time::timeout(OVERTAKEN, next_of(&mut self.consumers)).await
        {
            self.ahead -= 1;
            held += 1;
        }
        // A quorum queue answers a cancel when it has applied all before it, and the channel then sends what it had
        // kept back: so after these answers every rejected message is on its way.
        for consumer in &self.consumers {
            self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await.map_err(broken)?;
        }
        let others = depth(&self.channel, &self.queue).await?;
        // Tag 0 stands for everything that we still have in hand.
        let all = BasicNackOptions { multiple: true, requeue: true };
        self.channel.basic_nack(0, all).await.map_err(broken)?;
        // Nothing answers a nack: whoever looks next is to find them, unless others have taken them by then.
        let deadline = Instant::now() + GIVING_BACK;
        while depth(&self.channel, &self.queue).await? < others + held && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.channel.close(200, ShortString::default()).await.map_err(broken)
    }
}

/// The next delivery of the last consumer; never any, when there is none.
async fn next_of(consumers: &mut [Consumer]) -> Option<lapin::Result<Delivery>> {
    match consumers.last_mut() {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}
