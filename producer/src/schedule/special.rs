//! Days on which a timetable runs otherwise than its expression says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::civil::{Date, days_in_month};

/// Whether schedules run on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "centre", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DayKind {
    /// They do not, though the expression names it.
    Off,
    /// They do, at the expression's times, though its day-of-week field does not name it. Day of month, month and year
    /// have to match all the same: a make-up workday is no second first of the month.
    Work,
}

/// Days with a meaning of their own, by their local dates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialDays {
    /// Days since 1970-01-01, each once, in order.
    days: Box<[(i32, DayKind)]>,
}

/// A text is no date.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no date: write year, month and day, such as \"2027-02-06\"")]
pub struct InvalidDate {
    /// The text, cut if it is very long.
    pub text: String,
}

impl SpecialDays {
    /// Days by their dates in ISO 8601, such as `2027-02-06`; of two with one date the first counts.
    ///
    /// # Errors
    /// [`InvalidDate`] for a text that is none, or a date outside of the years 1 to 9999.
    pub fn new<'a>(days: impl IntoIterator<Item = (&'a str, DayKind)>) -> Result<Self, InvalidDate> {
        let mut all = BTreeMap::new();
        for (text, kind) in days {
            all.entry(day_number(text)?).or_insert(kind);
        }
        Ok(Self { days: all.into_iter().collect() })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    /// What a day is, a number of days since 1970-01-01; `None` is a day like any other.
    pub(super) fn kind(&self, day: i64) -> Option<DayKind> {
        let day = i32::try_from(day).ok()?;
        let at = self.days.binary_search_by_key(&day, |(day, _)| *day).ok()?;
        self.days.get(at).map(|(_, kind)| *kind)
    }

    /// The days of a month that are off and those that are worked on, as sets of bits from 1.
    pub(super) fn of_month(&self, year: i64, month: u32) -> (u64, u64) {
        if self.days.is_empty() {
            return (0, 0);
        }
        let first = Date { year, month, day: 1 }.to_days();
        let last = first + i64::from(days_in_month(year, month));
        let start = self.days.partition_point(|(day, _)| i64::from(*day) < first);
        let within = self.days.iter().skip(start).take_while(|(day, _)| i64::from(*day) < last);
        within.fold((0, 0), |(off, work), (day, kind)| {
            let bit = 1_u64 << (i64::from(*day) - first + 1);
            match kind {
                DayKind::Off => (off | bit, work),
                DayKind::Work => (off, work | bit),
            }
        })
    }
}

fn day_number(text: &str) -> Result<i32, InvalidDate> {
    let invalid = || InvalidDate { text: text.chars().take(40).collect() };
    let date: jiff::civil::Date = text.parse().map_err(|_| invalid())?;
    // Another way to write a date would be another key for the same day.
    if date.to_string() != text || date.year() < 1 {
        return Err(invalid());
    }
    let date = Date {
        year: date.year().into(),
        month: date.month().unsigned_abs().into(),
        day: date.day().unsigned_abs().into(),
    };
    i32::try_from(date.to_days()).map_err(|_| invalid())
}
