//! Clocks that are put forward and back: fixed times run once, intervals follow the clock on the wall.

use crate::{cron, moment, next, quartz};

// New York leaps from 02:00 to 03:00 on 2026-03-08 and goes back from 02:00 to 01:00 on 2026-11-01.

#[test]
fn a_fixed_time_that_is_leapt_over_runs_right_after_the_leap() {
    assert_eq!(
        next(&cron("30 2 * * *", "America/New_York"), "2026-03-07T00:00:00Z", 3),
        ["2026-03-07T02:30:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"]
    );
    // Several in one leap, and one that is due then anyway, are one run.
    assert_eq!(
        next(&cron("0,15,45 2,3 * * *", "America/New_York"), "2026-03-08T06:00:00Z", 3),
        ["2026-03-08T03:00:00-04:00", "2026-03-08T03:15:00-04:00", "2026-03-08T03:45:00-04:00"]
    );
    assert_eq!(
        next(&quartz("10 30 2 * * ?", "America/New_York"), "2026-03-08T06:00:00Z", 1),
        ["2026-03-08T03:00:00-04:00"]
    );
}

#[test]
fn a_fixed_time_that_comes_twice_runs_the_first_time() {
    assert_eq!(
        next(&cron("30 1 * * *", "America/New_York"), "2026-10-31T12:00:00Z", 2),
        ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"]
    );
    // Also for one who asks in the middle of the second pass.
    let timetable = cron("30 1 * * *", "America/New_York");
    for asked in ["2026-11-01T01:30:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T01:15:00-05:00"] {
        assert_eq!(timetable.next_after(moment(asked)), Some(moment("2026-11-02T01:30:00-05:00")), "{asked}");
    }
}

#[test]
fn an_interval_runs_in_both_passes_and_never_inside_a_leap() {
    assert_eq!(
        next(&cron("*/30 * * * *", "America/New_York"), "2026-11-01T04:45:00Z", 5),
        [
            "2026-11-01T01:00:00-04:00",
            "2026-11-01T01:30:00-04:00",
            "2026-11-01T01:00:00-05:00",
            "2026-11-01T01:30:00-05:00",
            "2026-11-01T02:00:00-05:00"
        ]
    );
    assert_eq!(
        next(&cron("0 * * * *", "America/New_York"), "2026-03-08T05:30:00Z", 3),
        ["2026-03-08T01:00:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T04:00:00-04:00"]
    );
    assert_eq!(
        next(&cron("*/15 2 * * *", "America/New_York"), "2026-03-07T08:00:00Z", 1),
        ["2026-03-09T02:00:00-04:00"]
    );
    // The second pass is found when nothing later on the wall matches.
    assert_eq!(
        next(&quartz("0 0/30 1 1 11 ? 2026", "America/New_York"), "2026-11-01T05:30:00Z", 9),
        ["2026-11-01T01:00:00-05:00", "2026-11-01T01:30:00-05:00"]
    );
}

#[test]
fn leaps_of_other_lengths_and_at_midnight() {
    // Half an hour back at 02:00.
    assert_eq!(
        next(&cron("*/15 * * * *", "Australia/Lord_Howe"), "2026-04-05T01:30:00+11:00", 3),
        ["2026-04-05T01:45:00+11:00", "2026-04-05T01:30:00+10:30", "2026-04-05T01:45:00+10:30"]
    );
    // Half an hour forward at 02:00.
    assert_eq!(
        next(&cron("15 2 * * *", "Australia/Lord_Howe"), "2026-10-03T00:00:00Z", 1),
        ["2026-10-04T02:30:00+11:00"]
    );
    // The day starts at 01:00.
    assert_eq!(
        next(&cron("@daily", "Africa/Cairo"), "2026-04-23T12:00:00Z", 2),
        ["2026-04-24T01:00:00+03:00", "2026-04-25T00:00:00+03:00"]
    );
    // A whole day is missing: 2011-12-30.
    assert_eq!(
        next(&cron("0 12 * * *", "Pacific/Apia"), "2011-12-29T23:00:00Z", 2),
        ["2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"]
    );
    // Back for Ramadan, forward after it.
    assert_eq!(
        next(&cron("30 2 * * *", "Africa/Casablanca"), "2026-02-14T12:00:00Z", 2),
        ["2026-02-15T02:30:00+01:00", "2026-02-16T02:30:00+00:00"]
    );
}
