//! One event of an iCalendar file: its days, and what they are.

use std::ops::RangeInclusive;

use jiff::{Span, civil::Date};

use super::{
    DayKind, InvalidCalendar,
    lines::{Line, unescaped},
    yearly::Yearly,
};

/// The most days of one event.
const LONGEST: i32 = 366;

/// How an event says what its days are; the later of these counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Summary,
    Category,
    Apple,
    Own,
}

#[derive(Debug, Default)]
pub(super) struct Event {
    /// Where it begins.
    pub(super) line: usize,
    /// What it says its days are, and how well it says so.
    kind: Option<(Mark, DayKind)>,
    pub(super) note: Option<String>,
    pub(super) cancelled: bool,
    start: Option<Date>,
    /// The first day after it.
    end: Option<Date>,
    days: Option<i32>,
    rule: Option<Yearly>,
    left_out: Vec<Date>,
}

impl Event {
    pub(super) fn begin(line: usize) -> Self {
        Self { line, ..Self::default() }
    }

    /// Whether it says what its days are as Apple's calendars do.
    pub(super) fn is_marked_by_apple(&self) -> bool {
        self.kind.is_some_and(|(mark, _)| mark == Mark::Apple)
    }

    /// Whether it says itself what its days are.
    pub(super) fn is_marked(&self) -> bool {
        self.kind.is_some()
    }

    /// What it says its days are.
    pub(super) fn kind(&self) -> Option<DayKind> {
        self.kind.map(|(_, kind)| kind)
    }

    fn mark(&mut self, mark: Mark, kind: DayKind) {
        if self.kind.is_none_or(|(earlier, _)| earlier <= mark) {
            self.kind = Some((mark, kind));
        }
    }

    /// Takes a line of it.
    pub(super) fn read(&mut self, line: &Line) -> Result<(), InvalidCalendar> {
        match line.name.as_str() {
            "DTSTART" => self.start = Some(date(line, &line.value)?),
            "DTEND" => self.end = Some(date(line, &line.value)?),
            "DURATION" => self.days = Some(whole_days(line)?),
            "RRULE" => self.rule = Some(Yearly::read(line)?),
            "EXDATE" => {
                for text in line.value.split(',') {
                    self.left_out.push(date(line, text)?);
                }
            }
            "RDATE" | "RECURRENCE-ID" => {
                let fix = format!("{} is not understood: write an event for each of its days", line.name);
                return Err(InvalidCalendar::new(line.number, fix));
            }
            "STATUS" => self.cancelled = line.value.eq_ignore_ascii_case("CANCELLED"),
            "SUMMARY" => {
                let summary = unescaped(&line.value);
                if ["补班", "（班）", "(班)"].iter().any(|word| summary.contains(word)) {
                    self.mark(Mark::Summary, DayKind::Work);
                }
                self.note = Some(summary);
            }
            "CATEGORIES" => {
                for category in line.value.split(',') {
                    match category.trim().to_ascii_uppercase().as_str() {
                        "WORK" | "WORKDAY" => self.mark(Mark::Category, DayKind::Work),
                        "OFF" | "HOLIDAY" => self.mark(Mark::Category, DayKind::Off),
                        _ => {}
                    }
                }
            }
            "X-APPLE-SPECIAL-DAY" => match line.value.to_ascii_uppercase().as_str() {
                "WORK-HOLIDAY" => self.mark(Mark::Apple, DayKind::Off),
                "ALTERNATE-WORKDAY" => self.mark(Mark::Apple, DayKind::Work),
                _ => {}
            },
            "X-LEVERET-KIND" => match line.value.to_ascii_lowercase().as_str() {
                "work" => self.mark(Mark::Own, DayKind::Work),
                "off" => self.mark(Mark::Own, DayKind::Off),
                _ => {
                    let fix = "write X-LEVERET-KIND:off or X-LEVERET-KIND:work";
                    return Err(InvalidCalendar::new(line.number, fix));
                }
            },
            _ => {}
        }
        Ok(())
    }

    /// Its days; those of a rule within the years.
    pub(super) fn days(&self, years: &RangeInclusive<i16>) -> Result<Vec<Date>, InvalidCalendar> {
        let invalid = |fix: String| InvalidCalendar::new(self.line, fix);
        let start =
            self.start.ok_or_else(|| invalid("the event has no DTSTART: add the day that it is on".to_owned()))?;
        let days = match (self.end, self.days) {
            // Some write the same day as the end of a single one.
            (Some(end), _) if end == start => 1,
            (Some(end), _) => start.until(end).map_or(0, |span| span.get_days()),
            (None, Some(days)) => days,
            (None, None) => 1,
        };
        if !(1..=LONGEST).contains(&days) {
            return Err(invalid(format!(
                "the event has {days} days: its DTEND is the first day after it, at most a year on"
            )));
        }
        let starts = match &self.rule {
            Some(rule) => rule.dates(start, years),
            None => vec![start],
        };
        let starts = starts.into_iter().filter(|start| !self.left_out.contains(start));
        let each = |start: Date| (0..days).filter_map(move |day| start.checked_add(Span::new().days(day)).ok());
        Ok(starts.flat_map(each).collect())
    }
}

/// A day, such as `20270206`.
pub(super) fn date(line: &Line, text: &str) -> Result<Date, InvalidCalendar> {
    let text = text.trim();
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    if line.parameter("VALUE").is_some_and(|kind| !kind.eq_ignore_ascii_case("DATE")) || text.contains('T') {
        let fix = format!("{} has a time: write whole days, such as {};VALUE=DATE:20270206", line.name, line.name);
        return Err(InvalidCalendar::new(line.number, fix));
    }
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<i16>().ok());
    let read = || {
        let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
        Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
    };
    read().filter(|date| digits && date.year() > 0).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        InvalidCalendar::new(line.number, format!("{shown:?} is no day: write year, month and day, such as 20270206"))
    })
}

/// `P3D` or `P1W`.
fn whole_days(line: &Line) -> Result<i32, InvalidCalendar> {
    let text = line.value.to_ascii_uppercase();
    let count = |unit: char| text.strip_prefix('P')?.strip_suffix(unit)?.parse::<i32>().ok();
    let days = count('D').or_else(|| count('W').and_then(|weeks| weeks.checked_mul(7)));
    days.filter(|days| *days > 0)
        .ok_or_else(|| InvalidCalendar::new(line.number, "write whole days or weeks, such as DURATION:P3D"))
}
