//! All that was learnt of a task, joined in a way in which neither order nor repetition matters: each part takes the
//! greatest of what was said about it, so that centres that hear the same things in any order come to the same row.

use std::collections::BTreeMap;

use leveret_common::{
    clock::UnixMillis,
    event::{Happening, Progress, TaskEvent},
    registry::Instance,
    task::TaskId,
};
use serde::{Deserialize, Serialize};

use super::{RecordedState, Task, TaskRecord, Told};

/// Attempts that are remembered: the highest, so that which they are does not depend on the order either.
const ATTEMPTS: usize = 16;
/// Labels that are remembered: the first by name.
const LABELS: usize = 32;
/// Bytes of an error, and of any other text.
const LONGEST_ERROR: usize = 2 << 10;
const LONGEST_TEXT: usize = 255;

/// All that was learnt of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    #[serde(skip, default = "TaskId::new")]
    pub(super) id: TaskId,
    /// Whether it is of interest only if the task is known by something else.
    #[serde(skip)]
    pub(super) only_known: bool,
    pub(super) task: String,
    pub(super) queue: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schedule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scheduled_at: Option<UnixMillis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trace_id: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
    /// What the centre that published it says; and since when workers say something of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) recorded: Option<Recorded>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made_at: Option<UnixMillis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seen_at: Option<UnixMillis>,
    /// Whether somebody wants it cancelled: the last of those who do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cancel: Option<Cancel>,
    /// In the order of replays and numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) attempts: Vec<Attempt>,
}

/// What the centre says. The later state counts; of one state, what was said last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Recorded {
    pub(super) state: RecordedState,
    pub(super) at: UnixMillis,
    pub(super) due_at: Option<UnixMillis>,
    pub(super) reason: Option<String>,
}

/// That it is to be cancelled in the life that it had then: what is brought back from the dead letters lives anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Cancel {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) replays: u32,
    pub(super) at: UnixMillis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// What workers say of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) replays: u32,
    pub(super) attempt: u32,
    /// Begun more than once when a worker was lost, or the handler put it off: the last counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<Start>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) snooze: Option<Snooze>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) progress: Option<Said>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<End>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) at: UnixMillis,
    pub(super) waited_ms: Option<u64>,
    pub(super) worker: String,
    pub(super) instance: Instance,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Snooze {
    pub(super) at: UnixMillis,
    pub(super) until: UnixMillis,
    pub(super) ran_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) at: UnixMillis,
    pub(super) cursor: u64,
    pub(super) total: Option<u64>,
    pub(super) note: Option<String>,
}

/// How an attempt ended. If there were two of one number, for the task was published twice, the better end counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) how: How,
    pub(super) at: UnixMillis,
    pub(super) ran_ms: Option<u64>,
    /// None if the broker ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) worker: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<Instance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry_at: Option<UnixMillis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error_kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result_bytes: Option<u64>,
    /// As JSON. It has a column of its own.
    #[serde(skip)]
    pub(super) result: Option<String>,
}

/// In the order of their ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum How {
    Failed,
    Dead,
    Discarded,
    Cancelled,
    Done,
}

impl Life {
    fn new(id: &TaskId, task: &str, queue: &str) -> Self {
        Self {
            id: id.clone(),
            only_known: false,
            task: cut(task, LONGEST_TEXT),
            queue: cut(queue, LONGEST_TEXT),
            namespace: None,
            schedule: None,
            scheduled_at: None,
            trace_id: None,
            labels: BTreeMap::new(),
            recorded: None,
            made_at: None,
            seen_at: None,
            cancel: None,
            attempts: Vec::new(),
        }
    }

    /// What an event says.
    pub(super) fn told(told: &Told) -> Self {
        let event = &told.event;
        let mut life = Self::new(&event.id, &event.task, &event.queue);
        let schedule = event.schedule.as_deref().map(|schedule| cut(schedule, LONGEST_TEXT));
        life.namespace = schedule.as_deref().and_then(|name| name.split_once('/')).map(|(space, _)| space.to_owned());
        life.schedule = schedule;
        life.scheduled_at = event.scheduled_at;
        life.trace_id = event.trace_id.as_deref().map(|trace| cut(trace, LONGEST_TEXT));
        life.labels = labels(&event.labels);
        life.seen_at = Some(match &event.what {
            Happening::Started { waited_ms: Some(waited) } => {
                UnixMillis(event.at.0.saturating_sub(i64::try_from(*waited).unwrap_or(i64::MAX)))
            }
            _ => event.at,
        });
        life.only_known = !told.follows;
        life.attempts.push(Attempt::told(told.worker.as_ref(), event));
        life
    }

    /// What the centre says.
    pub(super) fn recorded(record: &TaskRecord) -> Self {
        let mut life = Self::new(&record.id, &record.task, &record.queue);
        life.namespace = Some(cut(&record.namespace, LONGEST_TEXT));
        (life.schedule, life.scheduled_at) = record.schedule.clone().unzip();
        life.trace_id = record.trace_id.as_deref().map(|trace| cut(trace, LONGEST_TEXT));
        life.labels = labels(&record.labels);
        life.made_at = Some(record.created_at);
        life.recorded = Some(Recorded {
            state: record.state,
            at: record.at,
            due_at: record.due_at,
            reason: record.reason.as_deref().map(|reason| cut(reason, LONGEST_ERROR)),
        });
        life
    }

    /// What somebody wants.
    pub(super) fn to_be_cancelled(task: &Task, reason: Option<&str>, now: UnixMillis) -> Self {
        let mut life = Self::new(&task.id, &task.task, &task.queue);
        life.seen_at = Some(now);
        let reason = reason.map(|reason| cut(reason, LONGEST_ERROR));
        life.cancel = Some(Cancel { replays: task.replays, at: now, reason });
        life
    }

    /// Takes in what another has learnt of the same task.
    pub(super) fn join(&mut self, other: Self) {
        self.only_known &= other.only_known;
        greater(&mut self.task, other.task);
        greater(&mut self.queue, other.queue);
        greater(&mut self.namespace, other.namespace);
        greater(&mut self.schedule, other.schedule);
        greater(&mut self.scheduled_at, other.scheduled_at);
        greater(&mut self.trace_id, other.trace_id);
        greater(&mut self.recorded, other.recorded);
        greater(&mut self.cancel, other.cancel);
        self.made_at = earlier(self.made_at, other.made_at);
        self.seen_at = earlier(self.seen_at, other.seen_at);
        for (name, value) in other.labels {
            greater(self.labels.entry(name).or_default(), value);
        }
        while self.labels.len() > LABELS {
            self.labels.pop_last();
        }
        for attempt in other.attempts {
            match self.attempts.binary_search_by_key(&attempt.place(), Attempt::place) {
                Ok(at) => self.attempts[at].join(attempt),
                Err(at) => self.attempts.insert(at, attempt),
            }
        }
        let beyond = self.attempts.len().saturating_sub(ATTEMPTS);
        self.attempts.drain(..beyond);
        // Only that of the last has a place in the row.
        let older = self.attempts.len().saturating_sub(1);
        for end in self.attempts.iter_mut().take(older).filter_map(|attempt| attempt.end.as_mut()) {
            end.result = None;
        }
    }

    /// When it was made: the centre knows, and workers can tell about.
    pub(super) fn created_at(&self) -> UnixMillis {
        self.made_at.or(self.seen_at).unwrap_or_default()
    }
}

impl Attempt {
    pub(super) fn place(&self) -> (u32, u32) {
        (self.replays, self.attempt)
    }

    fn told(worker: Option<&(String, Instance)>, event: &TaskEvent) -> Self {
        let mut attempt = Self { replays: event.replays, attempt: event.attempt, ..Self::default() };
        let (worker, instance) = worker.map(|(name, instance)| (cut(name, LONGEST_TEXT), *instance)).unzip();
        let end = |how, ran_ms| End {
            how,
            at: event.at,
            ran_ms,
            worker: worker.clone(),
            instance,
            retry_at: None,
            reason: None,
            error_kind: None,
            error: None,
            result_bytes: None,
            result: None,
        };
        let (kind, error) = (|kind: &str| Some(cut(kind, LONGEST_TEXT)), |error: &str| Some(cut(error, LONGEST_ERROR)));
        match &event.what {
            Happening::Started { waited_ms } => {
                attempt.start = worker.zip(instance).map(|(worker, instance)| Start {
                    at: event.at,
                    waited_ms: *waited_ms,
                    worker,
                    instance,
                });
            }
            Happening::Progress(Progress { cursor, total, note }) => {
                let note = note.as_deref().map(|note| cut(note, LONGEST_TEXT));
                attempt.progress = Some(Said { at: event.at, cursor: *cursor, total: *total, note });
            }
            Happening::Snoozed { ran_ms, retry_at } => {
                attempt.snooze = Some(Snooze { at: event.at, until: *retry_at, ran_ms: *ran_ms });
            }
            Happening::Done { ran_ms, result, result_bytes } => {
                let result = result.as_ref().map(|result| result.to_string().replace("\\u0000", "\\ufffd"));
                attempt.end = Some(End { result, result_bytes: *result_bytes, ..end(How::Done, Some(*ran_ms)) });
            }
            Happening::Failed { ran_ms, error_kind, error: text, retry_at } => {
                let end = end(How::Failed, Some(*ran_ms));
                let retry_at = Some(*retry_at);
                attempt.end = Some(End { retry_at, error_kind: kind(error_kind), error: error(text), ..end });
            }
            Happening::Dead { ran_ms, reason, error_kind, error: text } => {
                let (end, reason) = (end(How::Dead, *ran_ms), Some(reason.as_str().to_owned()));
                attempt.end = Some(End { reason, error_kind: kind(error_kind), error: error(text), ..end });
            }
            Happening::Cancelled { ran_ms, reason } => {
                let text = reason.as_deref().and_then(error);
                attempt.end = Some(End { error: text, ..end(How::Cancelled, *ran_ms) });
            }
            Happening::Discarded { ran_ms, reason } => {
                let text = reason.as_deref().and_then(error);
                attempt.end = Some(End { error: text, ..end(How::Discarded, Some(*ran_ms)) });
            }
            // A later version may tell of more.
            _ => {}
        }
        attempt
    }

    fn join(&mut self, other: Self) {
        greater(&mut self.start, other.start);
        greater(&mut self.snooze, other.snooze);
        greater(&mut self.progress, other.progress);
        greater(&mut self.end, other.end);
    }
}

fn greater<T: Ord>(ours: &mut T, theirs: T) {
    if theirs > *ours {
        *ours = theirs;
    }
}

fn earlier(a: Option<UnixMillis>, b: Option<UnixMillis>) -> Option<UnixMillis> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The longest beginning of a text that has at most so many bytes. PostgreSQL takes no zero, so there is none here.
fn cut(text: &str, bytes: usize) -> String {
    let end = if text.len() <= bytes {
        text.len()
    } else {
        (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
    };
    text[..end].replace('\0', "\u{fffd}")
}

fn labels(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let labels = labels.iter().map(|(name, value)| (cut(name, LONGEST_TEXT), cut(value, LONGEST_TEXT)));
    labels.take(LABELS).collect()
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
