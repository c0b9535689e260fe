//! Messages on their way: one task owns one confirm channel, keeps a window of publishes on it, and sends again
//! what a lost channel left unconfirmed.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    ConnectError, Link, Live, PublishError,
    error::{reason, reply_code},
    supervisor::own,
};
use crate::wire::Outgoing;

/// Messages taken from the callers at a time: they are written to the socket in one piece.
const BATCH: usize = 64;

/// A message, and the caller who waits to hear of it.
#[derive(Debug)]
pub(super) struct Job {
    message: Outgoing,
    answer: oneshot::Sender<Result<(), PublishError>>,
    /// Counts the messages of a publisher, so that they keep their order when they are sent again.
    number: u64,
    /// It was on a channel that the broker closed without saying over which message: it is sent alone next time.
    suspect: bool,
    _room: Option<OwnedSemaphorePermit>,
}

impl Job {
    /// `room` is what a large body takes up, given back with the answer.
    pub(super) fn new(
        message: Outgoing,
        answer: oneshot::Sender<Result<(), PublishError>>,
        number: u64,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { message, answer, number, suspect: false, _room: room }
    }
}

/// The messages of a publisher that the broker has not confirmed, and the channel that they are on.
pub(super) struct Flight {
    link: Link,
    jobs: mpsc::Receiver<Job>,
    /// Sent on a channel that is gone, not confirmed: to be sent again, in order.
    waiting: VecDeque<Job>,
    window: usize,
    closing: CancellationToken,
}

/// Why a channel is no longer served.
enum End {
    /// All is answered and no more will come.
    Done,
    /// The channel or its connection is gone.
    Lost,
}

impl Flight {
    pub(super) fn new(link: Link, jobs: mpsc::Receiver<Job>, window: usize, closing: CancellationToken) -> Self {
        Self { link, jobs, waiting: VecDeque::new(), window, closing }
    }

    /// Publishes until the publisher is closed, or all its handles are gone.
    pub(super) async fn run(mut self) {
        loop {
            match self.open().await {
                Ok(Some((live, channel))) => match self.serve(&live, &channel).await {
                    End::Done => {
                        let _ = tokio::time::timeout(Duration::from_secs(1), channel.close(200, own("bye"))).await;
                        return;
                    }
                    End::Lost => debug!(
                        waiting = self.waiting.len(),
                        "publishing channel lost, unconfirmed messages are sent again"
                    ),
                },
                Ok(None) => {}
                // Dropping the jobs answers every caller with `Closed`.
                Err(_) => return,
            }
            self.waiting.retain(|job| !job.answer.is_closed());
            // The confirms of a lost channel fail in no order; what is sent again is sent in the order it came.
            self.waiting.make_contiguous().sort_unstable_by_key(|job| job.number);
            if self.closing.is_cancelled() && self.waiting.is_empty() && self.jobs.is_empty() {
                return;
            }
        }
    }

    async fn open(&self) -> Result<Option<(Arc<Live>, Channel)>, ConnectError> {
        let live = self.link.live().await?;
        let opening = async {
            let channel = live.channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>(channel)
        };
        match tokio::time::timeout(self.link.settings().timeout, opening).await {
            Ok(Ok(channel)) => return Ok(Some((live, channel))),
            Ok(Err(error)) => debug!(reason = %reason(&error), "no publishing channel"),
            Err(_) => {
                warn!(host = %live.host, "the broker does not answer the request for a publishing channel");
            }
        }
        // A connection that is going down is soon gone; one that is up is asked again after a breath.
        tokio::select! {
            () = live.lost.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        Ok(None)
    }

    async fn serve(&mut self, live: &Live, channel: &Channel) -> End {
        let mut flight = FuturesUnordered::new();
        let mut returns = Returns::default();
        let mut taken = Vec::with_capacity(BATCH);
        let mut finished = Vec::with_capacity(self.window);
        let mut lost = false;
        let mut more = true;
        // A suspect is on its way, or waits for the channel to be empty.
        let mut alone = false;
        loop {
            alone &= !flight.is_empty();
            while !lost && !alone && flight.len() < self.window {
                alone = self.waiting.front().is_some_and(|job| job.suspect);
                if alone && !flight.is_empty() {
                    break;
                }
                let Some(job) = self.waiting.pop_front() else { break };
                flight.push(send(channel, job));
            }
            match (flight.is_empty(), lost, more) {
                (true, true, _) => return End::Lost,
                (true, false, false) => return End::Done,
                _ => {}
            }
            let room = self.window.saturating_sub(flight.len()).min(BATCH);
            tokio::select! {
                biased;
                Some(first) = flight.next() => {
                    // lapin hands a returned message to whichever confirm it resolves next, which is never later
                    // than the message's own. Wakers queue up in that order, so once everything that is ready has
                    // been taken, the return of each message among it is known. Twice, for `FuturesUnordered`
                    // may pause, out of fairness, before its queue is empty.
                    finished.push(first);
                    for _ in 0..2 {
                        while let Some(Some(next)) = flight.next().now_or_never() {
                            finished.push(next);
                        }
                    }
                    for (_, outcome) in &mut finished {
                        returns.note(outcome);
                    }
                    for (job, outcome) in finished.drain(..) {
                        lost |= self.answer(job, outcome, &mut returns).is_err();
                    }
                }
                count = self.jobs.recv_many(&mut taken, room), if more && !lost && !alone && room > 0 => {
                    more = count > 0;
                    let wanted = taken.drain(..).filter(|job| !job.answer.is_closed());
                    flight.extend(wanted.map(|job| send(channel, job)));
                }
                () = self.closing.cancelled(), if !self.jobs.is_closed() => self.jobs.close(),
                () = live.lost.cancelled(), if flight.is_empty() => return End::Lost,
            }
        }
    }

    /// Answers a caller, or keeps the job to send it again.
    fn answer(
        &mut self,
        mut job: Job,
        outcome: lapin::Result<Confirmation>,
        returns: &mut Returns,
    ) -> Result<(), lapin::Error> {
        match outcome {
            Ok(Confirmation::Ack(_)) => {
                let was_returned = returns.take(&job.message);
                let _ = job.answer.send(if was_returned { Err(unroutable(&job.message)) } else { Ok(()) });
                Ok(())
            }
            Ok(_) => {
                let _ = job.answer.send(Err(PublishError::Refused));
                Ok(())
            }
            Err(error) => {
                let exchange = job.message.exchange.to_string();
                let reason = reason(&error);
                let named = reason.contains(&format!("'{exchange}'"));
                // The broker names the exchange at fault; messages for others had no part in it. A topic is refused
                // to one message alone, which the broker does not name.
                let exchange_fault = match reply_code(&error) {
                    Some(404) => Some(PublishError::NoExchange { exchange }),
                    Some(403) if !reason.contains("access to topic") => {
                        Some(PublishError::Forbidden { exchange, reason: reason.clone() })
                    }
                    _ => None,
                };
                match exchange_fault {
                    Some(fault) if named => {
                        let _ = job.answer.send(Err(fault));
                        return Err(error);
                    }
                    Some(_) => {}
                    None if error.is_amqp_soft_error() && job.suspect => {
                        // It was alone on the channel.
                        let _ = job.answer.send(Err(PublishError::Unacceptable { reason }));
                        return Err(error);
                    }
                    None => job.suspect |= error.is_amqp_soft_error(),
                }
                self.waiting.push_back(job);
                Err(error)
            }
        }
    }
}

/// Writes one message and waits for its confirm; the job comes back with the outcome.
async fn send(channel: &Channel, job: Job) -> (Job, lapin::Result<Confirmation>) {
    let message = &job.message;
    let options = BasicPublishOptions { mandatory: message.mandatory, ..Default::default() };
    let written = channel
        .basic_publish(
            message.exchange.clone(),
            message.routing_key.clone(),
            options,
            &message.body,
            message.properties.clone(),
        )
        .await;
    let outcome = match written {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    (job, outcome)
}

/// Messages that the broker has returned and not yet confirmed. lapin hands a return over with whichever confirm
/// comes next, so each is known by the message's id and routing key; two publishes of one id count twice.
#[derive(Default)]
struct Returns(HashMap<(String, String), usize>);

impl Returns {
    fn key(properties: &BasicProperties, routing_key: &ShortString) -> (String, String) {
        let id = properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
        (id, routing_key.to_string())
    }

    fn note(&mut self, outcome: &mut lapin::Result<Confirmation>) {
        if let Ok(Confirmation::Ack(carried) | Confirmation::Nack(carried)) = outcome
            && let Some(message) = carried.take()
        {
            let delivery = &message.delivery;
            *self.0.entry(Self::key(&delivery.properties, &delivery.routing_key)).or_default() += 1;
        }
    }

    /// Whether the message was returned; that return is then used up.
    fn take(&mut self, message: &Outgoing) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let Entry::Occupied(mut returned) = self.0.entry(Self::key(&message.properties, &message.routing_key)) else {
            return false;
        };
        match returned.get_mut() {
            1 => drop(returned.remove()),
            more => *more -= 1,
        }
        true
    }
}

fn unroutable(message: &Outgoing) -> PublishError {
    PublishError::Unroutable { exchange: message.exchange.to_string(), routing_key: message.routing_key.to_string() }
}
