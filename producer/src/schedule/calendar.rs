//! The fields of a cron expression as sets of bits, and the search for the next local time that matches them.
//!
//! A local time is a number of seconds: what the clock on the wall shows, read as if it were UTC. Nothing here knows
//! of time zones.

use super::{
    civil::{Date, days_in_month, weekday},
    special::SpecialDays,
};

/// Seconds in a day on the wall, leaps of the clock apart.
pub(super) const DAY: i64 = 86_400;
/// How many years a search goes on. The longest pause of an expression that runs at all is 40 years,
/// for a 29 February on a given weekday around the year 2100.
const HORIZON_YEARS: i64 = 100;
/// The first year that the year field of a Quartz expression can name.
pub(super) const FIRST_YEAR: i64 = 1970;

/// How the two day fields combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Days {
    /// A day matches when both fields match.
    Both,
    /// A day matches when one of the fields matches.
    Either,
}

/// Local times as a set: bit n of a field stands for the value n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u64,
    /// Days of the month, 1 to 31.
    pub(super) days: u64,
    /// Months, 1 to 12.
    pub(super) months: u64,
    /// Days of the week, 0 to 6 from Sunday.
    pub(super) weekdays: u64,
    pub(super) combine: Days,
    /// Years from [`FIRST_YEAR`] on; `None` is every year.
    pub(super) years: Option<[u64; 3]>,
}

impl Calendar {
    /// The first matching local time at or after `from`. Days that do not match are passed over a month at a time,
    /// whatever the times of a day.
    pub(super) fn next(&self, from: i64, special: &SpecialDays) -> Option<i64> {
        let today = from.div_euclid(DAY);
        let date = Date::from_days(today);
        let mut earliest = date.day;
        if self.days_of(date.year, date.month, special) & 1 << date.day != 0 {
            if let Some(time) = self.time_from(from.rem_euclid(DAY)) {
                return Some(today * DAY + time);
            }
            earliest += 1;
        }
        let (mut year, mut month) = (date.year, date.month);
        while year <= date.year + HORIZON_YEARS {
            if let Some(day) = first_at(self.days_of(year, month, special), earliest) {
                return Some(Date { year, month, day }.to_days() * DAY + self.first_time());
            }
            earliest = 1;
            (year, month) = match first_at(self.months, month + 1) {
                Some(month) => (year, month),
                None => (year + 1, self.months.trailing_zeros()),
            };
        }
        None
    }

    /// The matching days of a month.
    fn days_of(&self, year: i64, month: u32, special: &SpecialDays) -> u64 {
        if self.months & 1 << month == 0 || !self.has_year(year) {
            return 0;
        }
        let first = weekday(Date { year, month, day: 1 }.to_days());
        // The week repeated six times, shifted so that bit 1 is the weekday of the first.
        let weeks = (0..6).fold(0, |weeks, week| weeks | self.weekdays << (7 * week));
        let (off, work) = special.of_month(year, month);
        let by_weekday = weeks >> first << 1 | work;
        let matching = match self.combine {
            Days::Both => self.days & by_weekday,
            Days::Either => self.days | by_weekday,
        };
        matching & ((2 << days_in_month(year, month)) - 2) & !off
    }

    fn has_year(&self, year: i64) -> bool {
        self.years.is_none_or(|years| {
            usize::try_from(year - FIRST_YEAR)
                .is_ok_and(|bit| years.get(bit / 64).is_some_and(|word| word & 1 << (bit % 64) != 0))
        })
    }

    /// The first matching time of a day, in seconds.
    fn first_time(&self) -> i64 {
        time(self.hours.trailing_zeros(), self.minutes.trailing_zeros(), self.seconds.trailing_zeros())
    }

    /// The first matching time of a day at or after `from`, in seconds.
    fn time_from(&self, from: i64) -> Option<i64> {
        let from = from as u32;
        let (hour, minute, second) = (from / 3_600, from / 60 % 60, from % 60);
        if self.hours & 1 << hour != 0 {
            if self.minutes & 1 << minute != 0
                && let Some(second) = first_at(self.seconds, second)
            {
                return Some(time(hour, minute, second));
            }
            if let Some(minute) = first_at(self.minutes, minute + 1) {
                return Some(time(hour, minute, self.seconds.trailing_zeros()));
            }
        }
        let hour = first_at(self.hours, hour + 1)?;
        Some(time(hour, self.minutes.trailing_zeros(), self.seconds.trailing_zeros()))
    }
}

/// The lowest bit that is set at or above `from`, which is below 64.
fn first_at(bits: u64, from: u32) -> Option<u32> {
    let left = bits >> from << from;
    (left != 0).then(|| left.trailing_zeros())
}

fn time(hour: u32, minute: u32, second: u32) -> i64 {
    i64::from(hour * 3_600 + minute * 60 + second)
}
