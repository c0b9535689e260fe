//! What is due within the next moments. All else stays in the database, whose index is the timing wheel.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use leveret_common::{clock::UnixMillis, task::TaskId};

use crate::centre::store::turns::DueSchedule;

/// Something that is to be done at a moment.
#[derive(Debug)]
pub(crate) enum Item {
    /// A schedule has a tick.
    Schedule(Box<DueSchedule>),
    /// A message of the outbox is to be published; and its shard.
    Message(TaskId, i64),
}

#[derive(Debug)]
struct Entry {
    at: UnixMillis,
    item: Item,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

/// What is due up to a moment, the horizon.
#[derive(Debug)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    horizon: UnixMillis,
}

impl Agenda {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), horizon: UnixMillis(i64::MIN) }
    }

    /// Begins anew, with what is due up to `horizon`.
    pub(crate) fn reset(&mut self, horizon: UnixMillis) {
        self.heap.clear();
        self.horizon = horizon;
    }

    /// Adds what is due before the horizon; what is later will be read in its time.
    pub(crate) fn add(&mut self, at: UnixMillis, item: Item) {
        if at <= self.horizon {
            self.heap.push(Reverse(Entry { at, item }));
        }
    }

    /// When there is something to do.
    pub(crate) fn next(&self) -> Option<UnixMillis> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes up to `most` of what is due.
    pub(crate) fn take(&mut self, now: UnixMillis, most: usize) -> Vec<Item> {
        let mut items = Vec::new();
        while items.len() < most
            && self.next().is_some_and(|at| at <= now)
            && let Some(Reverse(entry)) = self.heap.pop()
        {
            items.push(entry.item);
        }
        items
    }
}
