//! When schedules run: the rules of each dialect, clocks that leap, and a slow oracle that agrees.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cost;
mod leaps;
mod oracle;
mod quartz;
mod rates;
mod unix;

use jiff::Timestamp;
use leveret_common::clock::UnixMillis;
use leveret_producer::schedule::{Expression, Timetable, Zone};

/// The moment of a text such as `2026-03-08T01:30:00-05:00`.
fn moment(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn cron(text: &str, zone: &str) -> Timetable {
    Timetable::new(Expression::unix(text).unwrap(), Zone::named(zone).unwrap())
}

fn quartz(text: &str, zone: &str) -> Timetable {
    Timetable::new(Expression::quartz(text).unwrap(), Zone::named(zone).unwrap())
}

/// The local times of the next moments, without the `:00` of the seconds where there are none.
fn next(timetable: &Timetable, after: &str, count: usize) -> Vec<String> {
    timetable.preview(count, moment(after)).into_iter().map(|fire| fire.local).collect()
}
