//! Dates of the Gregorian calendar as numbers of days since 1970-01-01.

/// A date: the year, the month from 1 and the day of the month from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i64,
    pub(super) month: u32,
    pub(super) day: u32,
}

/// Days in 400 years, after which the calendar repeats, weekdays included.
const ERA: i64 = 146_097;
/// Days from 0000-03-01, where the eras below begin, to 1970-01-01.
const EPOCH: i64 = 719_468;

impl Date {
    /// The date that is `days` after 1970-01-01.
    pub(super) fn from_days(days: i64) -> Self {
        // Years are counted from March, so that the leap day is the last of its year.
        let shifted = days + EPOCH;
        let era = shifted.div_euclid(ERA);
        let day_of_era = shifted.rem_euclid(ERA);
        let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / (ERA - 1);
        let year_of_era = (day_of_era - leap_days) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Five months from March have 153 days, and so have the next five.
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Self { year, month: month as u32, day: day as u32 }
    }

    /// How many days after 1970-01-01 the date is.
    pub(super) fn to_days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let march_month = i64::from(if self.month > 2 { self.month - 3 } else { self.month + 9 });
        let day_of_year = (153 * march_month + 2) / 5 + i64::from(self.day) - 1;
        let year_of_era = year.rem_euclid(400);
        let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
        year.div_euclid(400) * ERA + day_of_era - EPOCH
    }
}

/// The day of the week of a number of days since 1970-01-01, a Thursday: 0 is Sunday.
pub(super) fn weekday(days: i64) -> u32 {
    (days + 4).rem_euclid(7) as u32
}

/// How many days a month has.
pub(super) fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every day of two eras, against the calendar of another library.
    #[test]
    fn dates_agree_with_jiff() {
        let mut date = jiff::civil::date(1699, 12, 31);
        let mut days = Date { year: 1699, month: 12, day: 31 }.to_days();
        while date.year() < 2501 {
            let ours = Date::from_days(days);
            assert_eq!((ours.year, ours.month, ours.day), (date.year().into(), date.month() as u32, date.day() as u32));
            assert_eq!(ours.to_days(), days);
            assert_eq!(weekday(days), date.weekday().to_sunday_zero_offset() as u32);
            assert_eq!(days_in_month(ours.year, ours.month), date.days_in_month() as u32);
            date = date.tomorrow().unwrap();
            days += 1;
        }
        assert_eq!(Date { year: 1970, month: 1, day: 1 }.to_days(), 0);
    }
}
