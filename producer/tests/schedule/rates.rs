//! Fixed rates, time zones, and moments at the ends of time.

use std::time::Duration;

use leveret_common::clock::UnixMillis;
use leveret_producer::schedule::{Expression, Timetable, Zone};

use crate::{cron, moment};

fn every(period: Duration) -> Timetable {
    Timetable::new(Expression::every(period).unwrap(), Zone::utc())
}

#[test]
fn a_fixed_rate_keeps_its_ticks_wherever_one_starts() {
    let timetable = every(Duration::from_secs(10));
    assert_eq!(timetable.next_after(moment("2026-01-01T00:00:03Z")), Some(moment("2026-01-01T00:00:10Z")));
    assert_eq!(timetable.next_after(moment("2026-01-01T00:00:10Z")), Some(moment("2026-01-01T00:00:20Z")));
    assert_eq!(timetable.next_after(UnixMillis(-5)), Some(UnixMillis(0)));
    assert_eq!(timetable.next_after(UnixMillis(i64::MAX)), None);
    assert_eq!(every(Duration::from_millis(250)).next_after(UnixMillis(999)), Some(UnixMillis(1_000)));
}

#[test]
fn periods_out_of_bounds_are_refused() {
    for period in [Duration::ZERO, Duration::from_millis(99), Duration::from_micros(100_500), Duration::MAX] {
        let message = Expression::every(period).unwrap_err().to_string();
        assert!(message.ends_with("cannot be used: write whole milliseconds from 100ms to 3653 days"), "{message}");
    }
}

#[test]
fn there_is_an_answer_at_the_ends_of_time() {
    let timetable = cron("0 0 * * *", "America/New_York");
    assert_eq!(timetable.next_after(UnixMillis(i64::MIN)), Some(moment("1970-01-01T05:00:00Z")));
    assert_eq!(timetable.next_after(UnixMillis(i64::MAX)), None);
    // Between seconds: the next whole one counts.
    assert_eq!(
        timetable.next_after(UnixMillis(moment("2026-01-01T05:00:00Z").0 - 1)),
        Some(moment("2026-01-01T05:00:00Z"))
    );
}

#[test]
fn the_last_moment_within_a_time_is_found_over_any_distance() {
    let timetable = cron("0 3 * * *", "Europe/Berlin");
    let last = |after: &str, until: &str| timetable.last_within(moment(after), moment(until));
    let three = moment("2026-06-10T03:00:00+02:00");
    assert_eq!(last("2026-06-01T00:00:00Z", "2026-06-10T12:00:00Z"), Some(three));
    assert_eq!(last("1990-06-01T00:00:00Z", "2026-06-10T01:00:00Z"), Some(three));
    assert_eq!(last("2026-06-10T01:00:00Z", "2026-06-10T12:00:00Z"), None);
    assert_eq!(timetable.last_within(three, three), None);
    let seconds = every(Duration::from_secs(1));
    assert_eq!(seconds.last_within(UnixMillis(0), UnixMillis(1_999_999_999_999)), Some(UnixMillis(1_999_999_999_000)));
}

#[test]
fn zones_go_by_their_iana_names() {
    for name in ["Berlin", "", "Etc/Unknown", "../etc/passwd"] {
        assert!(Zone::named(name).unwrap_err().to_string().contains("\"Europe/Berlin\""), "{name}");
    }
    assert_eq!(Zone::named("Europe/Berlin").unwrap().to_string(), "Europe/Berlin");
    assert_eq!(Zone::utc().name(), "UTC");
    let fire = &cron("0 9 * * *", "Asia/Kathmandu").preview(1, moment("2026-01-01T00:00:00Z"))[0];
    assert_eq!(fire.local, "2026-01-01T09:00:00+05:45");
    assert_eq!(fire.zone, "+0545");
}
