//! The count of one claim: how many have it, when the next may begin, who is in line.

use std::time::Duration;

use leveret_common::limit::{Rate, Terms};

use super::ledger::Line;

/// Nanoseconds since the ledger began.
pub(super) type Moment = i64;
pub(super) const MILLISECOND: Moment = 1_000_000;
pub(super) const SECOND: Moment = 1_000 * MILLISECOND;
/// What a rate has missed for so long is made up for: timers and messages are late by a little, again and again.
const SLACK: Moment = 50 * MILLISECOND;
/// What the keeper before has let begin is over after this time, where the rate allows of it.
pub(super) const SETTLING: Moment = SECOND;
/// A turn that was promised is kept so much longer: a tier may bring a task back late by a second.
const KEPT: Moment = 2 * SECOND;

pub(super) fn nanos(duration: Duration) -> Moment {
    Moment::try_from(duration.as_nanos()).unwrap_or(Moment::MAX / 4)
}

/// How much of a limit, or of one key of it, is in use.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) held: u32,
    pub(super) line: Line,
    /// When the rate is as good as unused: each that begins moves this by an interval.
    spent: Moment,
    /// The last turn that was promised to one who was sent away.
    booked: Moment,
    /// Mean time that a permit was held.
    mean_hold: Moment,
}

impl Bucket {
    pub(super) fn has_room(&self, terms: &Terms, began: Moment, now: Moment) -> bool {
        self.has_place(terms) && terms.rate.is_none_or(|rate| self.next_begin(&rate, began) <= now)
    }

    /// Whether the concurrency, the rate aside, lets one begin.
    pub(super) fn has_place(&self, terms: &Terms) -> bool {
        terms.concurrency.is_none_or(|concurrency| self.held < concurrency)
    }

    /// When the rate lets the next one begin.
    pub(super) fn next_begin(&self, rate: &Rate, began: Moment) -> Moment {
        let interval = nanos(rate.interval());
        let at_once = Moment::from(rate.most_at_once().saturating_sub(1));
        self.spent_or_unknown(rate, began).saturating_sub(interval.saturating_mul(at_once))
    }

    /// One begins.
    pub(super) fn charge(&mut self, rate: &Rate, began: Moment, now: Moment) {
        let from = self.spent_or_unknown(rate, began).max(now - SLACK);
        self.spent = from.saturating_add(nanos(rate.interval()));
    }

    /// What was used before the ledger began is not known in full: at the beginning nothing is taken to be left.
    fn spent_or_unknown(&self, rate: &Rate, began: Moment) -> Moment {
        let whole = nanos(rate.interval()).saturating_mul(rate.most_at_once().into());
        self.spent.max(began.saturating_add(whole.min(SETTLING)))
    }

    pub(super) fn spend(&mut self, until: Moment) {
        self.spent = self.spent.max(until);
    }

    pub(super) fn spent(&self) -> Moment {
        self.spent
    }

    /// What was used counts by the new rate: nobody waits for an hour because the limit was one an hour until now.
    pub(super) fn change_rate(&mut self, rate: Option<Rate>, now: Moment) {
        let longest = rate.map_or(0, |rate| nanos(rate.interval()).saturating_mul(rate.most_at_once().into()));
        self.spent = self.spent.min(now.saturating_add(longest));
        self.booked = 0;
    }

    /// A permit comes back after it was held for this time.
    pub(super) fn give_back(&mut self, held_for: Moment) {
        self.held = self.held.saturating_sub(1);
        self.mean_hold += (held_for - self.mean_hold) / if self.mean_hold == 0 { 1 } else { 8 };
    }

    pub(super) fn mean_hold(&self) -> Moment {
        self.mean_hold
    }

    /// Whether turns were promised that are not over.
    pub(super) fn is_booked(&self, now: Moment) -> bool {
        self.booked > 0 && self.booked + KEPT > now
    }

    /// The turn of one who comes at `at` at the earliest, behind those to whom one was promised.
    pub(super) fn behind_booked(&self, at: Moment, rate: &Rate, now: Moment) -> Moment {
        if self.is_booked(now) { at.max(self.booked.saturating_add(nanos(rate.interval()))) } else { at }
    }

    pub(super) fn book(&mut self, turn: Moment) {
        self.booked = self.booked.max(turn);
    }

    /// Whether anything would be different without it.
    pub(super) fn is_of_use(&self, now: Moment) -> bool {
        self.held > 0 || !self.line.is_empty() || self.spent > now || self.is_booked(now)
    }
}
