//! `RRULE:FREQ=YEARLY`: the same day each year.

use std::ops::RangeInclusive;

use jiff::civil::Date;

use super::{InvalidCalendar, event::date, lines::Line};

/// The same day each year, or every so many years.
#[derive(Clone, Debug)]
pub(super) struct Yearly {
    interval: i16,
    /// How often in all.
    count: Option<usize>,
    /// The last day that it may begin on.
    until: Option<Date>,
}

impl Yearly {
    pub(super) fn read(line: &Line) -> Result<Self, InvalidCalendar> {
        let refused = || {
            let fix =
                "only FREQ=YEARLY with INTERVAL, COUNT and UNTIL is understood: write an event for each of its days";
            InvalidCalendar::new(line.number, fix)
        };
        let mut rule = Self { interval: 1, count: None, until: None };
        let mut yearly = false;
        for part in line.value.split(';').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(refused)?;
            match key.trim().to_ascii_uppercase().as_str() {
                "FREQ" => yearly = value.eq_ignore_ascii_case("YEARLY"),
                "INTERVAL" => rule.interval = value.parse().ok().filter(|years| *years > 0).ok_or_else(refused)?,
                "COUNT" => rule.count = Some(value.parse().ok().filter(|count| *count > 0).ok_or_else(refused)?),
                // A time of day says nothing more about whole days.
                "UNTIL" => rule.until = Some(date(line, value.split('T').next().unwrap_or_default())?),
                // When a week begins has no meaning here.
                "WKST" => {}
                _ => return Err(refused()),
            }
        }
        if yearly { Ok(rule) } else { Err(refused()) }
    }

    /// The days that it falls on within the years, from `start` on. One that a year does not have, such as 29 February,
    /// is left out.
    pub(super) fn dates(&self, start: Date, years: &RangeInclusive<i16>) -> Vec<Date> {
        let all = (start.year()..=*years.end()).step_by(usize::try_from(self.interval).unwrap_or(1));
        let dates = all.filter_map(|year| Date::new(year, start.month(), start.day()).ok());
        let dates = dates.take(self.count.unwrap_or(usize::MAX));
        let dates = dates.take_while(|date| self.until.is_none_or(|until| *date <= until));
        dates.filter(|date| years.contains(&date.year())).collect()
    }
}
