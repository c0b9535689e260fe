//! The next ticks as a person sees them.

use leveret_common::clock::UnixMillis;
use serde_json::json;

use crate::{check, moment, plan};

#[test]
fn leaps_of_the_clock_are_marked() {
    let marks = |cron: &str, after: &str, count: usize| -> Vec<(String, String, Option<&str>)> {
        let plan = plan(json!({ "cron": cron, "timezone": "America/New_York", "fold": "both" }));
        let fires = plan.preview(count, moment(after));
        fires.into_iter().map(|fire| (fire.local, fire.zone, fire.clock.map(|clock| clock.as_str()))).collect()
    };
    let entry = |local: &str, zone: &str, mark| (local.to_owned(), zone.to_owned(), mark);
    assert_eq!(
        marks("30 1 * * *", "2026-10-31T12:00:00Z", 3),
        [
            entry("2026-11-01T01:30:00-04:00", "EDT", Some("first pass")),
            entry("2026-11-01T01:30:00-05:00", "EST", Some("second pass")),
            entry("2026-11-02T01:30:00-05:00", "EST", None),
        ]
    );
    assert_eq!(
        marks("30 2 * * *", "2026-03-07T00:00:00Z", 3),
        [
            entry("2026-03-07T02:30:00-05:00", "EST", None),
            entry("2026-03-08T03:00:00-04:00", "EDT", Some("put forward")),
            entry("2026-03-09T02:30:00-04:00", "EDT", None),
        ]
    );
    assert_eq!(
        marks("0 9 * * *", "2026-10-31T00:00:00Z", 2),
        [entry("2026-10-31T09:00:00-04:00", "EDT", None), entry("2026-11-01T09:00:00-05:00", "EST", Some("put back")),]
    );
}

#[test]
fn it_is_json_of_one_shape() {
    let plan = plan(json!({ "cron": "0 12 * * *", "timezone": "Asia/Tokyo", "jitter": "1h" }));
    let shown = serde_json::to_value(plan.preview(1, moment("2027-01-01T00:00:00Z"))).unwrap();
    let at = moment("2027-01-01T03:00:00Z");
    let due = plan.tick(at).due_at;
    assert!(due > at);
    let expected = json!([
        { "at": at, "local": "2027-01-01T12:00:00+09:00", "zone": "JST", "clock": null, "due_at": due }
    ]);
    assert_eq!(shown, expected);
}

#[test]
fn a_delay_shows_what_follows_a_run_that_ends_then() {
    let delay = plan(json!({ "after": "90s" }));
    let shown = delay.preview(5, moment("2027-01-01T00:00:00Z"));
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].local, "2027-01-01T00:01:30+00:00");
}

#[test]
fn what_is_over_is_warned_of() {
    let once = plan(json!({ "at": "2027-01-01" }));
    assert!(once.warnings(UnixMillis(0)).is_empty());
    assert_eq!(once.warnings(moment("2027-01-01T00:00:00Z")), ["it does not run any more: all its times are over"]);
    let daily = check("d", json!({ "cron": "@daily", "ends_at": "2027-01-01" }), &[]).unwrap();
    assert!(daily.warnings(moment("2026-06-01T00:00:00Z")).is_empty());
    assert_eq!(daily.warnings(moment("2027-06-01T00:00:00Z")).len(), 1);
}
