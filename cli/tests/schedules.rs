//! `leveret schedules preview`: when an expression runs next.

mod common;

use common::Site;
use serde_json::json;

#[tokio::test]
async fn a_preview_shows_local_times_and_marks_leaps_of_the_clock() {
    let site = Site::new("");
    let arguments =
        ["schedules", "preview", "30 2 * * *", "--tz", "America/New_York", "--after", "2026-03-07", "--count", "3"];
    let text = site.run(&arguments).await.expect(0).stdout;
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "TIME ZONE CLOCK",
        "2026-03-07T02:30:00-05:00 EST",
        "2026-03-08T03:00:00-04:00 EDT put forward",
        "2026-03-09T02:30:00-04:00 EDT",
    ];
    assert_eq!(lines, expected);
    let skipped: Vec<_> = arguments.into_iter().chain(["--gap", "skip", "--json"]).collect();
    let json = site.run(&skipped).await.expect(0).json();
    assert_eq!(json["next"][1]["local"], "2026-03-09T02:30:00-04:00");
    assert_eq!(json["dialect"], "cron");
}

#[tokio::test]
async fn a_preview_is_json_of_one_shape() {
    let site = Site::new("");
    let arguments = [
        "schedules",
        "preview",
        "--quartz",
        "0 0/30 1 ? * SUN",
        "--tz",
        "America/New_York",
        "--count",
        "4",
        "--json",
        "--after",
        "2026-11-01T00:00:00-04:00",
    ];
    let json = site.run(&arguments).await.expect(0).json();
    let fire = |at: i64, local: &str, zone: &str, clock: &str| json!({ "at": at, "due_at": at, "local": local, "zone": zone, "clock": clock });
    let expected = json!({
        "expression": "0 0/30 1 ? * SUN", "dialect": "quartz", "timezone": "America/New_York",
        "after": 1_793_505_600_000_i64,
        "next": [
            fire(1_793_509_200_000, "2026-11-01T01:00:00-04:00", "EDT", "first pass"),
            fire(1_793_511_000_000, "2026-11-01T01:30:00-04:00", "EDT", "first pass"),
            fire(1_793_512_800_000, "2026-11-01T01:00:00-05:00", "EST", "second pass"),
            fire(1_793_514_600_000, "2026-11-01T01:30:00-05:00", "EST", "second pass"),
        ],
    });
    assert_eq!(json, expected);
}

#[tokio::test]
async fn rates_spreads_and_jitter_can_be_tried_out() {
    let site = Site::new("");
    let rate = ["schedules", "preview", "--every", "90s", "--after", "2027-01-01", "--count", "2", "--json"];
    let json = site.run(&rate).await.expect(0).json();
    assert_eq!(json["next"][1]["local"], "2027-01-01T00:03:00+00:00");

    let spread = ["schedules", "preview", "H H * * *", "--name", "nightly", "--jitter", "10m", "--count", "1"];
    let ended = site.run(&spread).await.expect(0);
    assert!(ended.stderr.starts_with("H H * * * is 56 8 * * *"), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("TIME") && ended.stdout.contains('+'), "{}", ended.stdout);
}

#[tokio::test]
async fn what_cannot_be_used_is_one_line_with_the_argument_and_the_fix() {
    let site = Site::new("");
    let refused: [(&[&str], &str, &str); 7] = [
        (&["0 0 3 * * ?"], "error: EXPR: \"0 0 3 * * ?\" has 6 fields", "add --quartz"),
        (&["*/5 * * * *", "--quartz"], "error: EXPR: ", "leave --quartz out"),
        (&["0 0 30 2 *"], "error: EXPR: ", "never runs"),
        (&["H * * * *"], "error: EXPR: ", "add --name"),
        (&["@daily", "--tz", "Mars"], "error: --tz: there is no time zone \"Mars\"", "Europe/Berlin"),
        (&["@daily", "--after", "soon"], "error: --after: \"soon\" is no moment", "2027-01-01T09:00"),
        (&["5m", "--every", "--gap", "skip"], "error: --gap: ", "take it out"),
    ];
    for (arguments, start, fix) in refused {
        let arguments: Vec<_> = ["schedules", "preview"].iter().chain(arguments).copied().collect();
        let said = site.run(&arguments).await.expect(2).stderr;
        assert!(said.starts_with(start) && said.contains(fix) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
    site.run(&["schedules", "preview", "@daily", "--count", "0"]).await.expect(2);
}

#[tokio::test]
async fn the_cron_producer_leaves_to_the_centre_what_takes_a_memory() {
    let site = Site::new("[schedules.a]\ntask = \"t\"\ncron = \"@daily\"\ncalendars = [\"cn\"]\n");
    let said = site.run(&["producer"]).await.expect(64).stderr;
    assert!(
        said.starts_with("error: leveret.toml:4: [schedules.a] calendars: ") && said.contains("leveret centre"),
        "{said}"
    );
    // The file is right all the same.
    let checked = site.run(&["config", "check", "--json"]).await.expect(0).json();
    assert_eq!(checked["schedules"], json!(["a"]));
    let wrong = Site::new("[schedules.a]\ntask = \"t\"\ncron = \"@daily\"\nruns = 0\n");
    let said = wrong.run(&["config", "check"]).await.expect(64).stderr;
    assert!(said.starts_with("error: leveret.toml:4: [schedules.a] runs: write 1 or more"), "{said}");
}
