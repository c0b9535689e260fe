//! Quartz cron means what the `cron` crate means by it.

use leveret_producer::schedule::Expression;

use crate::{moment, next, quartz};

fn runs(text: &str, expected: &[&str]) {
    let actual = next(&quartz(text, "UTC"), "2026-01-01T00:00:00Z", expected.len());
    let expected: Vec<String> = expected.iter().map(|at| format!("2026-{at}+00:00")).collect();
    assert_eq!(actual, expected, "{text}");
}

#[test]
fn seconds_come_first_and_sunday_is_one() {
    runs("0 0 3 * * ?", &["01-01T03:00:00", "01-02T03:00:00"]);
    runs("*/20 * * * * *", &["01-01T00:00:20", "01-01T00:00:40", "01-01T00:01:00"]);
    runs("5/20 0 0 * * ?", &["01-01T00:00:05", "01-01T00:00:25", "01-01T00:00:45", "01-02T00:00:05"]);
    runs("0 0 0 ? * 1", &["01-04T00:00:00"]);
    runs("0 0 0 ? * 1-5", &["01-04T00:00:00", "01-05T00:00:00", "01-06T00:00:00"]);
    runs("0 0 0 ? * MON-FRI", &["01-02T00:00:00", "01-05T00:00:00"]);
}

#[test]
fn a_day_matches_both_day_fields() {
    runs("0 0 0 13 * FRI", &["02-13T00:00:00", "03-13T00:00:00", "11-13T00:00:00"]);
}

#[test]
fn years_end() {
    let timetable = quartz("0 0 0 1 1 ? 2027,2030", "UTC");
    let expected = ["2027-01-01T00:00:00+00:00", "2030-01-01T00:00:00+00:00"];
    assert_eq!(next(&timetable, "2026-01-01T00:00:00Z", 5), expected);
    assert_eq!(timetable.next_after(moment("2030-01-01T00:00:00Z")), None);
    // Without a year field there is no end in 2100.
    assert_eq!(next(&quartz("0 0 0 29 2 ?", "UTC"), "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00+00:00"]);
}

#[test]
fn mistakes_are_named_with_their_remedy() {
    let message = Expression::quartz("*/5 * * * *").unwrap_err().to_string();
    assert!(message.ends_with("if it starts with minutes, write cron = \"*/5 * * * *\""), "{message}");
    for text in ["0 0 0 30 2 ?", "0 0 0 31 4 ? 2026", "0 0 0 29 2 ? 2027"] {
        assert!(Expression::quartz(text).unwrap_err().to_string().contains("never runs"), "{text}");
    }
    for text in ["0 60 * * * ?", "0 0 0 L * ?", "0 0 0 ? * 6#3", "0 0 0 ? * 0", "0 0 22-2 * * ?"] {
        let message = Expression::quartz(text).unwrap_err().to_string();
        assert!(message.contains("minute 0-59") && message.contains("1-7 from Sunday"), "{message}");
    }
    assert!(Expression::quartz("@daily").unwrap_err().to_string().contains("under `cron`"));
    assert!(Expression::quartz("******").unwrap_err().to_string().contains("has 1 fields"));
}
