//! What a running worker has to offer so that it can be steered.

use std::{collections::BTreeMap, time::Duration};

use leveret_common::{
    control::{LimitChange, LimitReport, Pause, RunningTask},
    registry::WorkerState,
    task::TaskId,
    topology::QueueName,
};

/// A worker that can be steered.
///
/// Its functions are called on the runtime of the link, one after the other: they must not block. Those that are async
/// get five seconds. An error is a text for whoever sent the command.
pub trait Controlled: Send + Sync + 'static {
    /// What it is doing.
    fn state(&self) -> WorkerState;

    /// How its queues are.
    fn queues(&self) -> Vec<QueueReport>;

    /// Attempts that have ended, by outcome, as the metrics name them.
    fn finished(&self) -> BTreeMap<String, u64>;

    /// Events that were dropped for want of room.
    fn events_dropped(&self) -> u64;

    /// The tasks that run.
    fn running(&self) -> Vec<RunningTask>;

    /// Tells tasks to stop, and returns how many it has told.
    fn cancel(&self, which: &Which, reason: Option<&str>) -> usize;

    /// Begins none of these tasks from now on, for so long: a delivery of one of them ends as cancelled.
    fn revoke(&self, which: &Revoked, reason: Option<&str>, lasts: Duration);

    /// Takes no more tasks from a queue. What runs goes on, what was not begun goes back.
    fn pause(&self, queue: &QueueName, pause: &Pause) -> impl Future<Output = Result<(), String>> + Send;

    /// Takes tasks from a queue again.
    fn resume(&self, queue: &QueueName) -> impl Future<Output = Result<(), String>> + Send;

    /// Runs so many tasks of a queue at once from now on.
    fn set_concurrency(&self, queue: &QueueName, tasks: u16) -> impl Future<Output = Result<(), String>> + Send;

    /// The limits that it keeps to, in the order of their names.
    fn limits(&self) -> Vec<LimitReport>;

    /// Changes a limit.
    fn set_limit(&self, change: &LimitChange) -> impl Future<Output = Result<(), String>> + Send;

    /// Takes no more tasks, finishes those that run, and stays up.
    fn drain(&self);

    /// Begins to stop gracefully.
    fn stop(&self);
}

/// Which tasks are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Some by their ids.
    Ids(Revoked),
    /// Those of this name.
    Task(String),
}

impl Which {
    /// Whether a task is meant that was brought back from the dead letters so often.
    pub fn is_meant(&self, id: &TaskId, task: &str, replays: u32) -> bool {
        match self {
            Self::Ids(revoked) => revoked.ids.contains(id) && revoked.replays.is_none_or(|most| replays <= most),
            Self::Task(name) => name == task,
        }
    }
}

/// Tasks that are called off, by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The ids.
    pub ids: Vec<TaskId>,
    /// Those that were brought back from the dead letters so often at most; without it, any.
    pub replays: Option<u32>,
}

/// How a queue of the worker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReport {
    /// The queue.
    pub queue: QueueName,
    /// Tasks that may run at once.
    pub concurrency: u32,
    /// Tasks that run now.
    pub busy: u32,
    /// Deliveries that may be here unsettled.
    pub prefetch: u32,
    /// Whether the broker delivers to the consumer.
    pub attached: bool,
    /// Deliveries that runners have taken so far.
    pub taken: u64,
}
