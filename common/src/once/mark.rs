//! What must take effect once.

use std::{sync::Arc, time::Duration};

use super::key::Key;
use crate::task::TaskId;

/// A piece of work that must take effect once, and who wants to do it: made anew for each delivery of a task.
#[derive(Clone, Debug)]
pub struct Mark {
    pub(super) key: Key,
    task_id: TaskId,
    worker: Arc<str>,
    pub(super) delivery: u64,
    /// Whether tasks with other ids may have the same key.
    pub(super) shared: bool,
    window: Duration,
    lease: Duration,
}

/// Keys longer than this are kept as a hash.
const LONGEST_KEY: usize = 255;

impl Mark {
    /// How long a done mark is remembered unless set otherwise: a day.
    pub const DEFAULT_WINDOW: Duration = Duration::from_secs(86_400);
    /// How long a claim holds without being extended unless set otherwise: 30 seconds.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

    /// The task itself: each delivery and each publish under the same id is the same work. `worker` is the instance
    /// of the worker that wants to do it.
    pub fn of_task(id: &TaskId, worker: impl Into<Arc<str>>) -> Self {
        Self::new(key("task", &["task:", id.as_str()], &[id.as_str()]), false, id, worker.into())
    }

    /// All tasks named `task` that have the same `unique` key, of which `id` is one.
    pub fn unique(task: &str, unique: &str, id: &TaskId, worker: impl Into<Arc<str>>) -> Self {
        // With its length, ("a:b", "c") and ("a", "b:c") are two keys.
        let length = task.len().to_string();
        let key = key("unique", &["unique:", &length, ":", task, ":", unique], &[task, unique]);
        Self::new(key, true, id, worker.into())
    }

    fn new(key: Key, shared: bool, id: &TaskId, worker: Arc<str>) -> Self {
        Self {
            key,
            task_id: if storable(id.as_str()) { id.clone() } else { TaskId::derived(&[id.as_str()]) },
            worker,
            // Tells this delivery from an earlier one to the same worker, which may still run.
            delivery: fastrand::u64(..),
            shared,
            window: Self::DEFAULT_WINDOW,
            lease: Self::DEFAULT_LEASE,
        }
    }

    /// Sets how long it is remembered that the work was done. Default a day. It should be longer than a message may
    /// come back: the time in queues, tiers and dead-letter queues.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how long a claim holds without being extended. Default 30 seconds.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The text that stands for the work: the same for all who want to do it. At most 255 bytes, none of them zero.
    pub fn key(&self) -> &str {
        self.key.as_str()
    }

    /// The id of the task that claims it. One with a zero byte, which databases refuse, is replaced by a hash of it.
    pub fn task_id(&self) -> &TaskId {
        &self.task_id
    }

    /// Who claims it: the worker, and this delivery to it.
    pub fn holder(&self) -> String {
        format!("{}/{:016x}", self.worker, self.delivery)
    }

    /// How long it is remembered that the work was done.
    pub fn remembered_for(&self) -> Duration {
        self.window
    }

    /// How long a claim holds without being extended.
    pub fn leased_for(&self) -> Duration {
        self.lease
    }
}

fn storable(text: &str) -> bool {
    !text.contains('\0')
}

/// The pieces, one after the other, or a hash of the parts where those make no key.
fn key(kind: &str, pieces: &[&str], parts: &[&str]) -> Key {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    if length <= LONGEST_KEY && parts.iter().all(|part| storable(part)) {
        Key::of(pieces)
    } else {
        Key::of(&[kind, "-hash:", TaskId::derived(parts).as_str()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_and_fit_into_a_store() {
        let id: TaskId = "order-17".parse().unwrap();
        let unique = |task, key| Mark::unique(task, key, &id, "w").key().to_owned();
        assert_eq!(Mark::of_task(&id, "w").key(), "task:order-17");
        assert_eq!(unique("mail.send", "ann"), "unique:9:mail.send:ann");
        assert_ne!(unique("a:b", "c"), unique("a", "b:c"));
        let long = "k".repeat(100_000);
        assert_eq!(unique("a", &long), unique("a", &long));
        assert_ne!(unique("a", &long), unique("b", &long));
        assert!(unique("a", &long).len() <= LONGEST_KEY);
        assert!(!unique("a", "zero\0byte").contains('\0'));
        let strange: TaskId = "zero\0byte".parse().unwrap();
        assert!(storable(Mark::of_task(&strange, "w").task_id.as_str()));
    }

    #[test]
    fn two_deliveries_to_one_worker_are_two_holders() {
        let id = TaskId::new();
        assert_ne!(Mark::of_task(&id, "w").holder(), Mark::of_task(&id, "w").holder());
    }
}
