//! Tasks as they are answered.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::{moment::Moment, workers::view::ProgressView};
use crate::centre::store::{
    DelayedTask,
    tasks::{Task, TaskAttempt, TaskState},
};

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TaskState)]
pub(in super::super) enum State {
    /// The centre holds it until it is due.
    Scheduled,
    /// It waits in its queue.
    Published,
    /// An attempt runs.
    Running,
    /// An attempt failed, or put it off; another is to follow.
    Retrying,
    /// It succeeded.
    Done,
    /// It is a dead letter.
    Dead,
    /// It was cancelled.
    Cancelled,
    /// Its handler dropped it.
    Discarded,
}

impl From<TaskState> for State {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Scheduled => Self::Scheduled,
            TaskState::Published => Self::Published,
            TaskState::Running => Self::Running,
            TaskState::Retrying => Self::Retrying,
            TaskState::Done => Self::Done,
            TaskState::Dead => Self::Dead,
            TaskState::Cancelled => Self::Cancelled,
            TaskState::Discarded => Self::Discarded,
        }
    }
}

/// What is known of a task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(in super::super) struct View {
    /// Its id.
    id: String,
    /// Its namespace.
    namespace: String,
    /// Its name; empty for a message that named none.
    task: String,
    /// Its queue.
    queue: String,
    /// How far it is.
    state: State,
    /// Number of the last attempt; 0 before the first.
    attempt: u32,
    /// How often it was brought back from the dead.
    replays: u32,
    /// The worker of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// And its instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    instance: Option<String>,
    /// The schedule that made it, with its namespace unless that is the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// The time of the tick that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_at: Option<Moment>,
    /// Names and values to find it by.
    labels: BTreeMap<String, String>,
    /// The trace that it belongs to, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// When it was made, as far as that is known.
    created_at: Moment,
    /// When it is to run, or to run again, at the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<Moment>,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Moment>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Moment>,
    /// When something new was last learnt of it.
    changed_at: Moment,
    /// How long it waited before the last attempt, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ms: Option<u64>,
    /// How long the last attempt ran, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ran_ms: Option<u64>,
    /// What the handler last said about how far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView>,
    /// The result. Not in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    /// The size in bytes of a result that was too large to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_bytes: Option<u64>,
    /// Why it is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What kind of failure the last one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_kind: Option<String>,
    /// What went wrong last, or why it was cancelled, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When it was asked that it be cancelled, until it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_requested_at: Option<Moment>,
    /// And why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_reason: Option<String>,
    /// The last 16 attempts, the oldest first. Not in a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    attempts: Vec<Attempt>,
}

impl From<Task> for View {
    fn from(task: Task) -> Self {
        Self {
            id: task.id.to_string(),
            namespace: task.namespace,
            task: task.task,
            queue: task.queue,
            state: task.state.into(),
            attempt: task.attempt,
            replays: task.replays,
            worker: task.worker,
            instance: task.instance.map(|instance| instance.to_string()),
            schedule: task.schedule,
            scheduled_at: task.scheduled_at.map(Into::into),
            labels: task.labels,
            trace_id: task.trace_id,
            created_at: task.created_at.into(),
            due_at: task.due_at.map(Into::into),
            started_at: task.started_at.map(Into::into),
            ended_at: task.ended_at.map(Into::into),
            changed_at: task.changed_at.into(),
            waited_ms: task.waited_ms,
            ran_ms: task.ran_ms,
            progress: task.progress.map(Into::into),
            result: task.result,
            result_bytes: task.result_bytes,
            reason: task.reason,
            error_kind: task.error_kind,
            error: task.error,
            cancel_requested_at: task.cancel_requested_at.map(Into::into),
            cancel_reason: task.cancel_reason,
            attempts: task.attempts.into_iter().map(Into::into).collect(),
        }
    }
}

/// One attempt at a task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskAttempt)]
struct Attempt {
    /// Its number.
    attempt: u32,
    /// How often the task had been brought back from the dead by then.
    replays: u32,
    /// How it is, or how it ended.
    state: State,
    /// The worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// And its instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    instance: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Moment>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Moment>,
    /// How long the task had waited, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ms: Option<u64>,
    /// How long it ran, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ran_ms: Option<u64>,
    /// Why it became a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What kind of failure it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_kind: Option<String>,
    /// What went wrong, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When the next attempt may begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Moment>,
}

impl From<TaskAttempt> for Attempt {
    fn from(attempt: TaskAttempt) -> Self {
        Self {
            attempt: attempt.attempt,
            replays: attempt.replays,
            state: attempt.state.into(),
            worker: attempt.worker,
            instance: attempt.instance.map(|instance| instance.to_string()),
            started_at: attempt.started_at.map(Into::into),
            ended_at: attempt.ended_at.map(Into::into),
            waited_ms: attempt.waited_ms,
            ran_ms: attempt.ran_ms,
            reason: attempt.reason,
            error_kind: attempt.error_kind,
            error: attempt.error,
            retry_at: attempt.retry_at.map(Into::into),
        }
    }
}

/// A task that the centre holds until it is due.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DelayedTask)]
pub(super) struct Delayed {
    /// Its id.
    id: String,
    /// Its namespace.
    namespace: String,
    /// Its name.
    task: String,
    /// Its queue.
    queue: String,
    /// When it is published.
    due_at: Moment,
    /// When it was put here.
    created_at: Moment,
    /// Its arguments, if they are JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Value>,
}

impl From<DelayedTask> for Delayed {
    fn from(delayed: DelayedTask) -> Self {
        let message = delayed.message;
        Self {
            id: delayed.task_id.to_string(),
            namespace: delayed.namespace,
            task: message.task,
            queue: message.queue,
            due_at: delayed.due_at.into(),
            created_at: delayed.created_at.into(),
            arguments: serde_json::from_slice(&message.body).ok(),
        }
    }
}
