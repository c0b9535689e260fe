//! Rates, delays, single moments, windows.

use leveret_common::clock::UnixMillis;
use serde_json::json;

use crate::{moment, next, plan, refused};

#[test]
fn an_expression_runs_within_its_window() {
    let windowed = plan(json!({
        "cron": "0 9 * * *", "timezone": "Europe/Berlin",
        "starts_at": "2027-03-27", "ends_at": "2027-03-29T09:00:00+02:00",
    }));
    let expected = ["2027-03-27T09:00:00+01:00", "2027-03-28T09:00:00+02:00"];
    assert_eq!(next(&windowed, "2020-01-01T00:00:00Z", 9), expected);
    // The end is the first moment outside.
    let last = windowed.last_within(UnixMillis(0), moment("2030-01-01T00:00:00Z")).unwrap();
    assert_eq!(last.scheduled_at, moment("2027-03-28T09:00:00+02:00"));
    assert_eq!(windowed.last_within(UnixMillis(0), moment("2027-03-27T07:59:59Z")), None);

    let rate = plan(json!({ "every": "7m", "starts_at": "2027-01-01T00:00:00Z", "ends_at": "2027-01-01T00:10:00Z" }));
    // The multiples of the rate, not the window, say when.
    assert_eq!(next(&rate, "2020-01-01T00:00:00Z", 9), ["2027-01-01T00:02:00+00:00", "2027-01-01T00:09:00+00:00"]);
}

#[test]
fn the_first_moment_of_a_window_is_in_it() {
    let windowed = plan(json!({ "cron": "0 9 * * *", "starts_at": "2027-01-05T09:00:00Z", "runs": 3 }));
    assert_eq!(next(&windowed, "2020-01-01T00:00:00Z", 1), ["2027-01-05T09:00:00+00:00"]);
}

#[test]
fn a_fixed_delay_follows_the_end_of_a_run() {
    let delay = plan(json!({ "after": "10m", "starts_at": "2027-01-01T00:00:00Z", "ends_at": "2027-01-02T00:00:00Z" }));
    assert_eq!(delay.next_after(UnixMillis(0)), None);
    assert_eq!(delay.last_within(UnixMillis(0), moment("2028-01-01T00:00:00Z")), None);
    let after = |ended: &str| delay.after_end(moment(ended)).map(|tick| tick.scheduled_at);
    assert_eq!(after("2027-01-01T11:00:00.250Z"), Some(moment("2027-01-01T11:10:00.250Z")));
    assert_eq!(after("2026-12-01T00:00:00Z"), Some(moment("2027-01-01T00:00:00Z")));
    assert_eq!(after("2027-01-01T23:50:00Z"), None);
    assert_eq!(plan(json!({ "every": "10m" })).after_end(UnixMillis(0)), None);
}

#[test]
fn a_single_moment_is_written_with_an_offset_or_in_the_zone() {
    let at = |text: &str, zone: &str| {
        let once = plan(json!({ "at": text, "timezone": zone }));
        next(&once, "2020-01-01T00:00:00Z", 9)
    };
    assert_eq!(at("2027-01-01T09:00:00Z", "Europe/Berlin"), ["2027-01-01T10:00:00+01:00"]);
    assert_eq!(at("2027-01-01T09:00", "Europe/Berlin"), ["2027-01-01T09:00:00+01:00"]);
    assert_eq!(at("2027-07-01T09:00:30.5", "Europe/Berlin"), ["2027-07-01T09:00:30.5+02:00"]);
    assert_eq!(at("2027-07-01", "Asia/Kathmandu"), ["2027-07-01T00:00:00+05:45"]);
    // Of a time that comes twice it is the first, and one that is leapt over is right after the leap.
    assert_eq!(at("2026-11-01T01:30", "America/New_York"), ["2026-11-01T01:30:00-04:00"]);
    assert_eq!(at("2026-03-08T02:30", "America/New_York"), ["2026-03-08T03:00:00-04:00"]);
    assert_eq!(at("2026-10-04T02:15", "Australia/Lord_Howe"), ["2026-10-04T02:30:00+11:00"]);
    assert_eq!(at("2011-12-30T12:00", "Pacific/Apia"), Vec::<String>::new());
    let gone = plan(json!({ "at": "2011-12-30T12:00", "timezone": "Pacific/Apia" }));
    assert_eq!(next(&gone, "2011-01-01T00:00:00Z", 9), ["2011-12-31T00:00:00+14:00"]);
}

#[test]
fn a_single_moment_runs_once() {
    let once = plan(json!({ "at": "2027-01-01T09:00:00Z" }));
    let at = moment("2027-01-01T09:00:00Z");
    assert_eq!(once.next_after(UnixMillis(at.0 - 1)).unwrap().scheduled_at, at);
    assert_eq!(once.next_after(at), None);
    assert_eq!(once.last_within(UnixMillis(0), at).unwrap().scheduled_at, at);
    assert_eq!(once.last_within(at, UnixMillis(i64::MAX)), None);
}

#[test]
fn what_is_not_enabled_has_no_ticks_but_can_be_looked_at() {
    let off = plan(json!({ "cron": "@daily", "enabled": false }));
    assert_eq!(off.next_after(UnixMillis(0)), None);
    assert_eq!(off.last_within(UnixMillis(0), moment("2027-01-01T00:00:00Z")), None);
    assert_eq!(off.preview(2, UnixMillis(0)).len(), 2);
    assert_eq!(plan(json!({ "after": "1h", "enabled": false })).after_end(UnixMillis(0)), None);
}

#[test]
fn the_last_of_many_is_found_in_few_steps() {
    // Ten years of a tick each second, and then ten years without one.
    let dense = plan(json!({ "quartz": "* * * * * ?", "ends_at": "2030-01-01T00:00:00Z" }));
    let last = dense.last_within(UnixMillis(0), moment("2040-01-01T00:00:00Z")).unwrap();
    assert_eq!(last.scheduled_at, moment("2029-12-31T23:59:59Z"));
    let rate = plan(json!({ "every": "100ms", "ends_at": "2030-01-01T00:00:00Z" }));
    let last = rate.last_within(UnixMillis(0), moment("2040-01-01T00:00:00Z")).unwrap();
    assert_eq!(last.scheduled_at, moment("2029-12-31T23:59:59.900Z"));
}

#[test]
fn a_definition_says_when_once() {
    assert_eq!(refused(json!({})), "cron: set one of `cron`, `quartz` and `every`, or `after` or `at`, and only one");
    assert_eq!(
        refused(json!({ "cron": "@daily", "after": "1h" })),
        "after: `cron` says when already: keep one of the two"
    );
    assert_eq!(
        refused(json!({ "every": "1h", "at": "2027-01-01" })),
        "at: `every` says when already: keep one of the two"
    );
}

#[test]
fn times_that_cannot_work_are_named() {
    let wrong = [
        (
            json!({ "cron": "0 0 3 * * ?" }),
            "cron: \"0 0 3 * * ?\" has 6 fields where Unix cron has 5: minute, hour, day of month, month, day of week; if \
             it starts with seconds, write quartz = \"0 0 3 * * ?\"",
        ),
        (
            json!({ "cron": "0 0 30 2 *" }),
            "cron: \"0 0 30 2 *\" never runs: no date matches its days, months and years",
        ),
        (
            json!({ "after": "5ms" }),
            "after: a period of 5ms cannot be used: write whole milliseconds from 100ms to 3653 days",
        ),
        (
            json!({ "at": "tomorrow" }),
            "at: \"tomorrow\" is no moment: write a local time such as \"2027-01-01T09:00\", or one with an offset such as \
             \"2027-01-01T09:00:00Z\"",
        ),
        (json!({ "at": "1969-01-01" }), "at: 1969-01-01 is before 1970: write a later one"),
        (
            json!({ "at": "2026-03-08T02:30", "timezone": "America/New_York", "gap": "skip" }),
            "at: the clocks of America/New_York leap over 2026-03-08T02:30: write a time that exists, or gap = \"run-after\"",
        ),
        (json!({ "at": "2027-01-01", "fold": "both" }), "fold: `at` is one moment: take it out"),
        (json!({ "at": "2027-01-01", "runs": 2 }), "runs: `at` is one moment: take it out"),
        (
            json!({ "every": "1h", "gap": "skip" }),
            "gap: `every` counts time and knows no leaps of the clock: take it out",
        ),
        (
            json!({ "after": "1h", "fold": "both" }),
            "fold: `after` counts time and knows no leaps of the clock: take it out",
        ),
        (
            json!({ "every": "1h", "timezone": "Asia/Tokyo" }),
            "timezone: a fixed rate is the same in every zone: take it out, or use `cron`",
        ),
        (
            json!({ "cron": "@daily", "timezone": "Berlin" }),
            "timezone: there is no time zone \"Berlin\": write a name of the IANA database, such as \"Europe/Berlin\" or \
             \"UTC\"",
        ),
        (
            json!({ "cron": "@daily", "starts_at": "2027-01-02", "ends_at": "2027-01-02" }),
            "ends_at: it is not after `starts_at`: write a later one",
        ),
        (
            json!({ "cron": "0 0 29 2 *", "starts_at": "2025-01-01", "ends_at": "2028-01-01" }),
            "ends_at: it never runs before then: its first time is 2028-02-29T00:00:00+00:00; write a later one, or change \
             `cron`",
        ),
        (
            json!({ "quartz": "0 0 0 1 1 ? 2024-2026", "starts_at": "2027-01-01" }),
            "starts_at: it never runs from then on: its last time is 2026-01-01T00:00:00+00:00",
        ),
        (
            json!({ "quartz": "0 30 2 8 3 ? 2026", "timezone": "America/New_York", "gap": "skip" }),
            "gap: it never runs: the clock leaps over every time that it names",
        ),
        (
            json!({ "cron": "@daily", "jitter": "40days" }),
            "jitter: write whole milliseconds from 1ms to 31days, or leave it out",
        ),
    ];
    for (wanted, message) in wrong {
        assert_eq!(refused(wanted.clone()), message, "{wanted}");
    }
    // Where a rate speaks of local time it has a zone.
    for wanted in [
        json!({ "every": "1h", "timezone": "Asia/Tokyo", "starts_at": "2027-01-01T09:00" }),
        json!({ "every": "1h", "timezone": "Asia/Tokyo", "payload": ["{{scheduled_at}}"] }),
    ] {
        plan(wanted);
    }
}
