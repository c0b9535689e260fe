//! The work queues that a centre has heard of.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// As many as are remembered: whoever may publish may name as many as they like.
const MOST: usize = 10_000;

/// The work queues that this centre has heard of, and those of them that are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Queues {
    names: Mutex<Names>,
    due: Notify,
}

#[derive(Debug, Default)]
struct Names {
    known: BTreeSet<String>,
    due: BTreeSet<String>,
}

impl Queues {
    /// Notes a queue. One that is new is due.
    pub(super) fn hear(&self, queue: &str) {
        let mut names = self.names.lock();
        if names.known.len() < MOST && !names.known.contains(queue) {
            names.known.insert(queue.to_owned());
            names.due.insert(queue.to_owned());
            self.due.notify_one();
        }
    }

    /// Notes a queue that may have been made just now: it is due, whether it is new or not.
    pub(super) fn look_at(&self, queue: &str) {
        self.hear(queue);
        self.names.lock().due.insert(queue.to_owned());
        self.due.notify_one();
    }

    /// All are due.
    pub(super) fn look_at_all(&self) {
        let mut names = self.names.lock();
        names.due = names.known.clone();
    }

    /// Waits until one may be due.
    pub(super) async fn due(&self) {
        self.due.notified().await;
    }

    /// Takes those that are due.
    pub(super) fn take_due(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.names.lock().due)
    }
}
