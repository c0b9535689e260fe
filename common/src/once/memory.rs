//! Marks in the memory of one process.

use std::collections::HashMap;

use futures_util::future::{self, BoxFuture, FutureExt};
use parking_lot::Mutex;

use super::{Claim, Mark, OnceError, OnceStore};
use crate::{
    clock::{Clock, UnixMillis},
    task::TaskId,
};

/// Marks in the memory of this process, at most a fixed number of them.
///
/// Catches what comes to this process again: redelivery after a lost connection, tasks published twice, duplicates of
/// a unique key. It knows nothing of other workers, and forgets everything when the process ends.
#[derive(Debug)]
pub struct MemoryOnce {
    clock: Clock,
    half: usize,
    marks: Mutex<Generations>,
}

/// Marks in two halves: once the younger is full it becomes the elder, and what was the elder is dropped. So the
/// oldest make room for new ones without a list of who is oldest.
#[derive(Debug, Default)]
struct Generations {
    younger: HashMap<String, Entry>,
    elder: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    task_id: TaskId,
    holder: String,
    state: State,
    until: UnixMillis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Waiting,
    Done,
}

impl Entry {
    fn of(mark: &Mark, state: State, until: UnixMillis) -> Self {
        Self { task_id: mark.task_id().clone(), holder: mark.holder().to_owned(), state, until }
    }

    fn is_held_by(&self, mark: &Mark) -> bool {
        self.state == State::Running && self.holder == mark.holder()
    }
}

impl Generations {
    /// What is known of a mark, if its time is not over.
    fn live(&mut self, mark: &Mark, now: UnixMillis) -> Option<&mut Entry> {
        let entry = match self.younger.get_mut(mark.key()) {
            Some(entry) => Some(entry),
            None => self.elder.get_mut(mark.key()),
        };
        entry.filter(|entry| entry.until > now)
    }

    /// Writes a mark; returns what fell out to make room.
    fn put(&mut self, mark: &Mark, entry: Entry, half: usize, now: UnixMillis) -> HashMap<String, Entry> {
        self.elder.remove(mark.key());
        self.younger.insert(mark.key().to_owned(), entry);
        if self.younger.len() < half {
            return HashMap::new();
        }
        let younger = std::mem::take(&mut self.younger);
        let mut dropped = std::mem::replace(&mut self.elder, younger);
        // What is at work is not forgotten, however long it takes.
        self.younger.extend(dropped.extract_if(|_, entry| entry.state == State::Running && entry.until > now));
        dropped
    }
}

impl MemoryOnce {
    /// How many marks are remembered unless set otherwise. They take about 300 bytes each.
    pub const DEFAULT_CAPACITY: usize = 100_000;

    /// Room for [`MemoryOnce::DEFAULT_CAPACITY`] marks.
    pub fn new(clock: Clock) -> Self {
        Self::with_capacity(Self::DEFAULT_CAPACITY, clock)
    }

    /// Room for this many marks. At least the younger half of them is remembered; claims in use come on top.
    pub fn with_capacity(marks: usize, clock: Clock) -> Self {
        Self { clock, half: (marks / 2).max(1), marks: Mutex::default() }
    }

    fn put(&self, marks: &mut Generations, mark: &Mark, state: State, now: UnixMillis) -> HashMap<String, Entry> {
        let length = if state == State::Running { mark.leased_for() } else { mark.remembered_for() };
        marks.put(mark, Entry::of(mark, state, now + length), self.half, now)
    }

    fn claim_now(&self, mark: &Mark, redelivered: bool) -> Claim {
        let now = self.clock.now();
        let mut marks = self.marks.lock();
        if let Some(entry) = marks.live(mark, now) {
            let same = entry.task_id == *mark.task_id();
            match entry.state {
                _ if !same => return Claim::Duplicate { of: entry.task_id.clone() },
                State::Done => return Claim::Done,
                State::Running if entry.holder != mark.holder() && !redelivered => {
                    return Claim::Busy { until: entry.until };
                }
                State::Running | State::Waiting => {}
            }
        }
        let dropped = self.put(&mut marks, mark, State::Running, now);
        drop(marks);
        // Thousands at once take their time to be dropped: not while others wait for the lock.
        drop(dropped);
        Claim::First
    }

    fn extend_now(&self, mark: &Mark) -> Result<(), OnceError> {
        let now = self.clock.now();
        let mut marks = self.marks.lock();
        match marks.live(mark, now).filter(|entry| entry.is_held_by(mark)) {
            Some(entry) => {
                entry.until = now + mark.leased_for();
                Ok(())
            }
            None => Err(lost(mark)),
        }
    }

    fn done_now(&self, mark: &Mark) -> Result<(), OnceError> {
        let now = self.clock.now();
        let mut marks = self.marks.lock();
        match marks.live(mark, now) {
            Some(entry) if entry.task_id != *mark.task_id() => Err(lost(mark)),
            // The common case: nothing is allocated, and the entry stays where it is.
            Some(entry) => {
                entry.state = State::Done;
                entry.until = now + mark.remembered_for();
                Ok(())
            }
            None => {
                let dropped = self.put(&mut marks, mark, State::Done, now);
                drop(marks);
                drop(dropped);
                Ok(())
            }
        }
    }

    fn release_now(&self, mark: &Mark) {
        let now = self.clock.now();
        let mut marks = self.marks.lock();
        if let Some(entry) = marks.live(mark, now).filter(|entry| entry.is_held_by(mark)) {
            entry.state = State::Waiting;
            entry.until = now + mark.remembered_for();
        }
    }

    fn forget_now(&self, mark: &Mark) {
        let now = self.clock.now();
        let mut marks = self.marks.lock();
        if marks.live(mark, now).is_some_and(|entry| entry.is_held_by(mark)) {
            marks.younger.remove(mark.key());
            marks.elder.remove(mark.key());
        }
    }
}

fn lost(mark: &Mark) -> OnceError {
    OnceError::Lost { key: mark.key().to_owned() }
}

impl OnceStore for MemoryOnce {
    fn claim<'a>(&'a self, mark: &'a Mark, redelivered: bool) -> BoxFuture<'a, Result<Claim, OnceError>> {
        future::ready(Ok(self.claim_now(mark, redelivered))).boxed()
    }

    fn extend<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
        future::ready(self.extend_now(mark)).boxed()
    }

    fn done<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
        future::ready(self.done_now(mark)).boxed()
    }

    fn release<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
        self.release_now(mark);
        future::ready(Ok(())).boxed()
    }

    fn forget<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
        self.forget_now(mark);
        future::ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(id: usize) -> Mark {
        Mark::of_task(&TaskId::derived(&[&id.to_string()]), "w")
    }

    #[tokio::test]
    async fn the_oldest_make_room_and_what_is_at_work_is_kept() {
        let once = MemoryOnce::with_capacity(100, Clock::held(UnixMillis(0)));
        let at_work = mark(usize::MAX);
        once.claim(&at_work, false).await.unwrap();
        for id in 0..1_000 {
            once.claim(&mark(id), false).await.unwrap();
            once.done(&mark(id)).await.unwrap();
        }
        let remembered = {
            let marks = once.marks.lock();
            marks.younger.len() + marks.elder.len()
        };
        assert!(remembered <= 101, "{remembered}");
        assert_eq!(once.claim(&mark(0), false).await.unwrap(), Claim::First);
        assert_eq!(once.claim(&mark(999), false).await.unwrap(), Claim::Done);
        assert!(once.extend(&at_work).await.is_ok());
    }
}
