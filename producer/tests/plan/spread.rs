//! `H`: numbers that follow from a schedule's name.

use leveret_common::clock::UnixMillis;
use serde_json::json;

use crate::check;

/// The expression with numbers in place of each `H`.
fn expanded(name: &str, key: &str, text: &str) -> String {
    check(name, json!({ key: text }), &[]).unwrap().timetable().expression().to_string()
}

fn refused(key: &str, text: &str) -> String {
    check("nightly", json!({ key: text }), &[]).unwrap_err().to_string()
}

#[test]
fn each_name_has_its_numbers() {
    let numbers = |name: &str| expanded(name, "cron", "H H * * *");
    assert_eq!(numbers("nightly"), numbers("nightly"));
    assert_ne!(numbers("nightly"), numbers("billing/nightly"));
    // They are part of what is promised: a new version does not move a schedule.
    assert_eq!(numbers("nightly"), "56 8 * * *");
}

#[test]
fn a_thousand_names_fill_the_hour_and_the_day_evenly() {
    let (mut minutes, mut hours, mut pairs) = ([0_u32; 60], [0_u32; 24], [0_u32; 6]);
    for number in 0..6_000 {
        let text = expanded(&format!("job-{number}"), "cron", "H H * * *");
        let mut fields = text.split(' ').map(|field| field.parse::<usize>().unwrap_or_default());
        let (minute, hour) = (fields.next().unwrap(), fields.next().unwrap());
        minutes[minute] += 1;
        hours[hour] += 1;
        // The two have nothing to do with each other.
        pairs[minute / 30 * 3 + hour / 8] += 1;
    }
    assert!(minutes.iter().all(|count| (60..=145).contains(count)), "{minutes:?}");
    assert!(hours.iter().all(|count| (190..=315).contains(count)), "{hours:?}");
    assert!(pairs.iter().all(|count| (880..=1_120).contains(count)), "{pairs:?}");
}

#[test]
fn a_spread_stands_in_any_field_with_range_and_step() {
    for number in 0..200 {
        let name = format!("job-{number}");
        let field =
            |key: &str, text: &str, at: usize| expanded(&name, key, text).split(' ').nth(at).unwrap().to_owned();
        let minute: u32 = field("cron", "H(10-19) * * * *", 0).parse().unwrap();
        assert!((10..=19).contains(&minute));
        let steps = field("cron", "H/15 * * * *", 0);
        let (from, rest) = steps.split_once('-').unwrap();
        assert!(from.parse::<u32>().unwrap() < 15 && rest == "59/15", "{steps}");
        let steps = field("cron", "H(0-29)/10 * * * *", 0);
        let (from, rest) = steps.split_once('-').unwrap();
        assert!(from.parse::<u32>().unwrap() < 10 && rest == "29/10", "{steps}");
        let day: u32 = field("cron", "0 0 H * *", 2).parse().unwrap();
        assert!((1..=28).contains(&day));
        let weekday: u32 = field("quartz", "0 0 0 ? * H", 5).parse().unwrap();
        assert!((1..=7).contains(&weekday));
        let second: u32 = field("quartz", "H H 3 * * ?", 0).parse().unwrap();
        assert!(second < 60);
        // Beside others in a list.
        assert!(field("cron", "0 H(0-7),12 * * *", 1).ends_with(",12"));
    }
}

#[test]
fn a_step_that_fits_once_is_a_number() {
    let text = expanded("nightly", "cron", "H/60 * * * *");
    assert!(text.split(' ').next().unwrap().parse::<u32>().unwrap() < 60, "{text}");
    // Every fifteen minutes there are four runs an hour.
    let plan = check("nightly", json!({ "cron": "H/15 * * * *" }), &[]).unwrap();
    let hour: Vec<_> = plan.timetable().upcoming(UnixMillis(0)).take_while(|at| at.0 <= 3_600_000).collect();
    assert_eq!(hour.len(), 4);
}

#[test]
fn mistakes_show_the_numbers_or_the_remedy() {
    assert!(refused("cron", "H 25 * * *").starts_with("cron: 25 is out of range in the hour field"));
    assert!(refused("cron", "H 0 30 2 *").contains(" 0 30 2 *\" never runs"), "{}", refused("cron", "H 0 30 2 *"));
    assert_eq!(
        refused("cron", "H(50-70) * * * *"),
        "cron: \"H(50-70)\" in the minute field is no spread: write H, H/15, H(0-29) or H(0-29)/10 with numbers from 0 to 59"
    );
    for text in ["H/0 * * * *", "H( * * * *", "H(5) * * * *", "H(9-5) * * * *", "H/x * * * *", "H(0-5)x * * * *"] {
        assert!(refused("cron", text).contains("is no spread"), "{text}");
    }
    assert!(refused("cron", "H H H * * *").contains("6 fields where Unix cron has 5"));
}
