//! What a worker says about itself: in full when it starts and when it is asked, in short with every beat.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock::UnixMillis, control::Pause, topology::QueueName};

/// How often a worker beats unless told otherwise.
pub const DEFAULT_BEAT: Duration = Duration::from_secs(2);

/// One start of a worker: a UUID. Two replicas of one name are two instances, and so is a worker that was started
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instance(Uuid);

impl Instance {
    /// A new one, sorted by the time it was made.
    #[allow(clippy::new_without_default, reason = "two calls give two instances; a default should not")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Instance {
    type Err = InvalidInstance;
    fn from_str(text: &str) -> Result<Self, InvalidInstance> {
        text.parse().map(Self).map_err(|_| InvalidInstance(text.chars().take(80).collect()))
    }
}

/// A text is no instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no instance of a worker: it is a UUID, as `leveret workers` lists it")]
pub struct InvalidInstance(String);

/// What a worker is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WorkerState {
    /// It takes tasks and runs them.
    #[default]
    Running,
    /// It takes no more tasks, and finishes those it has.
    Draining,
    /// It is stopping.
    Stopping,
    /// A state that this version does not know.
    #[serde(other)]
    Other,
}

impl WorkerState {
    /// The state as it goes over the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Other => "other",
        }
    }
}

/// One queue of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// The queue.
    pub queue: QueueName,
    /// Tasks that may run at once.
    pub concurrency: u32,
    /// Tasks that run now.
    pub busy: u32,
    /// Deliveries that may be here unsettled.
    pub prefetch: u32,
    /// Whether the broker delivers to the worker's consumer.
    pub attached: bool,
    /// How long ago the worker last took a delivery or stood ready to take one, in milliseconds. It grows while every
    /// runner is busy, and while the consumer is not attached.
    #[serde(default)]
    pub stalled_ms: u64,
    /// Why it is paused at this worker, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
}

impl QueueState {
    /// Tasks that could be begun at once. None while it is paused or not attached.
    pub fn free(&self) -> u32 {
        if self.attached && self.paused.is_none() { self.concurrency.saturating_sub(self.busy) } else { 0 }
    }
}

/// What a worker says every two seconds: all that changes, and enough to share out tasks by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The worker's name, which others may have as well.
    pub worker: String,
    /// The instance.
    pub instance: Instance,
    /// When it said so, by its own clock.
    pub at: UnixMillis,
    /// How long until it will say so again, in milliseconds.
    pub every_ms: u64,
    /// What it is doing.
    #[serde(default)]
    pub state: WorkerState,
    /// Its share relative to other workers, where tasks are shared out by weight. Default 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Its queues.
    #[serde(default)]
    pub queues: Vec<QueueState>,
}

impl Beat {
    /// Tasks that may run at once, in all queues.
    pub fn capacity(&self) -> u32 {
        self.queues.iter().fold(0, |sum, queue| sum.saturating_add(queue.concurrency))
    }

    /// Tasks that run now, in all queues.
    pub fn busy(&self) -> u32 {
        self.queues.iter().fold(0, |sum, queue| sum.saturating_add(queue.busy))
    }

    /// The worker's state of a queue, if it consumes from it.
    pub fn queue(&self, queue: &QueueName) -> Option<&QueueState> {
        self.queues.iter().find(|state| state.queue == *queue)
    }
}

/// What holds for a worker from its start to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct About {
    /// The host it runs on, if it knows.
    #[serde(default)]
    pub host: Option<String>,
    /// Its process id there.
    #[serde(default)]
    pub pid: u32,
    /// The version of Leveret.
    #[serde(default)]
    pub version: String,
    /// When it started.
    #[serde(default)]
    pub started_at: UnixMillis,
    /// The tasks that it has handlers for.
    #[serde(default)]
    pub tasks: Vec<TaskAbout>,
}

impl About {
    /// This process, started at `started_at`, with handlers for `tasks`.
    pub fn this_process(started_at: UnixMillis, tasks: Vec<TaskAbout>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|host| host.trim().to_owned());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { host, pid: std::process::id(), version, started_at, tasks }
    }
}

/// A task that a worker has a handler for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskAbout {
    /// Its name on the wire.
    pub name: String,
    /// The queue that it is published to by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The JSON Schema of its arguments, if the handler has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
}

/// All that a worker says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// What changes.
    #[serde(flatten)]
    pub beat: Beat,
    /// What does not.
    #[serde(flatten)]
    pub about: About,
}

fn one() -> u32 {
    1
}
