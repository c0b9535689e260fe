//! The `[schedules.<name>]` tables of `leveret.toml`, as a user writes them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use leveret_common::clock::UnixMillis;
use leveret_producer::settings::{ScheduleSettings, enabled_schedules};
use serde_json::json;

fn read(table: &str) -> ScheduleSettings {
    toml::from_str(table).unwrap()
}

#[test]
fn a_schedule_is_read_with_its_defaults() {
    let settings = read("every = \"10s\"\ntask = \"heartbeat\"");
    assert_eq!((settings.queue.as_str(), &settings.payload, settings.enabled), ("default", &json!(null), true));
    let schedule = settings.schedule("beat").unwrap();
    assert_eq!(schedule.timetable().next_after(UnixMillis(1)), Some(UnixMillis(10_000)));
    assert_eq!(schedule.catch_up_window().as_secs(), 86_400);
    assert_eq!(schedule.tick(UnixMillis(10_000)).task_id(), &schedule.tick_id(UnixMillis(10_000)));
}

#[test]
fn a_schedule_is_read_with_everything_set() {
    let settings = read(
        r#"
        cron = "30 2 * * 1-5"
        timezone = "Europe/Berlin"
        task = "report.nightly"
        queue = "reports"
        payload = { format = "pdf", since = 2026-01-01, pages = [1, 2.5, true] }
        max_attempts = 3
        timeout = "10m"
        key = "acme"
        catch_up = "6h"
        enabled = false
        "#,
    );
    assert_eq!(settings.payload, json!({ "format": "pdf", "since": "2026-01-01", "pages": [1, 2.5, true] }));
    let schedule = settings.schedule("nightly-report").unwrap();
    let first = &schedule.timetable().preview(1, UnixMillis(1_767_225_600_000))[0];
    assert_eq!((first.local.as_str(), first.zone.as_str()), ("2026-01-01T02:30:00+01:00", "CET"));
    let message = schedule.tick(first.at);
    assert_eq!((message.task_name(), message.queue_name()), ("report.nightly", "reports"));
    // Written out and read back it is the same.
    assert_eq!(read(&toml::to_string(&settings).unwrap()), settings);
}

#[test]
fn what_cannot_work_is_named_with_schedule_key_and_fix() {
    let refused = [
        ("task = \"t\"", "schedules.s: set one of `cron`, `quartz` and `every`, and only one"),
        (
            "cron = \"@daily\"\nevery = \"1s\"\ntask = \"t\"",
            "schedules.s: set one of `cron`, `quartz` and `every`, and only one",
        ),
        (
            "cron = \"60 * * * *\"\ntask = \"t\"",
            "schedules.s.cron: 60 is out of range in the minute field, which takes 0 to 59",
        ),
        (
            "cron = \"0 0 3 * * ?\"\ntask = \"t\"",
            "schedules.s.cron: \"0 0 3 * * ?\" has 6 fields where Unix cron has 5: minute, hour, day of month, month, \
             day of week; if it starts with seconds, write quartz = \"0 0 3 * * ?\"",
        ),
        (
            "every = \"5ms\"\ntask = \"t\"",
            "schedules.s.every: a period of 5ms cannot be used: write whole milliseconds from 100ms to 3653 days",
        ),
        (
            "every = \"5s\"\ntimezone = \"Europe/Berlin\"\ntask = \"t\"",
            "schedules.s.timezone: a fixed rate is the same in every zone: take it out, or use `cron`",
        ),
        (
            "cron = \"@daily\"\ntimezone = \"Berlin\"\ntask = \"t\"",
            "schedules.s.timezone: there is no time zone \"Berlin\": write a name of the IANA database, such as \
             \"Europe/Berlin\" or \"UTC\"",
        ),
        ("every = \"5s\"\ntask = \"\"", "schedules.s.task: name the task to publish, such as \"report.nightly\""),
        (
            "every = \"5s\"\ntask = \"t\"\nmax_attempts = 0",
            "schedules.s.max_attempts: write 1 or more: the first attempt counts",
        ),
        (
            "every = \"5s\"\ntask = \"t\"\ntimeout = \"0s\"",
            "schedules.s.timeout: write 1ms or more, or leave it out for the worker's own",
        ),
        ("every = \"5s\"\ntask = \"t\"\ncatch_up = \"0s\"", "schedules.s.catch_up: write 1s or more"),
    ];
    for (table, message) in refused {
        assert_eq!(read(table).schedule("s").unwrap_err().to_string(), message);
    }
    let queue = read("every = \"5s\"\ntask = \"t\"\nqueue = \"a.b\"").schedule("s").unwrap_err();
    assert_eq!(queue.key, "schedules.s.queue");
    let name = read("every = \"5s\"\ntask = \"t\"").schedule("a b").unwrap_err();
    assert!(name.to_string().contains("use 1 to 100 letters, digits, `-`, `_` and `.`"), "{name}");

    let unknown = toml::from_str::<ScheduleSettings>("every = \"5s\"\ntask = \"t\"\ntime_zone = \"UTC\"").unwrap_err();
    assert!(unknown.to_string().contains("timezone"), "{unknown}");
    let length = toml::from_str::<ScheduleSettings>("every = \"often\"\ntask = \"t\"").unwrap_err();
    assert!(length.to_string().contains("\"30s\""), "{length}");
}

#[test]
fn all_schedules_are_checked_and_the_enabled_ones_run() {
    let tables = |text: &str| toml::from_str::<BTreeMap<String, ScheduleSettings>>(text).unwrap();
    let good = tables(
        "[a]\nevery = \"5s\"\ntask = \"t\"\n[b]\ncron = \"@daily\"\ntask = \"t\"\nenabled = false\n\
         [c]\nquartz = \"0 0 3 * * ?\"\ntask = \"t\"",
    );
    let names: Vec<_> = enabled_schedules(&good).unwrap().iter().map(|one| one.name().to_owned()).collect();
    assert_eq!(names, ["a", "c"]);

    let bad = tables(
        "[a]\ncron = \"99 * * * *\"\ntask = \"t\"\nenabled = false\n[b]\ncron = \"@daily\"\ntask = \"t\"\n\
         [c]\ntask = \"t\"",
    );
    let keys: Vec<_> = enabled_schedules(&bad).unwrap_err().into_iter().map(|error| error.key).collect();
    assert_eq!(keys, ["schedules.a.cron", "schedules.c"]);
}
