//! What the worker says about itself: hello, a beat every two seconds, goodbye.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leveret_common::{
    clock::Clock,
    link::{Link, LinkState, Publisher},
    registry::{About, Announcement, Beat, Goodbye, Instance, QueueState, Word},
    topology::{Names, QueueName},
};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Controlled, pauses::Pauses};

/// Who the worker is.
#[derive(Clone, Debug)]
pub struct Who {
    /// Its name.
    pub name: String,
    /// Its instance.
    pub instance: Instance,
    /// Its share relative to other workers.
    pub weight: u32,
    /// The rest.
    pub about: About,
}

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// A runtime that has not come round for so long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Watches how the worker is, and says it.
#[derive(Debug)]
pub(super) struct Announcer<C> {
    pub(super) who: Who,
    pub(super) controlled: Arc<C>,
    pub(super) pauses: Arc<Pauses<C>>,
    pub(super) names: Names,
    pub(super) publisher: Publisher,
    pub(super) consume: Link,
    pub(super) clock: Clock,
    pub(super) every: Duration,
    /// Something has changed that others want to know at once.
    pub(super) news: Notify,
    pub(super) watched: Arc<Mutex<Watched>>,
}

/// What was seen of the worker so far.
#[derive(Debug)]
pub(super) struct Watched {
    queues: BTreeMap<QueueName, Seen>,
    looked: Instant,
}

impl Default for Watched {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), looked: Instant::now() }
    }
}

#[derive(Debug)]
struct Seen {
    /// Deliveries taken when that was last looked at.
    taken: u64,
    /// When it last took a delivery, or stood ready to.
    able: Instant,
    /// Since when it has not been subscribed although it should be.
    deaf: Option<Instant>,
}

impl<C: Controlled> Announcer<C> {
    /// The queues as they are.
    pub(super) fn queues(&self) -> Vec<QueueState> {
        let connected = matches!(self.consume.state(), LinkState::Up(_));
        let now = Instant::now();
        let mut watched = self.watched.lock();
        watched.looked = now;
        let reports = self.controlled.queues().into_iter();
        let states = reports.map(|report| {
            let paused = self.pauses.of(&report.queue);
            let seen = watched.queues.entry(report.queue.clone());
            let seen = seen.or_insert(Seen { taken: report.taken, able: now, deaf: None });
            let ready = report.attached && report.busy < report.concurrency;
            if ready || seen.taken != report.taken {
                (seen.able, seen.taken) = (now, report.taken);
            }
            let deaf = connected && !report.attached && paused.is_none();
            seen.deaf = deaf.then(|| seen.deaf.unwrap_or(now));
            QueueState {
                queue: report.queue,
                concurrency: report.concurrency,
                busy: report.busy,
                prefetch: report.prefetch,
                attached: report.attached,
                stalled_ms: u64::try_from((now - seen.able).as_millis()).unwrap_or(u64::MAX),
                paused,
            }
        });
        states.collect()
    }

    /// How the worker is.
    pub(super) fn beat(&self) -> Beat {
        Beat {
            worker: self.who.name.clone(),
            instance: self.who.instance,
            at: self.clock.now(),
            every_ms: u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX),
            state: self.controlled.state(),
            weight: self.who.weight,
            queues: self.queues(),
        }
    }

    /// All about the worker.
    pub(super) fn announcement(&self) -> Announcement {
        Announcement { beat: self.beat(), about: self.who.about.clone() }
    }

    /// Says hello, and beats until it is stopped; then goodbye.
    pub(super) async fn run(&self, stop: CancellationToken) {
        self.say(Word::Online, &self.announcement(), self.every).await;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.every) => {}
                () = self.news.notified() => {}
            }
            self.say(Word::Beat, &self.beat(), self.every).await;
        }
        let goodbye = Goodbye { worker: self.who.name.clone(), instance: self.who.instance };
        self.say(Word::Offline, &goodbye, GOODBYE).await;
    }

    /// What cannot be said in time is not said: the next beat will do. Nobody hears a beat when the next two are there.
    async fn say(&self, word: Word, body: &impl Serialize, patience: Duration) {
        let message = match word.message(&self.names, body, self.every * 3) {
            Ok(message) => message,
            Err(error) => return debug!("cannot say {}: {error}", word.routing_key()),
        };
        match tokio::time::timeout(patience, self.publisher.publish(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!("cannot say {}: {error}", word.routing_key()),
            Err(_) => debug!("cannot say {}: no confirm in time", word.routing_key()),
        }
    }
}

/// Whether a worker hears: what a liveness probe should ask. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Liveness {
    pub(super) watched: Arc<Mutex<Watched>>,
    pub(super) deaf_after: Duration,
}

impl Liveness {
    /// Whether a new start would help: a queue that is not paused has not been subscribed to for longer than
    /// `deaf_after`, although the connection is up, or the runtime of the link is stuck. A broker that is away is no
    /// such reason.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self) -> Result<(), String> {
        let now = Instant::now();
        let watched = self.watched.lock();
        if now - watched.looked > STUCK {
            return Err(format!(
                "the runtime of the link has not come round for {} s",
                (now - watched.looked).as_secs()
            ));
        }
        for (queue, seen) in &watched.queues {
            if let Some(since) = seen.deaf.filter(|since| now - *since >= self.deaf_after) {
                let seconds = (now - since).as_secs();
                return Err(format!("not subscribed to queue {:?} for {seconds} s", queue.as_str()));
            }
        }
        Ok(())
    }
}
