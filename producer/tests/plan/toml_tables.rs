//! Definitions as `[schedules.<name>]` tables, and what the cron producer refuses of them.

use leveret_common::clock::UnixMillis;
use leveret_producer::settings::ScheduleSettings;
use serde_json::json;

use crate::moment;

fn read(table: &str) -> ScheduleSettings {
    toml::from_str(&format!("task = \"t\"\n{table}")).unwrap()
}

#[test]
fn dates_of_toml_are_moments() {
    let table = read(
        "cron = \"@daily\"\ntimezone = \"Asia/Shanghai\"\nstarts_at = 2027-01-01\nends_at = 2027-02-01T00:00:00+08:00\n\
         payload = { since = 2026-01-01 }",
    );
    assert_eq!(table.starts_at.as_deref(), Some("2027-01-01"));
    assert_eq!(table.payload, json!({ "since": "2026-01-01" }));
    let schedule = table.schedule("s").unwrap();
    let first = schedule.timetable().next_after(UnixMillis(0)).unwrap();
    assert_eq!(first, moment("2026-12-31T16:00:00Z"));
    assert_eq!(schedule.timetable().next_after(moment("2027-01-30T16:00:00Z")), None);
    assert!(read("at = 2027-01-01T09:00:00\ntimezone = \"Europe/Berlin\"").check("s").is_ok());
    let wrong = toml::from_str::<ScheduleSettings>("task = \"t\"\nat = 3").unwrap_err();
    assert!(wrong.message().contains("invalid type: integer `3`, expected a string"), "{wrong}");
}

#[test]
fn what_takes_a_memory_is_refused_by_the_cron_producer() {
    let refused = [
        ("after = \"1h\"", "after"),
        ("at = \"2027-01-01\"", "at"),
        ("every = \"1h\"\ncalendars = [\"cn\"]", "calendars"),
        ("every = \"1h\"\njitter = \"1m\"", "jitter"),
        ("every = \"1h\"\nruns = 3", "runs"),
        ("every = \"1h\"\nmissed = \"all\"", "missed"),
        ("every = \"1h\"\noverlap = \"skip\"", "overlap"),
        ("every = \"1h\"\ngroup = \"g\"", "group"),
        ("every = \"1h\"\npause_after = 3", "pause_after"),
        ("every = \"1h\"\npayload = \"{{number}}\"", "payload"),
        ("every = \"1h\"\nkey = \"{{number}}\"", "key"),
    ];
    for (table, key) in refused {
        let error = read(table).schedule("s").unwrap_err();
        assert_eq!(error.key, format!("schedules.s.{key}"), "{table}");
        assert!(error.fix.ends_with("run `leveret centre`, or take it out"), "{error}");
        // The centre takes it.
        assert_eq!(read(table).check("s"), Ok(()), "{table}");
    }
}

#[test]
fn what_takes_none_is_carried_out() {
    let schedule = read(
        "cron = \"H 2 * * *\"\ntimezone = \"America/New_York\"\ngap = \"skip\"\nfold = \"both\"\nbackoff = \"1s,5s\"\n\
         expires = \"1h\"\npriority = 3\nroute = \"random\"\nlabels = { team = \"ops\" }\ndescription = \"x\"\n\
         payload = \"{{{{literally}}\"",
    );
    let schedule = schedule.schedule("s").unwrap();
    let message = schedule.tick(UnixMillis(0));
    assert_eq!(message.headers().get_str("leveret-backoff"), Some("1s,5s"));
    assert_eq!(message.headers().get_str("leveret-route"), Some("random"));
    // Nobody reads what would be told of it.
    assert_eq!(message.headers().get_str("leveret-track"), None);
    assert_eq!(message.size(), "\"{{literally}}\"".len());
    assert!(!schedule.timetable().expression().to_string().contains('H'));
}

#[test]
fn the_check_for_the_centre_names_the_table_or_the_key() {
    let key = |table: &str| read(table).check("s").unwrap_err().key;
    assert_eq!(key(""), "schedules.s");
    assert_eq!(key("cron = \"@daily\"\nevery = \"1h\""), "schedules.s.every");
    assert_eq!(key("cron = \"99 * * * *\""), "schedules.s.cron");
    assert_eq!(read("every = \"1h\"").check("a b").unwrap_err().key, "schedules.a b");
}
