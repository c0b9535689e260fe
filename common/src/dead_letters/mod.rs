//! Dead letters: tasks that will not run again by themselves. They can be looked at, replayed and removed.
//!
//! A replay is one step of the broker's own: it rejects the dead letter, and the dead-letter queue's own dead-letter
//! exchange leads back to the work queue. So a replay that is interrupted, even by SIGKILL, loses none and doubles
//! none: each message is in one queue or the other, and the next replay goes on with those that are left.
//!
//! The queue of the lost has no way back, for its messages belong to no queue. [`DeadLetters::lost`] publishes them
//! again and removes them when the broker has confirmed; a process killed in between leaves one in both places.

mod again;
mod amend;
mod death;
mod error;
mod letter;
mod selection;
mod walk;

use std::time::Duration;

use lapin::{
    message::Delivery,
    options::{QueueDeclareOptions, QueuePurgeOptions},
};
use tokio_util::sync::CancellationToken;

pub use amend::{Amended, Amendment};
pub use death::Death;
pub use error::DeadLettersError;
pub use letter::{DeadLetter, UNROUTABLE};
pub use selection::Selection;
pub use walk::Tally;

use crate::{
    link::{Link, Publisher, reason, reply_code},
    topology::{Names, QueueName, QueueSettings, Topology, argument_table},
    wire::short,
};
use walk::{Verdict, Walk, interrupted};

/// The dead letters of one work queue, or the lost messages of a namespace.
///
/// Every operation looks at as many messages as were there when it began, holds those that it leaves, and gives
/// them back at the end, which may change their order. Meanwhile others do not see them, and after a crash the
/// broker gives them back by itself. One that takes longer than the broker's `consumer_timeout` (half an hour) is
/// ended by the broker and can be run again.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    link: Link,
    names: Names,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Dead(QueueName),
    Lost,
}

impl DeadLetters {
    /// The dead letters of a work queue.
    ///
    /// # Errors
    /// [`DeadLettersError::Name`] when the namespace breaks the rules of names.
    pub fn of(link: Link, queue: QueueName) -> Result<Self, DeadLettersError> {
        let names = Names::new(&link.settings().namespace)?;
        Ok(Self { link, names, source: Source::Dead(queue) })
    }

    /// The messages that no queue took.
    ///
    /// # Errors
    /// [`DeadLettersError::Name`] when the namespace breaks the rules of names.
    pub fn lost(link: Link) -> Result<Self, DeadLettersError> {
        let names = Names::new(&link.settings().namespace)?;
        Ok(Self { link, names, source: Source::Lost })
    }

    /// The name of the queue that they are in.
    pub fn queue(&self) -> String {
        match &self.source {
            Source::Dead(queue) => queue.dead(),
            Source::Lost => self.names.lost().to_owned(),
        }
    }

    /// How many there are that nobody has in hand.
    ///
    /// # Errors
    /// [`DeadLettersError::NoQueue`], or the broker cannot be asked.
    pub async fn depth(&self) -> Result<u64, DeadLettersError> {
        let channel = self.channel().await?;
        let depth = walk::depth(&channel, &short("queue", &self.queue())?).await?;
        close(&channel).await;
        Ok(depth)
    }

    /// Shows each that is meant to `visit`, from the head of the queue on, and changes nothing. The broker counts
    /// the look in the header `x-delivery-count`.
    ///
    /// # Errors
    /// [`DeadLettersError::NoQueue`], or the broker ended it.
    pub async fn browse(
        &self,
        selection: &Selection,
        stop: &CancellationToken,
        mut visit: impl FnMut(DeadLetter) + Send,
    ) -> Result<Tally, DeadLettersError> {
        let queue = self.queue();
        let judge = |delivery| {
            let letter = self.read(delivery);
            if !selection.matches(&letter) {
                return Ok(Verdict::Pass);
            }
            visit(letter);
            Ok(Verdict::Look)
        };
        self.walk(&queue, selection, None, stop, None).run(judge, |_| {}).await
    }

    /// Sends each that is meant back to its work queue, where its attempts count anew; headers and body stay as they
    /// are. Between two it waits for `interval`, if given. `progress` hears after each message that was looked at.
    ///
    /// The broker moves them one after the other: the last may arrive a little after this returns. While the work
    /// queue is full, they wait with the broker.
    ///
    /// A lost message that still no queue takes stays where it is.
    ///
    /// # Errors
    /// [`DeadLettersError::Different`] before anything is moved when the queue would drop instead of move;
    /// [`DeadLettersError::NoQueue`], or the broker ended it.
    pub async fn replay(
        &self,
        selection: &Selection,
        interval: Option<Duration>,
        stop: &CancellationToken,
        progress: impl FnMut(&Tally) + Send,
    ) -> Result<Tally, DeadLettersError> {
        let queue = self.queue();
        let publisher = match &self.source {
            Source::Dead(name) => {
                self.check_way_back(name).await?;
                None
            }
            Source::Lost => Some(Publisher::new(self.link.clone())),
        };
        let judge = |delivery: Delivery| match &self.source {
            Source::Dead(_) => {
                Ok(if selection.matches(&self.read(delivery)) { Verdict::Reject } else { Verdict::Pass })
            }
            Source::Lost => {
                let (routing_key, properties) = (delivery.routing_key.clone(), delivery.properties.clone());
                let letter = self.read(delivery);
                if !selection.matches(&letter) {
                    return Ok(Verdict::Pass);
                }
                Ok(Verdict::Publish(Box::new(again::outgoing(&self.names, routing_key, &properties, letter.body)?)))
            }
        };
        let walked = self.walk(&queue, selection, interval, stop, publisher.clone()).run(judge, progress).await;
        if let Some(publisher) = publisher {
            publisher.close().await;
        }
        walked
    }

    /// Puts others in the place of those that are meant, with something changed about them: where the payload of a task
    /// was wrong, for one. Each is published and, once the broker has confirmed it, the old one is removed; a process
    /// killed in between leaves both. Lost messages are published as they would be by a replay, whatever `then` says.
    ///
    /// # Errors
    /// [`DeadLettersError::NoQueue`], [`DeadLettersError::TooLong`], or the broker ended it.
    pub async fn amend(
        &self,
        selection: &Selection,
        change: &Amendment,
        then: Amended,
        stop: &CancellationToken,
    ) -> Result<Tally, DeadLettersError> {
        let queue = self.queue();
        let publisher = Publisher::new(self.link.clone());
        let then = if matches!(self.source, Source::Lost) { Amended::Runs } else { then };
        let judge = |delivery: Delivery| {
            let properties = delivery.properties.clone();
            let letter = self.read(delivery);
            if !selection.matches(&letter) {
                return Ok(Verdict::Pass);
            }
            Ok(Verdict::Publish(Box::new(amend::outgoing(&self.names, &letter, &properties, change, then)?)))
        };
        let walked = self.walk(&queue, selection, None, stop, Some(publisher.clone())).run(judge, |_| {}).await;
        publisher.close().await;
        walked
    }

    /// Removes each that is meant, for good.
    ///
    /// # Errors
    /// [`DeadLettersError::NoQueue`], or the broker ended it.
    pub async fn purge(
        &self,
        selection: &Selection,
        stop: &CancellationToken,
        progress: impl FnMut(&Tally) + Send,
    ) -> Result<Tally, DeadLettersError> {
        let queue = self.queue();
        if selection.is_all() {
            return self.purge_all(&queue).await;
        }
        let judge =
            |delivery| Ok(if selection.matches(&self.read(delivery)) { Verdict::Remove } else { Verdict::Pass });
        self.walk(&queue, selection, None, stop, None).run(judge, progress).await
    }

    async fn purge_all(&self, queue: &str) -> Result<Tally, DeadLettersError> {
        let channel = self.channel().await?;
        let name = short("queue", queue)?;
        walk::depth(&channel, &name).await?;
        let purged = channel.queue_purge(name, QueuePurgeOptions::default()).await;
        let count = u64::from(purged.map_err(|error| interrupted(&error, 0))?);
        close(&channel).await;
        Ok(Tally { depth: count, seen: count, matched: count, settled: count, stopped: false })
    }

    fn walk<'a>(
        &'a self,
        queue: &'a str,
        selection: &Selection,
        interval: Option<Duration>,
        stop: &'a CancellationToken,
        publisher: Option<Publisher>,
    ) -> Walk<'a> {
        Walk { link: &self.link, queue, interval, most: selection.most(), stop, publisher }
    }

    fn read(&self, delivery: Delivery) -> DeadLetter {
        match &self.source {
            Source::Dead(queue) => DeadLetter::dead(queue.as_str(), &delivery.properties, delivery.data),
            Source::Lost => DeadLetter::lost(delivery.routing_key.as_str(), &delivery.properties, delivery.data),
        }
    }

    async fn channel(&self) -> Result<lapin::Channel, DeadLettersError> {
        Ok(self.link.channel().await?.1)
    }

    /// Makes sure that the dead-letter queue leads back to its work queue: in one that does not, a rejected message
    /// would be gone.
    async fn check_way_back(&self, queue: &QueueName) -> Result<(), DeadLettersError> {
        let name = queue.dead();
        let topology = Topology::new(&self.link.settings().namespace)?;
        let queues = topology.queue(queue.clone(), QueueSettings::default()).queues();
        let wanted = queues.into_iter().find(|queue| queue.name == name).map(|queue| argument_table(&queue.arguments));
        let channel = self.channel().await?;
        let name = short("queue", &name)?;
        // Declaring would create one that is not there.
        walk::depth(&channel, &name).await?;
        // The broker compares the arguments of a queue that is there with those of the declaration.
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare(name.clone(), durable, wanted.unwrap_or_default()).await {
            Ok(_) => {
                close(&channel).await;
                Ok(())
            }
            Err(error) if reply_code(&error) == Some(406) => {
                Err(DeadLettersError::Different { queue: name.to_string(), reason: reason(&error) })
            }
            Err(error) => Err(interrupted(&error, 0)),
        }
    }
}

/// A channel that does not close in an orderly way goes with its connection.
async fn close(channel: &lapin::Channel) {
    let _ = channel.close(200, lapin::types::ShortString::default()).await;
}
