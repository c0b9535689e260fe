//! Publishing with confirms: what callers hold. The messages on their way are in `flight.rs`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Link, LinkState, PublishError,
    flight::{Flight, Job},
    runtime,
};
use crate::{
    metrics::{Instruments, PublishMetrics, Published},
    wire::Outgoing,
};

/// Bytes of large bodies that may wait here; a body under [`SMALL`] is bounded by the window alone.
const LARGE_BODIES: usize = 64 << 20;
const SMALL: usize = 4 << 10;

/// Publishes messages and says of each whether the broker has it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    inbox: mpsc::Sender<Job>,
    timeout: Duration,
    numbers: Arc<AtomicU64>,
    /// Bytes that properties and headers together may have: they go in one frame.
    frame_max: usize,
    large: Arc<Semaphore>,
    account: Arc<Account>,
    closing: CancellationToken,
    ended: CancellationToken,
}

/// What is needed to say how a publish ended.
#[derive(Debug)]
struct Account {
    metrics: PublishMetrics,
    link: Link,
    timeout: Duration,
}

impl Account {
    fn unconfirmed(&self) -> PublishError {
        let why = match self.link.state() {
            LinkState::Up(live) => {
                live.blocked.borrow().as_ref().map(|why| format!("it has blocked publishing: {why}"))
            }
            LinkState::Down(error) => error.map(|error| error.to_string()),
            LinkState::Closed(error) => Some(error.to_string()),
        };
        PublishError::Unconfirmed { waited_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX), why }
    }

    fn count<T>(&self, result: &Result<T, PublishError>) {
        let outcome = match result {
            Ok(_) => Published::Confirmed,
            Err(PublishError::Unroutable { .. } | PublishError::NoExchange { .. }) => Published::Unroutable,
            Err(PublishError::Unconfirmed { .. } | PublishError::Closed) => Published::Unconfirmed,
            Err(_) => Published::Refused,
        };
        self.metrics.count(outcome, 1);
    }
}

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
            account: Arc::new(Account {
                metrics: Instruments::global().publish(),
                link: link.clone(),
                timeout: settings.publish_timeout,
            }),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        let window = settings.publish_window;
        let flight = Flight::new(link, jobs, window, publisher.closing.clone());
        let ended = publisher.ended.clone();
        runtime::spawn(async move {
            let _ended = ended.drop_guard();
            flight.run().await;
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
            place.send(Job::new(message, answer, number, room));
            Ok::<_, PublishError>(())
        };
        let account = self.account.clone();
        match tokio::time::timeout_at(deadline, handing_over).await {
            Ok(handed_over) => handed_over?,
            Err(_) => {
                let late = Err(account.unconfirmed());
                account.count(&late);
                return late;
            }
        }
        Ok(async move {
            let result = match tokio::time::timeout_at(deadline, answered).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(PublishError::Closed),
                Err(_) => Err(account.unconfirmed()),
            };
            account.count(&result);
            result
        })
    }

    /// Takes no more messages, waits for the confirms of those it has, at most the publish timeout, and ends.
    pub async fn close(&self) {
        self.closing.cancel();
        let _ = tokio::time::timeout(self.timeout, self.ended.cancelled()).await;
    }
}
