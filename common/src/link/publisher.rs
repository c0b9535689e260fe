//! Publishing with confirms: one task owns one channel, keeps a window of publishes on their way, and sends
//! again what a lost connection left unconfirmed.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{
    Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{ConnectError, Link, Live, PublishError, error::reason, error::reply_code, runtime};
use crate::{
    metrics::{Instruments, PublishMetrics, Published},
    wire::Outgoing,
};

/// Messages taken from the callers at a time: they are written to the socket in one piece.
const BATCH: usize = 64;
/// Bytes of large bodies that may wait here; a body under [`SMALL`] is bounded by the window alone.
const LARGE_BODIES: usize = 64 << 20;
const SMALL: usize = 4 << 10;
/// How often a message may be on a channel that the broker closes before it is held to be the cause.
const CLOSED_CHANNELS: u8 = 3;

/// Publishes messages and says of each whether the broker has it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    inbox: mpsc::Sender<Job>,
    timeout: Duration,
    numbers: Arc<AtomicU64>,
    /// Bytes that properties and headers together may have: they go in one frame.
    frame_max: usize,
    large: Arc<Semaphore>,
    metrics: Arc<PublishMetrics>,
    closing: CancellationToken,
    ended: CancellationToken,
}

#[derive(Debug)]
struct Job {
    message: Outgoing,
    answer: oneshot::Sender<Result<(), PublishError>>,
    /// Counts the messages of a publisher, so that they keep their order when they are sent again.
    number: u64,
    closed_channels: u8,
    _room: Option<OwnedSemaphorePermit>,
}

/// What identifies a returned message: lapin hands it over with whichever confirm comes next.
type ReturnKey = (String, String);

impl Publisher {
    /// A publisher on a link of its own.
    pub fn new(link: Link) -> Self {
        let settings = link.settings().clone();
        let (inbox, jobs) = mpsc::channel(settings.publish_window);
        let publisher = Self {
            inbox,
            timeout: settings.publish_timeout,
            frame_max: settings.limits().headers,
            numbers: Arc::default(),
            large: Arc::new(Semaphore::new(LARGE_BODIES)),
            metrics: Arc::new(Instruments::global().publish()),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        let window = settings.publish_window;
        let actor = Actor { link, jobs, waiting: VecDeque::new(), window, closing: publisher.closing.clone() };
        let ended = publisher.ended.clone();
        runtime::spawn(async move {
            let _ended = ended.drop_guard();
            actor.run().await;
        });
        publisher
    }

    /// Publishes and waits until the broker has confirmed. A caller that stops waiting takes the message back
    /// if it has not been sent yet.
    ///
    /// # Errors
    /// [`PublishError`]; of [`PublishError::Unconfirmed`] and [`PublishError::Closed`] nobody can say whether the
    /// broker has the message.
    pub async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        let answer = self.submit(message).await?;
        answer.await
    }

    /// Hands a message over, waiting for room; the returned future waits for the confirm. This way a caller can
    /// have many on their way.
    ///
    /// # Errors
    /// [`PublishError::Invalid`] when properties and headers do not fit into a frame, [`PublishError::Unconfirmed`]
    /// when there was no room in time, [`PublishError::Closed`].
    pub async fn submit(
        &self,
        message: Outgoing,
    ) -> Result<impl Future<Output = Result<(), PublishError>> + Send + 'static, PublishError> {
        message.check_headers(self.frame_max)?;
        let deadline = tokio::time::Instant::now() + self.timeout;
        let waited_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let (answer, answered) = oneshot::channel();
        let handing_over = async {
            let size = message.body.len();
            let room = if size < SMALL {
                None
            } else {
                let permits = u32::try_from(size.min(LARGE_BODIES)).unwrap_or(u32::MAX);
                Some(self.large.clone().acquire_many_owned(permits).await.map_err(|_| PublishError::Closed)?)
            };
            let place = self.inbox.reserve().await.map_err(|_| PublishError::Closed)?;
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            place.send(Job { message, answer, number, closed_channels: 0, _room: room });
            Ok::<_, PublishError>(())
        };
        let metrics = self.metrics.clone();
        match tokio::time::timeout_at(deadline, handing_over).await {
            Ok(handed_over) => handed_over?,
            Err(_) => {
                metrics.count(Published::Unconfirmed, 1);
                return Err(PublishError::Unconfirmed { waited_ms });
            }
        }
        Ok(async move {
            let result = match tokio::time::timeout_at(deadline, answered).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(PublishError::Closed),
                Err(_) => Err(PublishError::Unconfirmed { waited_ms }),
            };
            metrics.count(
                match &result {
                    Ok(()) => Published::Confirmed,
                    Err(PublishError::Unroutable { .. } | PublishError::NoExchange { .. }) => Published::Unroutable,
                    Err(PublishError::Unconfirmed { .. } | PublishError::Closed) => Published::Unconfirmed,
                    Err(_) => Published::Refused,
                },
                1,
            );
            result
        })
    }

    /// Takes no more messages, waits for the confirms of those it has, at most the publish timeout, and ends.
    pub async fn close(&self) {
        self.closing.cancel();
        let _ = tokio::time::timeout(self.timeout, self.ended.cancelled()).await;
    }
}

struct Actor {
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

impl Actor {
    async fn run(mut self) {
        loop {
            match self.open().await {
                Ok(Some((live, channel))) => match self.serve(&live, &channel).await {
                    End::Done => {
                        let _ =
                            tokio::time::timeout(Duration::from_secs(1), channel.close(200, "bye".into_short())).await;
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
            let channel = live.connection.create_channel().await?;
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
        let mut returned: HashMap<ReturnKey, usize> = HashMap::new();
        let mut taken = Vec::with_capacity(BATCH);
        let mut finished = Vec::with_capacity(self.window);
        let mut lost = false;
        let mut more = true;
        loop {
            while !lost && flight.len() < self.window {
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
                        note_return(outcome, &mut returned);
                    }
                    for (job, outcome) in finished.drain(..) {
                        lost |= self.answer(job, outcome, &mut returned).is_err();
                    }
                }
                count = self.jobs.recv_many(&mut taken, room), if more && !lost && room > 0 => {
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
        returned: &mut HashMap<ReturnKey, usize>,
    ) -> Result<(), lapin::Error> {
        match outcome {
            Ok(Confirmation::Ack(_)) => {
                let was_returned = !returned.is_empty() && take_return(&job.message, returned);
                let _ = job.answer.send(if was_returned { Err(unroutable(&job.message)) } else { Ok(()) });
                Ok(())
            }
            Ok(_) => {
                let _ = job.answer.send(Err(PublishError::Refused));
                Ok(())
            }
            Err(error) => {
                let exchange = job.message.exchange.as_str();
                let no_exchange = reply_code(&error) == Some(404);
                if no_exchange && reason(&error).contains(&format!("'{exchange}'")) {
                    let _ = job.answer.send(Err(PublishError::NoExchange { exchange: exchange.to_owned() }));
                    return Err(error);
                }
                // The broker names an exchange that is missing; messages for others had no part in it.
                if error.is_amqp_soft_error() && !no_exchange {
                    job.closed_channels += 1;
                }
                if job.closed_channels >= CLOSED_CHANNELS {
                    let _ = job.answer.send(Err(PublishError::Unacceptable { reason: reason(&error) }));
                } else {
                    self.waiting.push_back(job);
                }
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

fn note_return(outcome: &mut lapin::Result<Confirmation>, returned: &mut HashMap<ReturnKey, usize>) {
    let (Ok(Confirmation::Ack(carried)) | Ok(Confirmation::Nack(carried))) = outcome else {
        return;
    };
    if let Some(message) = carried.take() {
        let id = message.delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
        *returned.entry((id, message.delivery.routing_key.to_string())).or_default() += 1;
    }
}

fn take_return(message: &Outgoing, returned: &mut HashMap<ReturnKey, usize>) -> bool {
    let id = message.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
    let key = (id, message.routing_key.to_string());
    match returned.get_mut(&key) {
        None => false,
        Some(1) => returned.remove(&key).is_some(),
        Some(more) => {
            *more -= 1;
            true
        }
    }
}

fn unroutable(message: &Outgoing) -> PublishError {
    PublishError::Unroutable { exchange: message.exchange.to_string(), routing_key: message.routing_key.to_string() }
}

trait IntoShort {
    fn into_short(self) -> lapin::types::ShortString;
}

impl IntoShort for &'static str {
    fn into_short(self) -> lapin::types::ShortString {
        lapin::types::ShortString::try_new(self).unwrap_or_default()
    }
}
