//! The relay: publishes what stands in the outbox, and removes what the broker has confirmed.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join};
use leveret_common::{
    client::Client,
    clock::{Clock, UnixMillis},
    link::PublishError,
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    hold::Held,
    row::{Row, Rows},
};

/// What is not removed yet is passed over for this long; then the table is looked through from its beginning, where a
/// transaction that took its time may have left rows.
const LOOK_BACK: Duration = Duration::from_secs(1);
/// After a failure of the database or of the broker.
const BREATH: Duration = Duration::from_secs(1);

/// A relay that has not been started. Made by `PostgresOutbox::relay` or `SqliteOutbox::relay`.
///
/// Any number of relays may be started for one outbox: one works at a time, and when it dies another takes its place
/// once its lease is over.
#[must_use = "nothing is published until it is started"]
pub struct Relay {
    client: Client,
    rows: Arc<dyn Rows>,
    holder: String,
    batch: u32,
    poll: Duration,
    lease: Duration,
}

impl Relay {
    pub(super) fn new(client: Client, rows: Arc<dyn Rows>) -> Self {
        Self {
            client,
            rows,
            holder: uuid::Uuid::new_v4().to_string(),
            batch: 1_000,
            poll: Duration::from_millis(100),
            lease: Duration::from_secs(5),
        }
    }

    /// Sets how many messages are on their way at once, and so how many may be published again after a crash.
    /// Default 1,000; at least 1.
    pub fn batch(mut self, messages: u32) -> Self {
        self.batch = messages.max(1);
        self
    }

    /// Sets how often an empty outbox is looked at. Default 100 ms.
    pub fn poll(mut self, every: Duration) -> Self {
        self.poll = every;
        self
    }

    /// Sets after how long without a sign of life another relay takes over. Default 5 s. The clocks of their machines
    /// have to agree to well within that.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Starts it on the current runtime of tokio.
    pub fn start(self) -> RunningRelay {
        let (leading, is_leading) = watch::channel(false);
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.run(stop.clone(), leading));
        RunningRelay { stop, task, is_leading }
    }

    fn clock(&self) -> &Clock {
        self.rows.clock()
    }

    async fn pause(&self, length: Duration) {
        self.clock().sleep_until(self.clock().now() + length).await;
    }

    async fn run(self, stop: CancellationToken, leading: watch::Sender<bool>) {
        while !stop.is_cancelled() {
            match self.lead().await {
                Ok(true) => {
                    debug!(relay = %self.holder, "this relay publishes the outbox");
                    leading.send_replace(true);
                    tokio::select! {
                        () = self.publish(&stop) => {}
                        () = self.keep_leading() => {
                            warn!(relay = %self.holder, "another relay of the outbox has taken over");
                        }
                    }
                    leading.send_replace(false);
                    continue;
                }
                Ok(false) => {}
                Err(error) => warn!(%error, "the outbox cannot be read; trying again"),
            }
            tokio::select! {
                () = self.pause(self.lease / 5) => {}
                () = stop.cancelled() => {}
            }
        }
        if let Err(error) = self.rows.resign(&self.holder).await {
            debug!(%error, "the next relay of the outbox has to wait for the lease");
        }
    }

    async fn lead(&self) -> sqlx::Result<bool> {
        self.rows.lead(&self.holder, self.clock().now() + self.lease).await
    }

    /// Renews the lease; ends when it is another's.
    async fn keep_leading(&self) {
        let mut ends_at = self.clock().now() + self.lease;
        loop {
            self.pause(self.lease / 4).await;
            let now = self.clock().now();
            match self.lead().await {
                Ok(true) => ends_at = now + self.lease,
                Ok(false) => return,
                Err(_) if self.clock().now() >= ends_at => return,
                Err(error) => debug!(%error, "the lease of the outbox was not renewed; trying again"),
            }
        }
    }

    /// Publishes batch after batch until it is stopped. While one is on its way, the next is read.
    async fn publish(&self, stop: &CancellationToken) {
        let mut held = Held::default();
        // Dead rows lie at the head of the table until the database has cleared them away: reading on from where the
        // last batch ended passes them over.
        let mut after = i64::MIN;
        let mut looked_back = self.clock().now();
        let mut ahead = None;
        while !stop.is_cancelled() {
            let now = self.clock().now();
            if now.since(looked_back) >= LOOK_BACK {
                after = i64::MIN;
            }
            if after == i64::MIN {
                looked_back = now;
                ahead = None;
            }
            let rows = match ahead.take() {
                Some(rows) => rows,
                None => self.read(after, &held.names(now)).await,
            };
            let rows = match rows {
                Ok(rows) => rows,
                Err(error) => {
                    warn!(%error, "the outbox cannot be read; trying again");
                    self.rest(stop, now + BREATH).await;
                    continue;
                }
            };
            let Some(last) = rows.last().map(|row| row.position) else {
                if after == i64::MIN {
                    let until = now + self.poll;
                    self.rest(stop, held.next_try(now).map_or(until, |next| next.min(until))).await;
                }
                after = i64::MIN;
                continue;
            };
            after = last;
            let (settled, read) = if held.is_empty() {
                join(self.settle(rows, &mut held), self.read(after, &[]).map(Some)).await
            } else {
                (self.settle(rows, &mut held).await, None)
            };
            // What was read ahead may be for a queue that is held by now.
            ahead = read.filter(|_| held.is_empty());
            if !settled {
                after = i64::MIN;
                self.rest(stop, self.clock().now() + BREATH).await;
            }
        }
    }

    async fn read(&self, after: i64, less: &[&str]) -> sqlx::Result<Vec<Row>> {
        self.rows.next(after, less, i64::from(self.batch)).await
    }

    async fn rest(&self, stop: &CancellationToken, until: UnixMillis) {
        tokio::select! {
            () = self.clock().sleep_until(until) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Publishes these rows and removes those that the broker has. `false` when it would be of no use to go on at once.
    async fn settle(&self, rows: Vec<Row>, held: &mut Held) -> bool {
        let mut places = Vec::with_capacity(rows.len());
        let mut messages = Vec::with_capacity(rows.len());
        let mut useless = Vec::new();
        for Row { position, queue, message } in rows {
            match message {
                Ok(message) => {
                    places.push((position, queue));
                    messages.push(message);
                }
                Err(reason) => useless.push((position, reason)),
            }
        }
        let ends = self.client.publish_many(messages).await;
        let now = self.clock().now();
        let mut confirmed = Vec::with_capacity(places.len());
        let mut passing = None;
        for ((position, queue), end) in places.into_iter().zip(ends) {
            match end {
                Ok(_) => {
                    held.free(&queue);
                    confirmed.push(position);
                }
                Err(reason @ (PublishError::Unroutable { .. } | PublishError::Refused)) => {
                    if let Some(pause) = held.hold(&queue, now) {
                        warn!(%queue, ?pause, "messages of the outbox are held back: {reason}");
                    }
                }
                Err(reason @ (PublishError::Invalid(_) | PublishError::Unacceptable { .. })) => {
                    useless.push((position, reason.to_string()));
                }
                // Not the message's fault: the broker is away, or lacks the exchange or the permission.
                Err(reason) => passing = Some(reason),
            }
        }
        if let Some(reason) = &passing {
            warn!("the outbox cannot be published; trying again: {reason}");
        }
        let mut done = self.rows.remove(&confirmed).await;
        for (position, reason) in useless {
            error!(position, "a message of the outbox is parked: {reason}");
            done = done.and(self.rows.park(position, &reason).await);
        }
        if let Err(error) = &done {
            warn!(%error, "messages of the outbox were published and not removed: they will be published again");
        }
        passing.is_none() && done.is_ok()
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("holder", &self.holder).field("batch", &self.batch).finish_non_exhaustive()
    }
}

/// A relay at work, or ready to take over. Dropping it ends it where it stands, which loses nothing, but makes the
/// next one wait for the lease and publish again what was on its way.
#[derive(Debug)]
pub struct RunningRelay {
    stop: CancellationToken,
    task: JoinHandle<()>,
    is_leading: watch::Receiver<bool>,
}

impl RunningRelay {
    /// Whether it is the one that works.
    pub fn is_leading(&self) -> bool {
        *self.is_leading.borrow()
    }

    /// Waits for what is on its way, at most the publish timeout, removes it, and leaves the place to others.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if (&mut self.task).await.is_err() {
            info!("the relay of the outbox had ended before it was stopped");
        }
    }
}

impl Drop for RunningRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
