//! Ticks that are due later by a part of their jitter.

use std::collections::BTreeSet;

use leveret_common::clock::UnixMillis;
use serde_json::{Value, json};

use crate::{check, moment, plan};

#[test]
fn jitter_is_the_same_everywhere_and_spread_out() {
    let wanted = json!({ "cron": "0 * * * *", "jitter": "10m" });
    let lateness = |name: &str| -> Vec<i64> {
        let plan = check(name, wanted.clone(), &[]).unwrap();
        let mut at = moment("2027-01-01T00:00:00Z");
        let mut all = Vec::new();
        for _ in 0..1_000 {
            let tick = plan.next_after(at).unwrap();
            assert_eq!(plan.tick(tick.scheduled_at), tick);
            assert_eq!(plan.last_within(UnixMillis(tick.scheduled_at.0 - 1), tick.scheduled_at), Some(tick));
            all.push(tick.due_at.0 - tick.scheduled_at.0);
            at = tick.scheduled_at;
        }
        all
    };
    let (one, same, other) = (lateness("a"), lateness("a"), lateness("b"));
    assert_eq!(one, same);
    assert_ne!(one, other);
    assert!(one.iter().all(|late| (0..=600_000).contains(late)));
    // Each minute of the ten has its share of a thousand, 100, give or take.
    for minute in 0..10 {
        let share = one.iter().filter(|late| **late / 60_000 == minute).count();
        assert!((60..=140).contains(&share), "{share} in minute {minute}");
    }
}

#[test]
fn jitter_never_changes_the_order() {
    let wanted: [Value; 4] = [
        json!({ "cron": "* * * * *", "jitter": "1h" }),
        json!({ "cron": "0,1,30 * * * *", "jitter": "45m" }),
        json!({ "every": "100ms", "jitter": "1s" }),
        json!({ "cron": "*/20 1 * * *", "timezone": "America/New_York", "jitter": "1day", "fold": "both" }),
    ];
    for wanted in wanted {
        let plan = plan(wanted.clone());
        let mut at = moment("2026-10-31T00:00:00Z");
        for _ in 0..2_000 {
            let tick = plan.next_after(at).unwrap();
            let next = plan.next_after(tick.scheduled_at).unwrap();
            assert!(tick.scheduled_at <= tick.due_at && tick.due_at < next.scheduled_at, "{wanted}: {tick:?} {next:?}");
            at = tick.scheduled_at;
        }
    }
}

#[test]
fn jitter_stays_within_the_window() {
    let due: BTreeSet<_> = (0..200)
        .map(|number| {
            let wanted =
                json!({ "cron": "@daily", "jitter": "12h", "starts_at": "2027-01-01", "ends_at": "2027-01-01T00:10" });
            let plan = check(&format!("nightly-{number}"), wanted, &[]).unwrap();
            plan.next_after(UnixMillis(0)).unwrap().due_at
        })
        .collect();
    assert!(*due.last().unwrap() < moment("2027-01-01T00:10:00Z"));
    assert!(due.len() > 190);
}

#[test]
fn a_single_moment_and_a_delay_have_jitter_too() {
    let once = plan(json!({ "at": "2027-01-01T00:00:00Z", "jitter": "1h" }));
    let tick = once.next_after(UnixMillis(0)).unwrap();
    assert!(tick.due_at > tick.scheduled_at && tick.due_at <= moment("2027-01-01T01:00:00Z"));
    let delay = plan(json!({ "after": "1m", "jitter": "1h" }));
    let tick = delay.after_end(moment("2027-01-01T00:00:00Z")).unwrap();
    assert_eq!(tick.scheduled_at, moment("2027-01-01T00:01:00Z"));
    assert!(tick.due_at > tick.scheduled_at && tick.due_at <= moment("2027-01-01T01:01:00Z"));
}
