//! Unix cron means what Vixie cron and cronie mean by it.

use leveret_producer::schedule::Expression;

use crate::{cron, next};

/// In UTC, after Thursday 2026-01-01T00:00:00.
fn runs(text: &str, expected: &[&str]) {
    let actual = next(&cron(text, "UTC"), "2026-01-01T00:00:00Z", expected.len());
    let expected: Vec<String> = expected.iter().map(|at| format!("2026-{at}:00+00:00")).collect();
    assert_eq!(actual, expected, "{text}");
}

#[test]
fn fields_take_stars_numbers_ranges_lists_and_steps() {
    runs("* * * * *", &["01-01T00:01", "01-01T00:02"]);
    runs("*/25 * * * *", &["01-01T00:25", "01-01T00:50", "01-01T01:00"]);
    runs("5,10-12 3 * * *", &["01-01T03:05", "01-01T03:10", "01-01T03:11", "01-01T03:12", "01-02T03:05"]);
    runs("0 8-18/5 * * *", &["01-01T08:00", "01-01T13:00", "01-01T18:00", "01-02T08:00"]);
    runs("07 010 1 02 *", &["02-01T10:07"]);
    runs("0 0 31 * *", &["01-31T00:00", "03-31T00:00", "05-31T00:00"]);
    runs("  0\t0  1 1-12/6 * ", &["07-01T00:00"]);
    // A step beyond the field leaves its first value, as in cronie.
    runs("*/90 * * * *", &["01-01T01:00", "01-01T02:00"]);
}

#[test]
fn names_stand_in_any_case_and_anywhere_in_a_field() {
    runs("0 0 1 FEB,apr-May *", &["02-01T00:00", "04-01T00:00", "05-01T00:00"]);
    runs("0 0 * * Mon-WED", &["01-05T00:00", "01-06T00:00", "01-07T00:00", "01-12T00:00"]);
}

#[test]
fn zero_and_seven_are_sunday() {
    runs("0 0 * * 0", &["01-04T00:00", "01-11T00:00"]);
    runs("0 0 * * 7", &["01-04T00:00", "01-11T00:00"]);
    runs("0 0 * * 5-7", &["01-02T00:00", "01-03T00:00", "01-04T00:00", "01-09T00:00"]);
    runs("0 0 * * 0-7/7", &["01-04T00:00", "01-11T00:00"]);
    runs("0 0 * * */2", &["01-03T00:00", "01-04T00:00", "01-06T00:00", "01-08T00:00"]);
}

#[test]
fn two_day_fields_without_a_star_are_either_or() {
    runs("0 9 13 * fri", &["01-02T09:00", "01-09T09:00", "01-13T09:00", "01-16T09:00"]);
    // One that starts with a star has to match as well as the other: here every other day, if it is a Monday.
    runs("0 9 */2 * mon", &["01-05T09:00", "01-19T09:00", "02-09T09:00"]);
    runs("0 9 13 * */5", &["02-13T09:00", "03-13T09:00", "09-13T09:00"]);
    // A range over all days is no star.
    runs("0 9 1-31 * mon", &["01-01T09:00", "01-02T09:00"]);
}

#[test]
fn macros_are_what_they_say() {
    runs("@hourly", &["01-01T01:00", "01-01T02:00"]);
    runs("@daily", &["01-02T00:00"]);
    runs("@midnight", &["01-02T00:00"]);
    runs("@weekly", &["01-04T00:00"]);
    runs("@monthly", &["02-01T00:00"]);
    assert_eq!(next(&cron("@yearly", "UTC"), "2026-01-01T00:00:00Z", 1), ["2027-01-01T00:00:00+00:00"]);
    assert_eq!(Expression::unix("@annually").unwrap().to_string(), "@annually");
}

#[test]
fn rare_dates_are_found_across_leap_years_and_centuries() {
    assert_eq!(next(&cron("0 0 29 2 *", "UTC"), "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00+00:00"]);
    // A 29 February on a Sunday, the star rule making it both.
    assert_eq!(next(&cron("0 0 29 2 */7", "UTC"), "2088-03-01T00:00:00Z", 1), ["2128-02-29T00:00:00+00:00"]);
}

#[test]
fn mistakes_are_named_with_their_field_and_their_remedy() {
    let refused = [
        ("60 * * * *", "60 is out of range in the minute field, which takes 0 to 59"),
        ("0 24 * * *", "24 is out of range in the hour field, which takes 0 to 23"),
        ("0 0 0 * *", "0 is out of range in the day-of-month field, which takes 1 to 31"),
        ("0 0 * 99999999999 *", "99999999999 is out of range in the month field, which takes 1 to 12 or jan to dec"),
        (
            "0 0 * * 8",
            "8 is out of range in the day-of-week field, which takes 0 to 7 (0 and 7 are Sunday) or sun to sat",
        ),
        ("0 0 ? * 1", "\"?\" means nothing in the day-of-month field, which takes `*` or 1 to 31"),
        ("0 0 L * *", "\"L\" means nothing in the day-of-month field, which takes `*` or 1 to 31"),
        ("0, * * * *", "\"\" means nothing in the minute field, which takes `*` or 0 to 59"),
        ("-5 * * * *", "\"\" means nothing in the minute field, which takes `*` or 0 to 59"),
        ("5/15 * * * *", "\"5/15\" in the minute field has a step without a range: write \"5-59/15\""),
        ("*/0 * * * *", "\"*/0\" in the minute field has no usable step: write a number from 1 on after the slash"),
        ("*/x * * * *", "\"*/x\" in the minute field has no usable step: write a number from 1 on after the slash"),
        ("0 22-2 * * *", "the range \"22-2\" in the hour field runs backwards: write \"22-23,0-2\""),
        ("0 0 * * fri-mon", "the range \"fri-mon\" in the day-of-week field runs backwards: write \"5-6,0-1\""),
        ("0 0 30 2 *", "\"0 0 30 2 *\" never runs: no date matches its days, months and years"),
        ("0 0 31 4,6 *", "\"0 0 31 4,6 *\" never runs: no date matches its days, months and years"),
        ("* * * *", "\"* * * *\" has 4 fields where Unix cron has 5: minute, hour, day of month, month, day of week"),
        (
            "0 0 3 * * ?",
            "\"0 0 3 * * ?\" has 6 fields where Unix cron has 5: minute, hour, day of month, month, day of week; if it \
             starts with seconds, write quartz = \"0 0 3 * * ?\"",
        ),
        (
            "@reboot",
            "\"@reboot\" is no macro that names a time: use @hourly, @daily, @midnight, @weekly, @monthly, @yearly or \
             @annually under `cron`",
        ),
        (
            "CRON_TZ=Europe/Riga 0 0 * * *",
            "\"CRON_TZ=Europe/Riga 0 0 * * *\" starts with a time zone: take it out and set `timezone` instead",
        ),
    ];
    for (text, message) in refused {
        assert_eq!(Expression::unix(text).unwrap_err().to_string(), message);
    }
    // What the remedies suggest is accepted.
    for text in ["5-59/15 * * * *", "0 22-23,0-2 * * *", "0 0 * * 5-6,0-1"] {
        assert!(Expression::unix(text).is_ok(), "{text}");
    }
}
