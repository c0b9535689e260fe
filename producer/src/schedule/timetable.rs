//! An expression in a time zone, from local times to moments.

use std::{iter, sync::Arc};

use leveret_common::clock::UnixMillis;

use super::{
    Every, Expression, Fold, Gap, Zone,
    expression::{Cron, Pace},
    preview::FireTime,
    special::{DayKind, SpecialDays},
    zone::Stretch,
};

/// How far ahead a search looks: a hundred years, in seconds.
const HORIZON: i64 = 100 * 366 * 86_400;

/// An expression in a time zone. It names the next moment after any other, and two producers with the same timetable
/// name the same moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timetable {
    expression: Expression,
    zone: Zone,
    gap: Option<Gap>,
    fold: Option<Fold>,
    /// `None` for none.
    special: Option<Arc<SpecialDays>>,
    starts_at: UnixMillis,
    ends_at: UnixMillis,
}

impl Timetable {
    /// The expression, read in the zone. A fixed rate is the same in every zone.
    pub fn new(expression: Expression, zone: Zone) -> Self {
        let (starts_at, ends_at) = (UnixMillis(0), UnixMillis(i64::MAX));
        Self { expression, zone, gap: None, fold: None, special: None, starts_at, ends_at }
    }

    /// Sets what becomes of local times that the clock leaps over. Default: as cronie does. A fixed rate knows none.
    #[must_use]
    pub fn gap(mut self, gap: Gap) -> Self {
        self.gap = Some(gap);
        self
    }

    /// Sets what becomes of local times that come twice. Default: as cronie does. A fixed rate knows none.
    #[must_use]
    pub fn fold(mut self, fold: Fold) -> Self {
        self.fold = Some(fold);
        self
    }

    /// Sets days on which it does not run, or runs though their weekday is not named. Which day a moment belongs to is
    /// said by the local time that the expression names. Of a fixed rate, moments on days off are left out.
    #[must_use]
    pub fn special_days(mut self, days: SpecialDays) -> Self {
        self.special = (!days.is_empty()).then(|| Arc::new(days));
        self
    }

    /// Sets the first moment at which it may run. Default: the beginning of 1970.
    #[must_use]
    pub fn starting(mut self, at: UnixMillis) -> Self {
        self.starts_at = at.max(UnixMillis(0));
        self
    }

    /// Sets the first moment from which on it does not run any more. Default: never.
    #[must_use]
    pub fn ending(mut self, at: UnixMillis) -> Self {
        self.ends_at = at;
        self
    }

    /// Whether there are days on which it runs otherwise than its expression says.
    pub(crate) fn has_special_days(&self) -> bool {
        self.special.is_some()
    }

    /// The first moment from which on it does not run any more.
    pub(crate) fn ends_at(&self) -> UnixMillis {
        self.ends_at
    }

    /// The expression.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// The time zone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first moment strictly after `after`; `None` when there is none within a hundred years, which happens only
    /// beyond its end, to Quartz expressions with years, beyond the year 9999, and where all days are off; and always of
    /// a fixed delay, see [`Timetable::after_end`]. No moment lies before 1970.
    pub fn next_after(&self, after: UnixMillis) -> Option<UnixMillis> {
        let after = after.max(UnixMillis(self.starts_at.0 - 1));
        let next = match &self.expression {
            Expression::Every(every) => self.next_of_rate(*every, after),
            Expression::At(at) => (*at > after).then_some(*at),
            Expression::After(_) => None,
            Expression::Unix(cron) | Expression::Quartz(cron) => {
                let from = after.0.div_euclid(1_000) + 1;
                self.next_second(cron, from).map(|second| UnixMillis(second * 1_000))
            }
        };
        next.filter(|at| *at < self.ends_at)
    }

    /// Of a fixed delay, the moment that follows a run which ended at `ended`. One that is before the start or on a day
    /// off is put off to the first moment that is not. `None` for all others, and beyond the end.
    pub fn after_end(&self, ended: UnixMillis) -> Option<UnixMillis> {
        let Expression::After(delay) = self.expression else { return None };
        let mut at = (ended + delay).max(self.starts_at);
        while self.is_off(at) {
            at = UnixMillis(self.zone.next_day(at.0.div_euclid(1_000))? * 1_000);
        }
        Some(at).filter(|at| *at < self.ends_at)
    }

    /// The moments after `after`, one after the other.
    pub fn upcoming(&self, after: UnixMillis) -> impl Iterator<Item = UnixMillis> + '_ {
        iter::successors(self.next_after(after), |at| self.next_after(*at))
    }

    /// The last moment after `after` and up to `until`; `None` when there is none. It takes a number of steps that
    /// grows with the logarithm of the time in between, not with the number of moments.
    pub fn last_within(&self, after: UnixMillis, until: UnixMillis) -> Option<UnixMillis> {
        // Look back twice as far each time until a look finds a moment.
        let mut back = 1_000_i64;
        let mut last = loop {
            let from = UnixMillis(until.0.saturating_sub(back)).max(after);
            match self.next_after(from).filter(|at| *at <= until) {
                Some(first) => break first,
                None if from <= after => return None,
                None => back = back.saturating_mul(2),
            }
        };
        // Then halve the time in which there may be a later one.
        let mut end = until;
        while last < end {
            let middle = UnixMillis(last.0 + (end.0 - last.0) / 2);
            match self.next_after(middle).filter(|at| *at <= end) {
                Some(later) => last = later,
                // Whatever is after `last` is at `middle` or before.
                None if middle > last => end = middle,
                None => break,
            }
        }
        Some(last)
    }

    /// The next `count` moments after `after`, with local times, for people to check.
    pub fn preview(&self, count: usize, after: UnixMillis) -> Vec<FireTime> {
        let moments: Vec<_> = self.upcoming(after).take(count).map(|at| (at, at)).collect();
        self.zone.fire_times(after, &moments)
    }

    /// The first moment of a fixed rate after `after` that is on no day off.
    fn next_of_rate(&self, every: Every, after: UnixMillis) -> Option<UnixMillis> {
        let mut at = every.next_after(after)?;
        while self.is_off(at) {
            let tomorrow = self.zone.next_day(at.0.div_euclid(1_000))?;
            at = every.next_after(UnixMillis(tomorrow * 1_000 - 1))?;
        }
        Some(at)
    }

    fn is_off(&self, at: UnixMillis) -> bool {
        let Some(special) = &self.special else { return false };
        let day = self.zone.day(at.0.div_euclid(1_000));
        day.and_then(|day| special.kind(day)) == Some(DayKind::Off)
    }

    /// The first matching second at or after `from`.
    fn next_second(&self, cron: &Cron, from: i64) -> Option<i64> {
        let none = SpecialDays::default();
        let special = self.special.as_deref().unwrap_or(&none);
        let mut at = from;
        let mut stretch = self.zone.stretch_at(at)?;
        while at < from + HORIZON {
            let found = cron.calendar.next(self.first_local(cron.pace, &stretch, at), special);
            if let Some(local) = found {
                // A time that the clock leapt over comes out before the stretch, and runs at its start.
                let second = (local - stretch.offset).max(at);
                if second < stretch.end {
                    return Some(second);
                }
            }
            at = stretch.end;
            let next = self.zone.stretch_at(at)?;
            // Nothing later on the wall matches, but a clock put back shows earlier times again.
            if found.is_none() && next.offset >= stretch.offset {
                return None;
            }
            stretch = next;
        }
        None
    }

    /// The first local time to look at, from `at` on, a second in `stretch`.
    fn first_local(&self, pace: Pace, stretch: &Stretch, at: i64) -> i64 {
        let (gap, fold) = match pace {
            Pace::FixedTimes => (Gap::RunAfter, Fold::First),
            Pace::Interval => (Gap::Skip, Fold::Both),
        };
        let local = at + stretch.offset;
        // What the wall would show at the start of the stretch had the clock not been moved: later local times have
        // not been shown yet, earlier ones have.
        let unmoved = stretch.start + stretch.offset_before;
        if stretch.offset < stretch.offset_before {
            match self.fold.unwrap_or(fold) {
                Fold::First => local.max(unmoved),
                Fold::Both => local,
            }
        } else {
            match self.gap.unwrap_or(gap) {
                Gap::RunAfter if at == stretch.start => unmoved,
                Gap::RunAfter | Gap::Skip => local,
            }
        }
    }
}
