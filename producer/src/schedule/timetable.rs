//! An expression in a time zone, from local times to moments.

use std::iter;

use leveret_common::clock::UnixMillis;
use serde::Serialize;

use super::{
    Expression, Zone,
    expression::{Cron, Pace},
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
}

/// A moment at which a schedule runs, as a person wants to see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FireTime {
    /// The moment, in Unix milliseconds.
    pub at: UnixMillis,
    /// The local time in RFC 3339 with its offset from UTC: `2026-11-01T01:30:00-04:00`.
    pub local: String,
    /// The zone's abbreviation at that moment: `EDT`.
    pub zone: String,
}

impl Timetable {
    /// The expression, read in the zone. A fixed rate is the same in every zone.
    pub fn new(expression: Expression, zone: Zone) -> Self {
        Self { expression, zone }
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
    /// to Quartz expressions with years and beyond the year 9999. No moment lies before 1970.
    pub fn next_after(&self, after: UnixMillis) -> Option<UnixMillis> {
        match &self.expression {
            Expression::Every(every) => every.next_after(after),
            Expression::Unix(cron) | Expression::Quartz(cron) => {
                let from = after.0.max(-1).div_euclid(1_000) + 1;
                next_second(cron, &self.zone, from).map(|second| UnixMillis(second * 1_000))
            }
        }
    }

    /// The moments after `after`, one after the other.
    pub fn upcoming(&self, after: UnixMillis) -> impl Iterator<Item = UnixMillis> + '_ {
        iter::successors(self.next_after(after), |at| self.next_after(*at))
    }

    /// The last moment after `after` and up to `until`; `None` when there is none. It takes a number of steps that
    /// grows with the logarithm of the time in between, not with the number of moments.
    pub fn last_within(&self, after: UnixMillis, until: UnixMillis) -> Option<UnixMillis> {
        // Look back twice as far each time. The first look that finds a moment finds few.
        let mut back = 1_000_i64;
        loop {
            let from = UnixMillis(until.0.saturating_sub(back)).max(after);
            if let Some(last) = self.upcoming(from).take_while(|at| *at <= until).last() {
                return Some(last);
            }
            if from <= after {
                return None;
            }
            back = back.saturating_mul(2);
        }
    }

    /// The next `count` moments after `after`, with local times, for people to check.
    pub fn preview(&self, count: usize, after: UnixMillis) -> Vec<FireTime> {
        self.upcoming(after)
            .take(count)
            .filter_map(|at| {
                let (local, zone) = self.zone.local(at.0.div_euclid(1_000))?;
                Some(FireTime { at, local, zone })
            })
            .collect()
    }
}

/// The first matching second at or after `from`.
fn next_second(cron: &Cron, zone: &Zone, from: i64) -> Option<i64> {
    let mut at = from;
    let mut stretch = zone.stretch_at(at)?;
    while at < from + HORIZON {
        let found = cron.calendar.next(first_local(cron.pace, &stretch, at));
        if let Some(local) = found {
            // A fixed time that the clock leapt over comes out before the stretch, and runs at its start.
            let second = (local - stretch.offset).max(at);
            if second < stretch.end {
                return Some(second);
            }
        }
        at = stretch.end;
        let next = zone.stretch_at(at)?;
        // Nothing later on the wall matches, but a clock put back shows earlier times again.
        if found.is_none() && next.offset >= stretch.offset {
            return None;
        }
        stretch = next;
    }
    None
}

/// The first local time to look at, from `at` on, a second in `stretch`.
fn first_local(pace: Pace, stretch: &Stretch, at: i64) -> i64 {
    let local = at + stretch.offset;
    // What the wall would show at the start of the stretch had the clock not been moved: later local times have not
    // been shown yet, earlier ones have.
    let unmoved = stretch.start + stretch.offset_before;
    match pace {
        Pace::Interval => local,
        Pace::FixedTimes if at == stretch.start => unmoved,
        Pace::FixedTimes => local.max(unmoved),
    }
}
