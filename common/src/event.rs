//! What becomes of tasks, for whoever listens on `<namespace>.events`.
//!
//! Off unless a queue's setting or a task's header asks for it: see [`Tracking`]. Reporting never waits: [`Events`] has a
//! buffer of 8,192 events, publishes many in one message, and drops and counts what does not fit.

use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::UnixMillis,
    headers::Headers,
    link::{Publisher, spawn},
    metrics::{EventMetrics, Instruments},
    registry::{Instance, event},
    task::TaskId,
    topology::Names,
    wire::{DeadReason, header},
};

/// Events that may wait to be published.
const ROOM: usize = 8_192;
/// Events in one message.
const BATCH: usize = 256;
/// How long an event may wait for company.
const PATIENCE: Duration = Duration::from_millis(50);

/// Which tasks of a queue are reported on: the setting `events` of a queue.
///
/// As text: `off`, `full`, or `sampled:0.01` for that share of the tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tracking {
    /// Only those whose header `leveret-track` says `always`.
    #[default]
    Off,
    /// This share of them, from 0 to 1, and those whose header says so. A task is in it or not by its id, through all
    /// its attempts and at every worker.
    Sampled(f64),
    /// All.
    Full,
}

impl Tracking {
    /// Whether this task is reported on. Ask once per attempt. Of a task without headers, and with tracking off, this
    /// costs a comparison.
    pub fn follows(self, id: &TaskId, headers: &Headers) -> bool {
        let by_id = match self {
            Self::Off => false,
            Self::Sampled(share) => sample(id.as_str()) < share,
            Self::Full => true,
        };
        by_id || (!headers.is_empty() && headers.get_str(header::TRACK) == Some("always"))
    }
}

/// A number from 0 to 1 that follows from the id: FNV-1a, then mixed, for its high bits alone are poor.
fn sample(id: &str) -> f64 {
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

impl fmt::Display for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Sampled(share) => write!(f, "sampled:{share}"),
            Self::Full => f.write_str("full"),
        }
    }
}

impl FromStr for Tracking {
    type Err = InvalidTracking;
    fn from_str(text: &str) -> Result<Self, InvalidTracking> {
        match text {
            "off" => Ok(Self::Off),
            "full" => Ok(Self::Full),
            _ => text
                .strip_prefix("sampled:")
                .and_then(|share| share.trim().parse().ok())
                .filter(|share| (0.0..=1.0).contains(share))
                .map(Self::Sampled)
                .ok_or_else(|| InvalidTracking(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Tracking {
    type Error = InvalidTracking;
    fn try_from(text: String) -> Result<Self, InvalidTracking> {
        text.parse()
    }
}

impl From<Tracking> for String {
    fn from(tracking: Tracking) -> Self {
        tracking.to_string()
    }
}

/// A text does not say which tasks are reported on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} does not say which tasks to report on: write \"off\", \"full\", or \"sampled:0.01\" for one in a hundred"
)]
pub struct InvalidTracking(String);

/// How far a task is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What has been done, in units of the handler's own.
    pub cursor: u64,
    /// What there is to do, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What it is at, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// The task's id.
    pub id: TaskId,
    /// Its name.
    pub task: String,
    /// The queue that it came from.
    pub queue: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// When it happened.
    pub at: UnixMillis,
    /// The trace that the attempt belongs to, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub what: Happening,
}

/// What can happen to a task. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Happening {
    /// An attempt began.
    Started {
        /// How long the task waited since it was published or due, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waited_ms: Option<u64>,
    },
    /// Its handler said how far it is.
    Progress(Progress),
    /// It is done.
    Done {
        /// How long the attempt ran.
        ran_ms: u64,
    },
    /// The attempt failed, and there will be another.
    Failed {
        /// How long the attempt ran.
        ran_ms: u64,
        /// What kind of failure it was, as in `leveret-error-kind`.
        error_kind: String,
        /// What happened, for people.
        error: String,
        /// When it is tried again, at the earliest.
        retry_at: UnixMillis,
    },
    /// It became a dead letter.
    Dead {
        /// How long the attempt ran; none if it was not begun.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ran_ms: Option<u64>,
        /// Why, as in `leveret-dead-reason`.
        reason: DeadReason,
        /// What kind of failure it was.
        error_kind: String,
        /// What happened, for people.
        error: String,
    },
    /// It was cancelled.
    Cancelled {
        /// How long the attempt ran.
        ran_ms: u64,
        /// Why, if that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl Happening {
    const KEYS: [&str; 6] =
        ["task.started", "task.progress", "task.done", "task.failed", "task.dead", "task.cancelled"];

    /// The routing key at `<namespace>.events`.
    pub const fn routing_key(&self) -> &'static str {
        Self::KEYS[self.index()]
    }

    const fn index(&self) -> usize {
        match self {
            Self::Started { .. } => 0,
            Self::Progress(_) => 1,
            Self::Done { .. } => 2,
            Self::Failed { .. } => 3,
            Self::Dead { .. } => 4,
            Self::Cancelled { .. } => 5,
        }
    }
}

/// The body of a message of events: all of one kind, in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventBatch {
    /// The worker's name.
    pub worker: String,
    /// Its instance.
    pub instance: Instance,
    /// The events.
    pub events: Vec<TaskEvent>,
}

/// Reports on tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// There is something to publish.
    some: Notify,
    /// There is a whole batch to publish.
    many: Notify,
    dropped: AtomicU64,
    metrics: EventMetrics,
    closing: CancellationToken,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Buffer {
    events: Vec<TaskEvent>,
    /// Where the last progress of an attempt is among them, which a newer one replaces.
    progress: HashMap<(TaskId, u32), usize>,
}

impl Events {
    /// Begins to publish what is reported.
    pub fn start(publisher: Publisher, names: &Names, worker: &str, instance: Instance) -> Self {
        let events = Self(Arc::new(Shared {
            buffer: Mutex::default(),
            some: Notify::new(),
            many: Notify::new(),
            dropped: AtomicU64::new(0),
            metrics: Instruments::global().events(),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
        }));
        let sender = Sender { publisher, names: names.clone(), worker: worker.to_owned(), instance };
        let shared = events.0.clone();
        spawn(async move {
            let _ended = shared.ended.clone().drop_guard();
            sender.run(&shared).await;
        });
        events
    }

    /// Reports. Never waits: what does not fit is dropped and counted, and of the progress of one attempt the newest
    /// takes the place of one that has not been published yet.
    pub fn report(&self, event: TaskEvent) {
        let waiting = {
            let mut buffer = self.0.buffer.lock();
            if let Happening::Progress(_) = event.what {
                let key = (event.id.clone(), event.attempt);
                if let Some(at) = buffer.progress.get(&key).copied() {
                    if let Some(older) = buffer.events.get_mut(at) {
                        *older = event;
                    }
                    return;
                }
                let at = buffer.events.len();
                if at < ROOM {
                    buffer.progress.insert(key, at);
                }
            }
            if buffer.events.len() >= ROOM {
                drop(buffer);
                return self.0.dropped(1);
            }
            buffer.events.push(event);
            buffer.events.len()
        };
        match waiting {
            1 => self.0.some.notify_one(),
            BATCH => self.0.many.notify_one(),
            _ => {}
        }
    }

    /// How many events were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Publishes what is left, which takes at most the publish timeout, and ends.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.ended.cancelled().await;
    }
}

impl Shared {
    fn dropped(&self, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.dropped.fetch_add(events, Ordering::Relaxed);
        self.metrics.dropped(events);
    }

    fn take(&self) -> Vec<TaskEvent> {
        let mut buffer = self.buffer.lock();
        buffer.progress.clear();
        std::mem::take(&mut buffer.events)
    }
}

struct Sender {
    publisher: Publisher,
    names: Names,
    worker: String,
    instance: Instance,
}

impl Sender {
    async fn run(&self, shared: &Shared) {
        loop {
            tokio::select! {
                () = shared.some.notified() => {}
                () = shared.closing.cancelled() => return self.publish(shared).await,
            }
            tokio::select! {
                () = tokio::time::sleep(PATIENCE) => {}
                () = shared.many.notified() => {}
                () = shared.closing.cancelled() => {}
            }
            self.publish(shared).await;
        }
    }

    /// Publishes what is there, and waits for the confirms: so nothing piles up behind a broker that is slow but in the
    /// buffer, which is bounded.
    async fn publish(&self, shared: &Shared) {
        let mut kinds: [Vec<TaskEvent>; Happening::KEYS.len()] = Default::default();
        for event in shared.take() {
            kinds[event.what.index()].push(event);
        }
        let mut confirms = Vec::new();
        for (key, mut events) in Happening::KEYS.into_iter().zip(kinds) {
            while !events.is_empty() {
                let rest = events.split_off(events.len().min(BATCH));
                let (count, batch) = (events.len(), std::mem::replace(&mut events, rest));
                let batch = EventBatch { worker: self.worker.clone(), instance: self.instance, events: batch };
                let body = serde_json::to_vec(&batch).unwrap_or_default();
                let Ok(message) = event(&self.names, key, body, None) else {
                    shared.dropped(count);
                    continue;
                };
                match self.publisher.submit(message).await {
                    Ok(confirm) => confirms.push(async move { (count, confirm.await) }),
                    Err(_) => shared.dropped(count),
                }
            }
        }
        for (count, confirmed) in join_all(confirms).await {
            match confirmed {
                Ok(()) => shared.metrics.published(u64::try_from(count).unwrap_or(u64::MAX)),
                Err(_) => shared.dropped(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracking_is_read_and_sampled_by_id() {
        for text in ["off", "full", "sampled:0.01"] {
            assert_eq!(text.parse::<Tracking>().unwrap().to_string(), text);
        }
        for text in ["", "on", "sampled", "sampled:2", "sampled:-1", "sampled:NaN", "sampled:x"] {
            assert!(text.parse::<Tracking>().is_err(), "{text}");
        }
        let none = Headers::default();
        let followed = |tracking: Tracking| (0..10_000).filter(|_| tracking.follows(&TaskId::new(), &none)).count();
        assert_eq!((followed(Tracking::Off), followed(Tracking::Full)), (0, 10_000));
        let sampled = followed(Tracking::Sampled(0.1));
        assert!((800..1_200).contains(&sampled), "{sampled}");
        let mut always = Headers::default();
        always.insert(header::TRACK, "always").unwrap();
        assert!(Tracking::Off.follows(&TaskId::new(), &always));
    }

    #[test]
    fn an_event_is_what_the_contract_shows() {
        let event = TaskEvent {
            id: "order-17".parse().unwrap(),
            task: "mail.send".to_owned(),
            queue: "mail".to_owned(),
            attempt: 2,
            at: UnixMillis(7),
            trace_id: None,
            what: Happening::Progress(Progress { cursor: 3, total: Some(10), note: None }),
        };
        let wanted = serde_json::json!({
            "id": "order-17", "task": "mail.send", "queue": "mail", "attempt": 2, "at": 7,
            "event": "progress", "cursor": 3, "total": 10,
        });
        assert_eq!(serde_json::to_value(&event).unwrap(), wanted);
        assert_eq!(serde_json::from_value::<TaskEvent>(wanted).unwrap(), event);
    }
}
