//! What a definition says besides the time, and what is refused of it.

use serde_json::json;

use crate::{definition, plan, refused};

#[test]
fn a_definition_is_read_and_written_with_its_defaults() {
    let least = definition(json!({ "cron": "@daily" }));
    let written = serde_json::to_value(&least).unwrap();
    let expected = json!({
        "cron": "@daily", "task": "report", "queue": "default", "payload": null, "missed": "latest", "missed_limit": 100,
        "catch_up": "1day", "overlap": "allow", "lost_after": "1day",
    });
    assert_eq!(written, expected);
    assert_eq!(definition(written), least);
    let unknown =
        serde_json::from_value::<leveret_producer::plan::Definition>(json!({ "task": "t", "crom": "@daily" }));
    assert!(unknown.unwrap_err().to_string().contains("unknown field `crom`"));
}

#[test]
fn what_cannot_work_is_named_with_its_key_and_fix() {
    let long = "x".repeat(256);
    let wrong = [
        (json!({ "task": "" }), "task: name the task to publish, such as \"report.nightly\""),
        (json!({ "task": long }), "task: the task name has 256 bytes, AMQP has room for 1 to 255"),
        (json!({ "queue": "a.b" }), "queue: "),
        (json!({ "max_attempts": 0 }), "max_attempts: write 1 or more: the first attempt counts"),
        (json!({ "backoff": "1h..2s" }), "backoff: \"1h..2s\" is no backoff: its first delay is longer than its last"),
        (json!({ "timeout": "0s" }), "timeout: write 1ms or more, or leave it out for the worker's own"),
        (json!({ "expires": "0s" }), "expires: write 1ms to 3653days, or leave it out: then it never expires"),
        (json!({ "route": "nearest" }), "route: "),
        (json!({ "key": "" }), "key: it is empty: leave it out for none"),
        (json!({ "runs": 0 }), "runs: write 1 or more, or leave it out: then there is no end"),
        (json!({ "pause_after": 0 }), "pause_after: write 1 or more, or leave it out: then it never pauses"),
        (json!({ "missed_limit": 0 }), "missed_limit: write 1 to 10000"),
        (json!({ "missed_limit": 10_001 }), "missed_limit: write 1 to 10000"),
        (json!({ "catch_up": "999ms" }), "catch_up: write 1s or more"),
        (json!({ "catch_up": "3654days" }), "catch_up: write 3653days or less"),
        (json!({ "lost_after": "0s" }), "lost_after: write 1s or more"),
        (json!({ "group": "a b" }), "group: use 1 to 100 letters, digits, `-`, `_` and `.`"),
        (json!({ "description": "x".repeat(4_097) }), "description: write at most 4096 bytes"),
        (json!({ "labels": { "": "x" } }), "labels: \"\" cannot name a label: use 1 to 63 letters"),
        (json!({ "labels": { "team": long } }), "labels: the value of \"team\" has 256 bytes: write at most 255"),
        (
            json!({ "labels": (0..33).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>() }),
            "labels: there are over 32: take some out",
        ),
        (json!({ "calendars": ["cn"] }), "calendars: there is no calendar \"cn\": make it first"),
        (json!({ "payload": "x".repeat(17 << 20) }), "payload: the body has "),
        (json!({ "key": "x".repeat(200_000) }), "payload: properties and headers have "),
    ];
    for (more, message) in wrong {
        let mut wanted = json!({ "cron": "@daily" });
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = refused(wanted);
        assert!(error.starts_with(message), "wanted: {message}\ngot: {}", error.chars().take(300).collect::<String>());
    }
}

#[test]
fn the_bounds_themselves_are_taken() {
    plan(json!({
        "cron": "@daily", "max_attempts": 1, "timeout": "1ms", "runs": 1, "pause_after": 1, "missed_limit": 10_000,
        "catch_up": "1s", "lost_after": "3653days", "jitter": "31days", "priority": 255, "missed": "all",
        "overlap": "terminate-running", "group": "billing", "labels": { "team/owner": "" },
    }));
}
