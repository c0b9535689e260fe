//! What one question costs: `cargo test --release -p leveret-producer --test schedule -- --ignored --nocapture`.

use std::{hint::black_box, time::Duration};

use leveret_common::clock::UnixMillis;
use leveret_producer::schedule::{Expression, Timetable, Zone};
use tokio::time::Instant;

use crate::{cron, quartz};

#[test]
#[ignore = "prints timings, which mean something in a release build on a quiet machine"]
fn what_next_after_costs() {
    let rate = Timetable::new(Expression::every(Duration::from_secs(10)).unwrap(), Zone::utc());
    let timetables = [
        rate,
        cron("*/5 * * * *", "UTC"),
        cron("*/5 * * * *", "Europe/Berlin"),
        cron("30 2 * * 1-5", "Europe/Berlin"),
        cron("0 9 13 * fri", "America/New_York"),
        quartz("0 0/15 8-18 ? * MON-FRI", "America/New_York"),
        cron("0 0 1 1 *", "Europe/Berlin"),
        cron("0 0 29 2 *", "Europe/Berlin"),
    ];
    for timetable in timetables {
        let runs = 100_000;
        let began = Instant::now();
        for run in 0..runs {
            // Spread over ten years from 2025.
            black_box(timetable.next_after(UnixMillis(1_735_689_600_000 + run * 3_155_693)));
        }
        let each = began.elapsed() / u32::try_from(runs).unwrap();
        println!("{each:>10.0?}  {} in {}", timetable.expression(), timetable.zone());
    }
}
