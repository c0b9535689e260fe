//! Days off, and workdays that make up for them.

use std::time::Duration;

use leveret_common::clock::UnixMillis;
use leveret_producer::plan::{Calendar, CalendarDay, DayKind, Plan};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{check, moment, next};

/// Holidays and make-up workdays as the State Council decrees them for a year; those of the last months are left out.
const CHINA: &str = "\
date,kind,note
2026-01-01,off,元旦
2026-01-02,off,元旦
2026-01-03,off,元旦
2026-01-04,work,元旦
2026-02-14,work,春节
2026-02-15,off,春节
2026-02-16,off,春节
2026-02-17,off,春节
2026-02-18,off,春节
2026-02-19,off,春节
2026-02-20,off,春节
2026-02-21,off,春节
2026-02-22,off,春节
2026-02-23,off,春节
2026-02-28,work,春节
2026-12-31,off,
2027-01-01,off,
2027-01-02,off,
2027-01-03,work,
";

fn china() -> Calendar {
    Calendar::from_csv("cn", CHINA).unwrap()
}

fn calendar(name: &str, days: &[(&str, DayKind)]) -> Calendar {
    let day = |(date, kind): &(&str, DayKind)| ((*date).to_owned(), CalendarDay { kind: *kind, note: None });
    Calendar { name: name.to_owned(), days: days.iter().map(day).collect() }
}

fn with(calendars: &[Calendar], mut wanted: Value) -> Plan {
    let names: Vec<_> = calendars.iter().map(|calendar| calendar.name.as_str()).collect();
    wanted.as_object_mut().unwrap().insert("calendars".to_owned(), json!(names));
    check("nightly", wanted, calendars).unwrap()
}

/// The days of the next ticks, which are all at nine.
fn days(plan: &Plan, after: &str, count: usize) -> Vec<String> {
    let times = next(plan, after, count);
    times.iter().map(|time| time.strip_suffix("T09:00:00+08:00").unwrap()[5..].to_owned()).collect()
}

#[test]
fn workdays_of_china() {
    let plan = with(&[china()], json!({ "cron": "0 9 * * mon-fri", "timezone": "Asia/Shanghai" }));
    // New Year's Day is a Thursday; the Sunday after it makes up for the Friday.
    assert_eq!(days(&plan, "2025-12-30T16:00:00Z", 4), ["12-31", "01-04", "01-05", "01-06"]);
    // The Saturday before the Spring Festival is worked, the nine days of it are not.
    assert_eq!(
        days(&plan, "2026-02-12T16:00:00Z", 8),
        ["02-13", "02-14", "02-24", "02-25", "02-26", "02-27", "02-28", "03-02"]
    );
    // And over the end of the year.
    assert_eq!(days(&plan, "2026-12-29T16:00:00Z", 3), ["12-30", "01-03", "01-04"]);
}

#[test]
fn the_day_is_that_of_the_zone() {
    // 16:00 UTC is midnight in Shanghai, when the holiday begins.
    let off = calendar("cn", &[("2026-01-01", DayKind::Off)]);
    let plan = with(&[off], json!({ "cron": "0 * * * *", "timezone": "Asia/Shanghai" }));
    assert_eq!(next(&plan, "2025-12-31T14:30:00Z", 2), ["2025-12-31T23:00:00+08:00", "2026-01-02T00:00:00+08:00"]);
}

#[test]
fn a_workday_is_no_second_first_of_the_month() {
    let monthly = with(&[china()], json!({ "cron": "0 9 1 * *", "timezone": "Asia/Shanghai" }));
    assert_eq!(days(&monthly, "2025-12-31T16:00:00Z", 2), ["02-01", "03-01"]);
    // Nor does it come in a month that is not named.
    let summer = with(&[china()], json!({ "cron": "0 9 * 6 mon-fri", "timezone": "Asia/Shanghai" }));
    assert_eq!(days(&summer, "2025-12-31T16:00:00Z", 1), ["06-01"]);
    // Of a day field or the other, the weekday is the other.
    let either = with(&[china()], json!({ "cron": "0 9 10 2 mon", "timezone": "Asia/Shanghai" }));
    assert_eq!(days(&either, "2026-01-31T16:00:00Z", 5), ["02-02", "02-09", "02-10", "02-14", "02-28"]);
    let quartz = with(&[china()], json!({ "quartz": "0 0 9 ? * MON-FRI 2026", "timezone": "Asia/Shanghai" }));
    assert_eq!(days(&quartz, "2026-12-29T16:00:00Z", 3), ["12-30"]);
}

#[test]
fn of_two_calendars_the_first_that_knows_a_day_counts() {
    let firm = calendar("firm", &[("2026-02-16", DayKind::Work), ("2026-02-24", DayKind::Off)]);
    let wanted = json!({ "cron": "0 9 * * mon-fri", "timezone": "Asia/Shanghai" });
    let first = with(&[firm.clone(), china()], wanted.clone());
    assert_eq!(days(&first, "2026-02-13T16:00:00Z", 3), ["02-14", "02-16", "02-25"]);
    let second = with(&[china(), firm], wanted);
    assert_eq!(days(&second, "2026-02-13T16:00:00Z", 2), ["02-14", "02-25"]);
}

#[test]
fn a_rate_and_a_delay_keep_off_days_too() {
    let off = calendar("cn", &[("2026-01-01", DayKind::Off), ("2026-01-02", DayKind::Off)]);
    let rate = with(std::slice::from_ref(&off), json!({ "every": "7h", "timezone": "Asia/Shanghai" }));
    let times = next(&rate, "2025-12-31T09:59:59Z", 2);
    assert!(times[0].starts_with("2025-12-31T") && times[1].starts_with("2026-01-03T0"), "{times:?}");
    let delay = with(&[off], json!({ "after": "1h", "timezone": "Asia/Shanghai" }));
    let after = delay.after_end(moment("2025-12-31T23:30:00+08:00")).unwrap().scheduled_at;
    assert_eq!(after, moment("2026-01-03T00:00:00+08:00"));
}

#[test]
fn a_day_off_is_skipped_not_stepped_through() {
    // Ten years off, for what would run each second or ten times a second.
    let mut date = jiff::civil::date(2026, 1, 1);
    let mut off = Calendar { name: "closed".to_owned(), ..Calendar::default() };
    while date.year() < 2036 {
        off.days.insert(date.to_string(), CalendarDay { kind: DayKind::Off, note: None });
        date = date.tomorrow().unwrap();
    }
    let calendars = [off];
    let begun = Instant::now();
    for wanted in [
        json!({ "quartz": "* * * * * ?", "timezone": "Europe/Berlin" }),
        json!({ "every": "100ms", "timezone": "Europe/Berlin" }),
        json!({ "quartz": "0/5 * 0-22 ? * SUN", "timezone": "Europe/Berlin" }),
    ] {
        let plan = with(&calendars, wanted);
        let next = plan.next_after(moment("2026-01-01T00:00:00+01:00")).unwrap().scheduled_at;
        assert!(next >= moment("2036-01-01T00:00:00+01:00") && next < moment("2036-01-07T00:00:00+01:00"));
        let last = plan.last_within(UnixMillis(0), moment("2035-12-01T00:00:00Z")).unwrap().scheduled_at;
        assert!(last < moment("2026-01-01T00:00:00+01:00") && last > moment("2025-12-27T00:00:00+01:00"));
    }
    // To step through takes some hundred million steps; this takes thousands.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn what_only_runs_on_days_off_is_refused() {
    let off = calendar("cn", &[("2026-01-01", DayKind::Off)]);
    let wanted = json!({ "quartz": "0 0 9 1 1 ? 2026", "calendars": ["cn"] });
    let error = check("n", wanted, &[off]).unwrap_err().to_string();
    assert_eq!(error, "calendars: it never runs: every day that it names is off");
}

#[test]
fn calendars_have_to_be_there_and_make_sense() {
    let refused = |wanted: Value| check("n", wanted, &[china()]).unwrap_err().to_string();
    assert_eq!(
        refused(json!({ "cron": "@daily", "calendars": ["de"] })),
        "calendars: there is no calendar \"de\": write one of cn, or make it first"
    );
    assert_eq!(
        refused(json!({ "cron": "@daily", "calendars": ["cn", "cn"] })),
        "calendars: \"cn\" is named twice: keep one"
    );
    assert_eq!(
        refused(json!({ "at": "2027-01-01", "calendars": ["cn"] })),
        "calendars: `at` is one moment: take it out"
    );
    let odd = calendar("odd", &[("2026-1-1", DayKind::Off)]);
    let error = odd.check().unwrap_err().to_string();
    assert_eq!(error, "\"2026-1-1\" is no date: write year, month and day, such as \"2027-02-06\"");
    assert!(calendar("a b", &[]).check().unwrap_err().to_string().contains("cannot name a calendar"));
}

#[test]
fn a_calendar_that_ends_is_warned_of() {
    let plan = with(&[china()], json!({ "cron": "@daily" }));
    let warnings = |at: &str| plan.warnings(moment(at));
    assert!(warnings("2026-11-03T12:00:00Z").is_empty());
    assert_eq!(
        warnings("2026-11-04T12:00:00Z"),
        ["calendar \"cn\" knows no day after 2027-01-03, in 60 days: load the days that follow"]
    );
    assert_eq!(
        warnings("2027-01-04T00:00:00Z"),
        ["calendar \"cn\" knows no day after 2027-01-03, which is over: load the days that follow"]
    );
    assert_eq!(china().last_day(), Some("2027-01-03"));
    assert!(china().warning(moment("2027-06-01T00:00:00Z")).is_some());
    assert!(calendar("new", &[]).warning(UnixMillis(0)).unwrap().contains("knows no day"));
}
