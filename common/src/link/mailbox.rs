//! One channel for a protocol of our own: letters come in from one queue, and letters go out to queues by their names,
//! each of which comes back when its queue is gone.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{FieldTable, ShortString},
};
use tokio_util::sync::CancellationToken;

use super::{Link, Live, error::reason, runtime, supervisor::own};
use crate::wire::{TooLong, short};

/// The queue that a mailbox gets its letters from.
#[derive(Clone, Debug)]
pub enum Inbox {
    /// One of its own, which is gone as soon as its connection is. Letters need no acknowledgement.
    Own(String),
    /// One that is there already and that others consume from as well. Letters are to be acknowledged; without that
    /// another consumer gets them when this one's channel is gone.
    Shared(String),
}

/// What happens at a mailbox.
#[derive(Debug)]
pub enum MailEvent {
    /// A letter came in.
    Letter {
        /// What to acknowledge it by.
        tag: u64,
        /// What it says.
        body: Vec<u8>,
    },
    /// A letter that was posted came back: there is no queue of this name.
    Returned(String),
    /// The channel is gone, and all that was posted and not answered with it.
    Closed(String),
}

/// A channel with an inbox. Dropped, its channel is closed in the background.
pub struct Mailbox {
    channel: Arc<Channel>,
    /// Taken out when the channel is closed. A consumer that is dropped before would cancel its subscription first,
    /// and the broker would let another consumer begin while the letters that are here are not given back yet.
    letters: Option<lapin::Consumer>,
    tasks: FuturesUnordered<BoxFuture<'static, lapin::Result<Option<String>>>>,
    returned: VecDeque<String>,
    own: Option<ShortString>,
    lost: CancellationToken,
    timeout: Duration,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("channel", &self.channel.id()).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// Opens a channel on a connection of `link` and subscribes to the inbox.
    ///
    /// # Errors
    /// [`MailboxError`] with what the broker said.
    pub async fn open(link: &Link, live: &Live, inbox: &Inbox) -> Result<Self, MailboxError> {
        let timeout = link.settings().timeout;
        let (name, is_own) = match inbox {
            Inbox::Own(name) => (short("queue", name)?, true),
            Inbox::Shared(name) => (short("queue", name)?, false),
        };
        let opening = async {
            let channel = live.channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            if is_own {
                let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(name.clone(), options, FieldTable::default()).await?;
            } else {
                channel.basic_qos(u16::MAX, BasicQosOptions::default()).await?;
            }
            let options = BasicConsumeOptions { no_ack: is_own, ..BasicConsumeOptions::default() };
            let letters =
                channel.basic_consume(name.clone(), ShortString::default(), options, FieldTable::default()).await?;
            Ok::<_, lapin::Error>((channel, letters))
        };
        let (channel, letters) = match tokio::time::timeout(timeout, opening).await {
            Ok(opened) => opened.map_err(|error| MailboxError::Broker(reason(&error)))?,
            Err(_) => return Err(MailboxError::Broker("it does not answer".to_owned())),
        };
        Ok(Self {
            channel: Arc::new(channel),
            letters: Some(letters),
            tasks: FuturesUnordered::new(),
            returned: VecDeque::new(),
            own: is_own.then_some(name),
            lost: live.lost.clone(),
            timeout,
        })
    }

    /// Puts a letter into a queue. It goes out with the next call of [`next`](Self::next).
    pub fn post(&self, queue: &ShortString, body: Vec<u8>) {
        let (channel, queue) = (self.channel.clone(), queue.clone());
        self.tasks.push(Box::pin(async move {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let properties = BasicProperties::default();
            let published = channel.basic_publish(ShortString::default(), queue, options, &body, properties).await?;
            // lapin hands a returned letter over with whichever confirm comes next: its own routing key says which.
            Ok(match published.await? {
                Confirmation::Ack(returned) | Confirmation::Nack(returned) => {
                    returned.map(|letter| letter.delivery.routing_key.to_string())
                }
                _ => None,
            })
        }));
    }

    /// Acknowledges a letter of a shared inbox. It goes out with the next call of [`next`](Self::next).
    pub fn ack(&self, tag: u64) {
        let channel = self.channel.clone();
        self.tasks.push(Box::pin(async move {
            channel.basic_ack(tag, BasicAckOptions::default()).await?;
            Ok(None)
        }));
    }

    /// The next thing that happens. Nothing is lost when the future is dropped before.
    pub async fn next(&mut self) -> MailEvent {
        loop {
            if let Some(queue) = self.returned.pop_front() {
                return MailEvent::Returned(queue);
            }
            let Some(letters) = &mut self.letters else { return MailEvent::Closed("closed".to_owned()) };
            tokio::select! {
                biased;
                Some(done) = self.tasks.next() => match done {
                    Ok(returned) => self.returned.extend(returned),
                    Err(error) => return MailEvent::Closed(reason(&error)),
                },
                letter = letters.next() => return match letter {
                    Some(Ok(letter)) => MailEvent::Letter { tag: letter.delivery_tag, body: letter.data },
                    Some(Err(error)) => MailEvent::Closed(reason(&error)),
                    None => MailEvent::Closed("the broker cancelled the subscription".to_owned()),
                },
                () = self.lost.cancelled() => return MailEvent::Closed("the connection was lost".to_owned()),
            }
        }
    }

    /// Deletes the inbox if it is its own, and closes the channel: what was not acknowledged goes to another consumer.
    pub async fn close(mut self) {
        if let Some(closing) = self.closing() {
            closing.await;
        }
    }

    fn closing(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let letters = self.letters.take()?;
        let (channel, own_queue, timeout) = (self.channel.clone(), self.own.take(), self.timeout);
        Some(async move {
            let closing = async {
                if let Some(queue) = own_queue {
                    let _ = channel.queue_delete(queue, QueueDeleteOptions::default()).await;
                }
                let _ = channel.close(200, own("bye")).await;
            };
            let _ = tokio::time::timeout(timeout, closing).await;
            drop(letters);
        })
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if let Some(closing) = self.closing() {
            runtime::spawn(closing);
        }
    }
}

/// A mailbox could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailboxError {
    /// The broker refused, or the channel failed.
    #[error("the broker opened no mailbox: {0}")]
    Broker(String),
    /// The name of the queue does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}
