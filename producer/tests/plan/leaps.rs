//! What becomes of local times that the clock leaps over or shows twice, when the definition says it.

use serde_json::{Value, json};

use crate::{moment, next, plan};

/// The ticks of `cron` in New York after a moment, with the policies of `more`.
fn new_york(cron: &str, more: &Value, after: &str, count: usize) -> Vec<String> {
    runs("America/New_York", cron, more, after, count)
}

fn runs(zone: &str, cron: &str, more: &Value, after: &str, count: usize) -> Vec<String> {
    let mut wanted = json!({ "cron": cron, "timezone": zone });
    wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    next(&plan(wanted), after, count)
}

// New York leaps from 02:00 to 03:00 on 2026-03-08 and goes back from 02:00 to 01:00 on 2026-11-01.
const FORWARD: &str = "2026-03-07T12:00:00Z";
const BACK: &str = "2026-10-31T12:00:00Z";

#[test]
fn a_fixed_time_in_a_gap_runs_after_it_or_is_skipped() {
    let after = ["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"];
    assert_eq!(new_york("30 2 * * *", &json!({}), FORWARD, 2), after);
    assert_eq!(new_york("30 2 * * *", &json!({ "gap": "run-after" }), FORWARD, 2), after);
    let skipped = ["2026-03-09T02:30:00-04:00"];
    assert_eq!(new_york("30 2 * * *", &json!({ "gap": "skip" }), FORWARD, 1), skipped);
}

#[test]
fn an_interval_in_a_gap_runs_after_it_when_told_to() {
    let nightly = "*/15 2 * * *";
    assert_eq!(new_york(nightly, &json!({}), FORWARD, 1), ["2026-03-09T02:00:00-04:00"]);
    // All of the leap are one run.
    assert_eq!(
        new_york(nightly, &json!({ "gap": "run-after" }), FORWARD, 2),
        ["2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"]
    );
    // What is due right after the leap anyway is one run with those of the leap.
    assert_eq!(
        new_york("*/30 * * * *", &json!({ "gap": "run-after" }), "2026-03-08T06:15:00Z", 3),
        ["2026-03-08T01:30:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00"]
    );
}

#[test]
fn a_fixed_time_that_comes_twice_runs_once_or_twice() {
    let (first, second, then) = ("2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00", "2026-11-02T01:30:00-05:00");
    assert_eq!(new_york("30 1 * * *", &json!({}), BACK, 2), [first, then]);
    assert_eq!(new_york("30 1 * * *", &json!({ "fold": "first" }), BACK, 2), [first, then]);
    assert_eq!(new_york("30 1 * * *", &json!({ "fold": "both" }), BACK, 3), [first, second, then]);
}

#[test]
fn an_interval_can_leave_the_second_pass_out() {
    assert_eq!(
        new_york("*/30 * * * *", &json!({ "fold": "first" }), "2026-11-01T04:45:00Z", 4),
        [
            "2026-11-01T01:00:00-04:00",
            "2026-11-01T01:30:00-04:00",
            "2026-11-01T02:00:00-05:00",
            "2026-11-01T02:30:00-05:00"
        ]
    );
    // Also for one who asks in the middle of it.
    let once = plan(json!({ "cron": "*/30 * * * *", "timezone": "America/New_York", "fold": "first" }));
    for asked in ["2026-11-01T01:00:00-05:00", "2026-11-01T01:45:00-05:00"] {
        let next = once.next_after(moment(asked)).unwrap().scheduled_at;
        assert_eq!(next, moment("2026-11-01T02:00:00-05:00"), "{asked}");
    }
}

#[test]
fn half_an_hour_of_lord_howe() {
    let lord_howe =
        |cron: &str, more: Value, after: &str, count: usize| runs("Australia/Lord_Howe", cron, &more, after, count);
    // Forward from 02:00 to 02:30.
    let forward = "2026-10-03T00:00:00Z";
    assert_eq!(
        lord_howe("15 2 * * *", json!({}), forward, 2),
        ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"]
    );
    assert_eq!(lord_howe("15 2 * * *", json!({ "gap": "skip" }), forward, 1), ["2026-10-05T02:15:00+11:00"]);
    // 02:45 is there.
    assert_eq!(lord_howe("45 2 * * *", json!({ "gap": "skip" }), forward, 1), ["2026-10-04T02:45:00+11:00"]);
    // Back from 02:00 to 01:30.
    let back = "2026-04-04T00:00:00Z";
    assert_eq!(
        lord_howe("45 1 * * *", json!({ "fold": "both" }), back, 3),
        ["2026-04-05T01:45:00+11:00", "2026-04-05T01:45:00+10:30", "2026-04-06T01:45:00+10:30"]
    );
    assert_eq!(
        lord_howe("*/15 1 * * *", json!({ "fold": "first" }), "2026-04-05T01:15:00+11:00", 3),
        ["2026-04-05T01:30:00+11:00", "2026-04-05T01:45:00+11:00", "2026-04-06T01:00:00+10:30"]
    );
    assert_eq!(
        lord_howe("15 1 * * *", json!({ "fold": "both" }), back, 2),
        ["2026-04-05T01:15:00+11:00", "2026-04-06T01:15:00+10:30"]
    );
}

#[test]
fn midnight_and_whole_days() {
    assert_eq!(
        runs("Africa/Cairo", "@daily", &json!({ "gap": "skip" }), "2026-04-23T12:00:00Z", 1),
        ["2026-04-25T00:00:00+03:00"]
    );
    assert_eq!(
        runs("Pacific/Apia", "0 12 * * *", &json!({ "gap": "skip" }), "2011-12-29T23:00:00Z", 1),
        ["2011-12-31T12:00:00+14:00"]
    );
}
