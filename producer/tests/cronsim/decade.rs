//! A decade in a time zone, and moments of it at which something may go wrong.

use jiff::{Timestamp, civil::date, tz::TimeZone};

use crate::random::Random;

const MINUTE: i64 = 60;
const DAY: u32 = 24 * 60;

/// A decade in a time zone.
pub(crate) struct Decade {
    pub(crate) zone: &'static str,
    /// Whether its clocks leap at whole hours by whole hours, and not over midnight.
    pub(crate) even: bool,
    /// When they leap.
    pub(crate) changes: Vec<i64>,
    first: i64,
    rules: TimeZone,
}

impl Decade {
    pub(crate) fn new(zone: &'static str, year: i16, even: bool) -> Self {
        let rules = TimeZone::get(zone).unwrap();
        let begin = |year| date(year, 1, 1).to_zoned(rules.clone()).unwrap().timestamp();
        let (first, last) = (begin(year), begin(year + 10));
        let changes = rules.following(first).map(|change| change.timestamp()).take_while(|at| *at < last);
        let changes: Vec<_> = changes.map(Timestamp::as_second).collect();
        Self { zone, even, changes, first: first.as_second(), rules }
    }

    pub(crate) fn changes_within(&self, after: i64, until: i64) -> bool {
        self.changes.iter().any(|change| *change > after && *change <= until)
    }

    /// Four starts from a day before a leap to two hours after it, and two at any time.
    pub(crate) fn starts(&self, random: &mut Random, fixed: bool) -> Vec<i64> {
        let changes = u32::try_from(self.changes.len()).unwrap();
        let near = (0..4).map(|_| {
            let change = self.changes[usize::try_from(random.below(changes)).unwrap()];
            let at = change - i64::from(random.below(DAY + 120)) * MINUTE + 120 * MINUTE;
            // cronsim takes the second pass of an hour for the first.
            if fixed && at >= change { at - i64::from(DAY) * MINUTE } else { at }
        });
        let mut starts: Vec<_> = near.collect();
        starts.extend((0..2).map(|_| self.first + i64::from(random.below(3_650 * DAY)) * MINUTE));
        starts
    }

    /// The local time at a second.
    pub(crate) fn local(&self, at: i64) -> String {
        let moment = Timestamp::from_second(at).unwrap();
        moment.display_with_offset(self.rules.to_offset(moment)).to_string()
    }
}
