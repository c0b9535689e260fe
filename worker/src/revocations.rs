//! Tasks that were called off before they began: a delivery of one of them ends as cancelled.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use leveret_common::{
    clock::{Clock, UnixMillis},
    task::TaskId,
};
use parking_lot::Mutex;

use crate::control::Revoked;

/// Tasks that are remembered. Beyond that, the one that was told of longest ago is forgotten.
const MOST: usize = 10_000;
/// Characters that are kept of a reason.
const LONGEST_REASON: usize = 1_000;

/// What a worker remembers of the tasks that it is not to begin.
#[derive(Debug)]
pub(crate) struct Revocations {
    clock: Clock,
    /// Whether there was ever one: of most workers no delivery has to wait for the lock.
    used: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<TaskId, Revocation>,
    /// In the order in which they were told of.
    order: BTreeMap<u64, TaskId>,
    told: u64,
}

#[derive(Debug)]
struct Revocation {
    number: u64,
    reason: Arc<str>,
    /// The last life that is meant. Nobody may have said; then it is that of the first delivery.
    replays: Option<u32>,
    until: UnixMillis,
}

impl Revocations {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, used: AtomicBool::new(false), kept: Mutex::default() }
    }

    /// Remembers tasks for so long from now.
    pub(crate) fn add(&self, which: &Revoked, reason: &str, lasts: Duration) {
        let reason: Arc<str> = reason.chars().take(LONGEST_REASON).collect::<String>().into();
        let until = self.clock.now() + lasts;
        let mut kept = self.kept.lock();
        for id in &which.ids {
            kept.told += 1;
            let number = kept.told;
            let revocation = Revocation { number, reason: reason.clone(), replays: which.replays, until };
            if let Some(before) = kept.by_id.insert(id.clone(), revocation) {
                kept.order.remove(&before.number);
            }
            kept.order.insert(number, id.clone());
            if kept.by_id.len() > MOST
                && let Some((_, oldest)) = kept.order.pop_first()
            {
                kept.by_id.remove(&oldest);
            }
        }
        self.used.store(true, Ordering::Release);
    }

    /// Why a task is not to begin, if it is not. It stays remembered, for there may be another delivery of it; one that was
    /// brought back from the dead letters since then is another matter.
    pub(crate) fn of(&self, id: &TaskId, replays: u32) -> Option<String> {
        if !self.used.load(Ordering::Acquire) {
            return None;
        }
        let mut kept = self.kept.lock();
        let revocation = kept.by_id.get_mut(id)?;
        if revocation.until <= self.clock.now() {
            let number = revocation.number;
            kept.order.remove(&number);
            kept.by_id.remove(id);
            return None;
        }
        let is_meant = replays <= *revocation.replays.get_or_insert(replays);
        is_meant.then(|| revocation.reason.to_string())
    }
}

#[cfg(test)]
mod tests;
