//! Workers as they are answered.

use std::{collections::BTreeMap, sync::Arc};

use leveret_common::{
    control::{Answer, Outcome, Pause, Reply, RunningTask, WorkerStats},
    event::Progress,
    registry::{Peer, Presence, QueueState, WorkerState},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::moment::Moment;

/// Whether a worker is alive.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum WorkerPresence {
    /// It beats.
    Live,
    /// It has missed three beats.
    Lost,
    /// It said goodbye.
    Offline,
}

impl From<Presence> for WorkerPresence {
    fn from(presence: Presence) -> Self {
        match presence {
            Presence::Live => Self::Live,
            Presence::Lost => Self::Lost,
            Presence::Offline => Self::Offline,
        }
    }
}

/// Why a queue is paused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PauseView {
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Who wanted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Moment>,
    /// Whether it is paused at every worker.
    everywhere: bool,
}

impl From<Pause> for PauseView {
    fn from(pause: Pause) -> Self {
        Self { reason: pause.reason, by: pause.by, since: pause.since.map(Into::into), everywhere: pause.everywhere }
    }
}

/// One queue of a worker.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkerQueue {
    /// The queue.
    queue: String,
    /// Tasks that may run at once.
    concurrency: u32,
    /// Tasks that run now.
    busy: u32,
    /// Deliveries that may be there unsettled.
    prefetch: u32,
    /// Whether the broker delivers to it.
    attached: bool,
    /// How long ago it last took a delivery or stood ready to, in milliseconds.
    stalled_ms: u64,
    /// Why it is paused at this worker; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<PauseView>,
}

impl From<QueueState> for WorkerQueue {
    fn from(state: QueueState) -> Self {
        Self {
            queue: state.queue.to_string(),
            concurrency: state.concurrency,
            busy: state.busy,
            prefetch: state.prefetch,
            attached: state.attached,
            stalled_ms: state.stalled_ms,
            paused: state.paused.map(Into::into),
        }
    }
}

/// A worker as it was last heard of.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Worker {
    /// Its name, which others may have as well.
    worker: String,
    /// This one start of it.
    #[schema(format = Uuid)]
    instance: String,
    /// Whether it is alive.
    presence: WorkerPresence,
    /// What it is doing: `running`, `draining` or `stopping`.
    state: &'static str,
    /// When it was last heard.
    heard_at: Moment,
    /// How often it beats, in milliseconds.
    every_ms: u64,
    /// Its share where tasks are shared out by weight.
    weight: u32,
    /// Its queues.
    queues: Vec<WorkerQueue>,
    /// Its host, as far as that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Its process there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// Its version of Leveret.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Moment>,
    /// The tasks that it has handlers for.
    tasks: Vec<String>,
}

impl From<&Arc<Peer>> for Worker {
    fn from(peer: &Arc<Peer>) -> Self {
        let (beat, about) = (peer.beat.clone(), peer.about.clone());
        Self {
            worker: beat.worker,
            instance: beat.instance.to_string(),
            presence: peer.presence.into(),
            state: beat.state.as_str(),
            heard_at: peer.heard_at.into(),
            every_ms: beat.every_ms,
            weight: beat.weight,
            queues: beat.queues.into_iter().map(Into::into).collect(),
            pid: about.as_ref().map(|about| about.pid),
            version: about.as_ref().map(|about| about.version.clone()),
            started_at: about.as_ref().map(|about| about.started_at.into()),
            tasks: about.iter().flat_map(|about| &about.tasks).map(|task| task.name.clone()).collect(),
            host: about.and_then(|about| about.host),
        }
    }
}

/// What a worker has done since its start.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    /// What it is doing.
    #[schema(value_type = String, example = "running")]
    state: WorkerState,
    /// When it started.
    started_at: Moment,
    /// Attempts that ended, by outcome: `done`, `retried`, `snoozed`, `dead`, `discarded`, `given_back`.
    finished: BTreeMap<String, u64>,
    /// Events that were dropped because they came faster than they could be published.
    events_dropped: u64,
    /// Its queues.
    queues: Vec<WorkerQueue>,
}

impl From<WorkerStats> for Stats {
    fn from(stats: WorkerStats) -> Self {
        Self {
            state: stats.state,
            started_at: stats.started_at.into(),
            finished: stats.finished,
            events_dropped: stats.events_dropped,
            queues: stats.queues.into_iter().map(Into::into).collect(),
        }
    }
}

/// How far a task is.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ProgressView {
    /// What has been done, in units of the handler's own.
    cursor: u64,
    /// What there is to do, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// What it is at, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl From<Progress> for ProgressView {
    fn from(progress: Progress) -> Self {
        Self { cursor: progress.cursor, total: progress.total, note: progress.note }
    }
}

/// A task that runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Running {
    /// Its id.
    id: String,
    /// Its name.
    task: String,
    /// The queue that it came from.
    queue: String,
    /// Number of the attempt.
    attempt: u32,
    /// When the attempt began.
    since: Moment,
    /// How far it is, if its handler has said.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView>,
}

impl From<RunningTask> for Running {
    fn from(task: RunningTask) -> Self {
        Self {
            id: task.id.to_string(),
            task: task.task,
            queue: task.queue.to_string(),
            attempt: task.attempt,
            since: task.since.into(),
            progress: task.progress.map(Into::into),
        }
    }
}

/// The tasks that run at a worker.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunningTasks {
    /// Those that have run longest, at most 1,000.
    pub(super) tasks: Vec<Running>,
    /// How many there are.
    pub(super) total: usize,
}

/// What a worker made of a command.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Steered {
    /// Its name.
    worker: String,
    /// This one start of it.
    #[schema(format = Uuid)]
    instance: String,
    /// Why it was not carried out; absent when it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) refused: Option<String>,
    /// What there is to say about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl From<Reply> for Steered {
    fn from(reply: Reply) -> Self {
        let (refused, note) = match reply.outcome {
            Outcome::Refused(refusal) => (Some(refusal.text), None),
            Outcome::Answer(Answer::StillPaused { pause }) => (None, Some(format!("still {pause}"))),
            Outcome::Answer(_) => (None, None),
        };
        Self { worker: reply.worker, instance: reply.instance.to_string(), refused, note }
    }
}
