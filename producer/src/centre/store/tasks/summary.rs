//! What follows from all that was learnt of a task: the columns of its row.

use leveret_common::{clock::UnixMillis, event::Progress};

use super::{
    RecordedState, Task, TaskAttempt, TaskState,
    life::{Attempt, End, How, Life},
};
use crate::plan::DEFAULT_NAMESPACE;

impl Life {
    /// The task as a whole.
    pub(super) fn summary(&self, changed_at: UnixMillis) -> Task {
        let last = self.attempts.last();
        let end = last.and_then(|attempt| attempt.end.as_ref());
        let recorded = self.recorded.as_ref();
        let state = last.map_or_else(|| recorded_state(self), Attempt::state);
        // What went wrong before is of interest until it has succeeded after all; it stays with its attempt.
        let failed = self.attempts.iter().rev().find_map(|attempt| attempt.end.as_ref().filter(|end| end.went_wrong()));
        let failed = failed.filter(|_| state != TaskState::Done);
        let cancelled = recorded.filter(|_| last.is_none() && state == TaskState::Cancelled);
        let replays = last.map_or(0, |attempt| attempt.replays);
        let cancel = self.cancel.as_ref().filter(|cancel| !state.is_ended() && replays <= cancel.replays);
        let due_at = match last {
            None => recorded.and_then(|recorded| recorded.due_at),
            Some(attempt) if state == TaskState::Retrying => attempt.retry_at(),
            Some(_) => None,
        };
        Task {
            id: self.id.clone(),
            namespace: self.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            task: self.task.clone(),
            queue: self.queue.clone(),
            state,
            attempt: last.map_or(0, |attempt| attempt.attempt),
            replays,
            worker: last.and_then(Attempt::worker).map(str::to_owned),
            instance: last.and_then(Attempt::instance),
            schedule: self.schedule.clone(),
            scheduled_at: self.scheduled_at,
            labels: self.labels.clone(),
            trace_id: self.trace_id.clone(),
            created_at: self.created_at(),
            due_at,
            started_at: last.and_then(Attempt::started_at),
            ended_at: match cancelled {
                Some(recorded) => Some(recorded.at),
                None => last.filter(|_| state.is_ended()).and_then(Attempt::ended_at),
            },
            changed_at,
            waited_ms: last.and_then(Attempt::waited_ms),
            ran_ms: last.and_then(Attempt::ran_ms),
            progress: last.and_then(|attempt| attempt.progress.as_ref()).map(|said| Progress {
                cursor: said.cursor,
                total: said.total,
                note: said.note.clone(),
            }),
            result: end.and_then(|end| end.result.as_deref()).and_then(|text| serde_json::from_str(text).ok()),
            result_bytes: end.and_then(|end| end.result_bytes),
            reason: failed.and_then(|end| end.reason.clone()),
            error_kind: failed.and_then(|end| end.error_kind.clone()),
            error: match cancelled {
                Some(recorded) => recorded.reason.clone(),
                None => failed.and_then(|end| end.error.clone()),
            },
            cancel_requested_at: cancel.map(|cancel| cancel.at),
            cancel_reason: cancel.and_then(|cancel| cancel.reason.clone()),
            attempts: self.attempts.iter().map(Attempt::summary).collect(),
        }
    }

    /// The result as JSON, if the last attempt had one.
    pub(super) fn result(&self) -> Option<&str> {
        self.attempts.last()?.end.as_ref()?.result.as_deref()
    }

    /// Puts back what [`result`](Self::result) was.
    pub(super) fn set_result(&mut self, result: Option<String>) {
        if let Some(end) = self.attempts.last_mut().and_then(|attempt| attempt.end.as_mut()) {
            end.result = result;
        }
    }
}

fn recorded_state(life: &Life) -> TaskState {
    match life.recorded.as_ref().map(|recorded| recorded.state) {
        Some(RecordedState::Scheduled) => TaskState::Scheduled,
        Some(RecordedState::Cancelled) => TaskState::Cancelled,
        Some(RecordedState::Published) | None => TaskState::Published,
    }
}

impl Attempt {
    pub(super) fn state(&self) -> TaskState {
        if let Some(end) = &self.end {
            return match end.how {
                How::Failed => TaskState::Retrying,
                How::Dead => TaskState::Dead,
                How::Discarded => TaskState::Discarded,
                How::Cancelled => TaskState::Cancelled,
                How::Done => TaskState::Done,
            };
        }
        let started = self.start.as_ref().map(|start| start.at);
        match &self.snooze {
            Some(snooze) if started.is_none_or(|started| started <= snooze.at) => TaskState::Retrying,
            _ => TaskState::Running,
        }
    }

    fn worker(&self) -> Option<&str> {
        let ended = self.end.as_ref().and_then(|end| end.worker.as_deref());
        ended.or_else(|| self.start.as_ref().map(|start| start.worker.as_str()))
    }

    fn instance(&self) -> Option<leveret_common::registry::Instance> {
        self.end.as_ref().and_then(|end| end.instance).or_else(|| self.start.as_ref().map(|start| start.instance))
    }

    fn started_at(&self) -> Option<UnixMillis> {
        let from_end = |end: &End| Some(UnixMillis(end.at.0.saturating_sub(i64::try_from(end.ran_ms?).ok()?)));
        self.start.as_ref().map(|start| start.at).or_else(|| self.end.as_ref().and_then(from_end))
    }

    /// The broker knows whole seconds only: its end may seem to be before the start.
    fn ended_at(&self) -> Option<UnixMillis> {
        let end = self.end.as_ref()?;
        let start = self.start.as_ref().filter(|_| end.worker.is_none());
        Some(start.map_or(end.at, |start| end.at.max(start.at)))
    }

    fn waited_ms(&self) -> Option<u64> {
        self.start.as_ref()?.waited_ms
    }

    fn ran_ms(&self) -> Option<u64> {
        match &self.end {
            Some(end) => end.ran_ms,
            None => self.snooze.as_ref().filter(|_| self.state() == TaskState::Retrying).map(|snooze| snooze.ran_ms),
        }
    }

    fn retry_at(&self) -> Option<UnixMillis> {
        match &self.end {
            Some(end) => end.retry_at,
            None => self.snooze.as_ref().map(|snooze| snooze.until),
        }
    }

    fn summary(&self) -> TaskAttempt {
        let (state, end) = (self.state(), self.end.as_ref());
        TaskAttempt {
            attempt: self.attempt,
            replays: self.replays,
            state,
            worker: self.worker().map(str::to_owned),
            instance: self.instance(),
            started_at: self.started_at(),
            ended_at: self.ended_at(),
            waited_ms: self.waited_ms(),
            ran_ms: self.ran_ms(),
            reason: end.and_then(|end| end.reason.clone()),
            error_kind: end.and_then(|end| end.error_kind.clone()),
            error: end.and_then(|end| end.error.clone()),
            retry_at: if state == TaskState::Retrying { self.retry_at() } else { None },
        }
    }
}

impl End {
    fn went_wrong(&self) -> bool {
        self.how != How::Done
    }
}
