//! The ticks of one schedule that are due and not yet published.

use std::{collections::VecDeque, time::Duration};

use leveret_common::clock::UnixMillis;

use crate::schedule::Schedule;

/// A tick that is noticed later than this was slept through: the machine was suspended or its clock was put forward.
const SLEPT: Duration = Duration::from_secs(10);
/// The most ticks that wait for one schedule. When there are more, the oldest is given up.
const MOST_WAITING: usize = 10_000;
/// How many ticks that were slept through are counted; what is beyond is not.
const MOST_COUNTED: usize = 1_000;

/// The ticks of one schedule that are due and not yet published, oldest first.
#[derive(Debug)]
pub(crate) struct Backlog {
    schedule: Schedule,
    next: Option<UnixMillis>,
    waiting: VecDeque<UnixMillis>,
    /// How often the publish of the oldest has failed.
    failures: u32,
}

/// Ticks that will never be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Slept through. Of each sleep the last tick is published, the others are missed.
    pub(crate) missed: u64,
    /// Not published before the catch-up window was over, or pushed out by later ones.
    pub(crate) given_up: u64,
}

impl Backlog {
    /// Nothing is due yet; the first tick is the first after `now`.
    pub(crate) fn new(schedule: Schedule, now: UnixMillis) -> Self {
        let next = schedule.timetable().next_after(now);
        Self { schedule, next, waiting: VecDeque::new(), failures: 0 }
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// When there is something to [`collect`](Self::collect) again.
    pub(crate) fn next(&self) -> Option<UnixMillis> {
        self.next
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn oldest(&self) -> Option<UnixMillis> {
        self.waiting.front().copied()
    }

    /// How often the publish of the oldest has failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Puts what is due at `now` into the backlog.
    pub(crate) fn collect(&mut self, now: UnixMillis) -> Lost {
        let mut lost = Lost::default();
        let Some(due) = self.next.filter(|due| *due <= now) else { return lost };
        let timetable = self.schedule.timetable();
        if now.since(due) > SLEPT {
            let last = timetable.last_within(due, now).unwrap_or(due);
            let slept = std::iter::once(due).chain(timetable.upcoming(due));
            lost.missed = slept.take_while(|at| *at < last).take(MOST_COUNTED).count() as u64;
            self.waiting.push_back(last);
        } else {
            self.waiting.push_back(due);
            self.waiting.extend(timetable.upcoming(due).take_while(|at| *at <= now));
        }
        self.next = timetable.next_after(now);
        lost
    }

    /// Gives up what is no longer worth publishing. The oldest must not be on its way to the broker.
    pub(crate) fn expire(&mut self, now: UnixMillis) -> Lost {
        let mut lost = Lost::default();
        let worthless = now - self.schedule.catch_up_window();
        while self.waiting.front().is_some_and(|at| *at < worthless) || self.waiting.len() > MOST_WAITING {
            self.drop_oldest();
            lost.given_up += 1;
        }
        lost
    }

    /// The oldest is published, or is not to be tried again.
    pub(crate) fn drop_oldest(&mut self) {
        self.waiting.pop_front();
        self.failures = 0;
    }

    /// The publish of the oldest has failed.
    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Starts over from `now`, for a clock that was far ahead and was put right. What is due already stays.
    pub(crate) fn restart(&mut self, now: UnixMillis) {
        self.next = self.schedule.timetable().next_after(now);
    }
}
