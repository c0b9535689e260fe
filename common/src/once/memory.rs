//! Marks in the memory of one process.

use std::collections::HashMap;

use futures_util::future::{self, BoxFuture, FutureExt};
use parking_lot::Mutex;

use super::{Claim, Mark, OnceError, OnceStore, key::Key};
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
    younger: HashMap<Key, Entry>,
    elder: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// `None` if the key tells already.
    task_id: Option<Box<TaskId>>,
    /// Which delivery it is; the number is random, so that no two have the same.
    holder: u64,
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
        let task_id = mark.shared.then(|| Box::new(mark.task_id().clone()));
        Self { task_id, holder: mark.delivery, state, until }
    }

    fn is_held_by(&self, mark: &Mark) -> bool {
        self.state == State::Running && self.holder == mark.delivery
    }

    /// The other task that has it, if another has.
    fn other(&self, mark: &Mark) -> Option<&TaskId> {
        self.task_id.as_deref().filter(|id| *id != mark.task_id())
    }
}

impl Generations {
    /// What is known of a mark, if its time is not over.
    fn live(&mut self, mark: &Mark, now: UnixMillis) -> Option<&mut Entry> {
        let entry = match self.younger.get_mut(&mark.key) {
            Some(entry) => Some(entry),
            None => self.elder.get_mut(&mark.key),
        };
        entry.filter(|entry| entry.until > now)
    }

    /// Writes a mark, and drops the elder half if that fills the younger one.
    fn put(&mut self, mark: &Mark, entry: Entry, half: usize, now: UnixMillis) {
        self.elder.remove(&mark.key);
        self.younger.insert(mark.key.clone(), entry);
        if self.younger.len() >= half {
            std::mem::swap(&mut self.younger, &mut self.elder);
            // What is at work is not forgotten, however long it takes.
            self.younger.retain(|_, entry| entry.state == State::Running && entry.until > now);
        }
    }
}

impl MemoryOnce {
    /// How many marks are remembered unless set otherwise. They take 100 to 200 bytes each.
    pub const DEFAULT_CAPACITY: usize = 100_000;

    /// Room for [`MemoryOnce::DEFAULT_CAPACITY`] marks.
    pub fn new(clock: Clock) -> Self {
        Self::with_capacity(Self::DEFAULT_CAPACITY, clock)
    }

    /// Room for this many marks. At least the younger half of them is remembered; claims in use come on top.
    pub fn with_capacity(marks: usize, clock: Clock) -> Self {
        Self { clock, half: (marks / 2).max(1), marks: Mutex::default() }
    }

    fn put(&self, marks: &mut Generations, mark: &Mark, state: State, now: UnixMillis) {
        let length = if state == State::Running { mark.leased_for() } else { mark.remembered_for() };
        marks.put(mark, Entry::of(mark, state, now + length), self.half, now);
    }

    fn claim_now(&self, mark: &Mark, redelivered: bool) -> Claim {
        let now = self.clock.now();
        let mut marks = self.marks.lock();
        if let Some(entry) = marks.live(mark, now) {
            if let Some(other) = entry.other(mark) {
                return Claim::Duplicate { of: other.clone() };
            }
            match entry.state {
                State::Done => return Claim::Done,
                State::Running if entry.holder != mark.delivery && !redelivered => {
                    return Claim::Busy { until: entry.until };
                }
                State::Running | State::Waiting => {}
            }
        }
        self.put(&mut marks, mark, State::Running, now);
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
            Some(entry) if entry.other(mark).is_some() => Err(lost(mark)),
            Some(entry) => {
                entry.state = State::Done;
                entry.until = now + mark.remembered_for();
                Ok(())
            }
            None => {
                self.put(&mut marks, mark, State::Done, now);
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
            marks.younger.remove(&mark.key);
            marks.elder.remove(&mark.key);
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
