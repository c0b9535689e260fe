//! Calendars from files that others publish: iCalendar and CSV.

mod csv;
mod event;
mod ical;
mod lines;
mod yearly;

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use jiff::civil::Date;

use super::{Calendar, CalendarDay, DayKind};

/// The most days of a calendar: a hundred years of a hundred days.
const MOST_DAYS: usize = 10_000;
/// The most bytes of a note; longer ones are cut.
const NOTE: usize = 200;

impl Calendar {
    /// Reads the events of an iCalendar file (RFC 5545), of which each makes its days what `kind` says.
    ///
    /// * An event has whole days: `DTSTART;VALUE=DATE`, and `DTEND`, the first day after it, or `DURATION`. Its `SUMMARY`
    ///   is the days' note.
    /// * `RRULE:FREQ=YEARLY`, perhaps with `INTERVAL`, `COUNT` and `UNTIL`, is carried out for the `years`, and `EXDATE`
    ///   takes days out. Events without it count in whatever year they are.
    /// * An event says otherwise what its days are by `X-LEVERET-KIND:work` or `off`, by a category `WORKDAY`, `WORK`,
    ///   `HOLIDAY` or `OFF`, or by 补班 or （班） in its summary, for work. Where Apple's calendars mark days by
    ///   `X-APPLE-SPECIAL-DAY:WORK-HOLIDAY` and `ALTERNATE-WORKDAY`, events without a mark are no days off, and are left
    ///   out.
    /// * Events with `STATUS:CANCELLED`, and whatever is no event, are left out.
    ///
    /// # Errors
    /// [`InvalidCalendar`] with the line and the fix; also when one day is both off and work.
    pub fn from_ical(
        name: &str,
        text: &str,
        kind: DayKind,
        years: RangeInclusive<i16>,
    ) -> Result<Self, InvalidCalendar> {
        ical::read(name, text, kind, years)
    }

    /// Reads lines such as `2026-02-14,work,Spring Festival`: date, `off` or `work`, and perhaps a note. Empty lines,
    /// lines that start with `#`, and a first line that starts with `date` are left out. A note with a comma stands in
    /// quotes.
    ///
    /// # Errors
    /// [`InvalidCalendar`] with the line and the fix; also when one day is there twice.
    pub fn from_csv(name: &str, text: &str) -> Result<Self, InvalidCalendar> {
        csv::read(name, text)
    }
}

/// A calendar cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{fix}", .line.map_or(String::new(), |line| format!("line {line}: ")))]
pub struct InvalidCalendar {
    /// The line of the text that is wrong, from 1 on; `None` when it is no single one.
    pub line: Option<usize>,
    /// What is wrong and what to write instead.
    pub fix: String,
}

impl InvalidCalendar {
    pub(super) fn new(line: impl Into<Option<usize>>, fix: impl fmt::Display) -> Self {
        Self { line: line.into(), fix: format!("{fix}") }
    }
}

/// Days as they are found, each with the line that it comes from.
#[derive(Debug, Default)]
struct Found {
    days: BTreeMap<Date, (CalendarDay, usize)>,
}

impl Found {
    /// Adds a day. One that is there already must be of the same kind; of two notes the first stays.
    fn add(&mut self, date: Date, kind: DayKind, note: Option<&str>, line: usize) -> Result<(), InvalidCalendar> {
        if let Some((day, earlier)) = self.days.get(&date) {
            if day.kind == kind {
                return Ok(());
            }
            let fix = format!("{date} is both off and work, see line {earlier} as well: take one of the two out");
            return Err(InvalidCalendar::new(line, fix));
        }
        if self.days.len() >= MOST_DAYS {
            return Err(InvalidCalendar::new(
                line,
                format!("there are over {MOST_DAYS} days: leave out years that are over"),
            ));
        }
        let note = note.map(cut).filter(|note| !note.is_empty());
        self.days.insert(date, (CalendarDay { kind, note }, line));
        Ok(())
    }

    fn calendar(self, name: &str, nothing: &str) -> Result<Calendar, InvalidCalendar> {
        if self.days.is_empty() {
            return Err(InvalidCalendar::new(None, nothing));
        }
        let days = self.days.into_iter().map(|(date, (day, _))| (date.to_string(), day)).collect();
        let calendar = Calendar { name: name.to_owned(), days };
        calendar.check()?;
        Ok(calendar)
    }
}

fn cut(note: &str) -> String {
    let note = note.trim();
    let end = (0..=NOTE.min(note.len())).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
    note[..end].to_owned()
}
