//! What became of the ticks, for the process itself and as metrics.
//!
//! | series at `/metrics` | labels | |
//! |---|---|---|
//! | `leveret_schedule_ticks_total` | schedule, outcome | ticks that ended: `published`, `missed`, `given_up` |
//! | `leveret_schedule_lateness_seconds` | schedule | histogram: from the time of a tick to the broker's confirm |

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};
use serde::Serialize;

/// Upper bounds in seconds: from a tick in time to one after an outage.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0];

/// What became of the ticks of all schedules since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Ticks that the broker has confirmed.
    pub published: u64,
    /// Publishes that failed. The same tick can fail often.
    pub failures: u64,
    /// Ticks that were slept through: the machine was suspended, or its clock put forward. At most 1000 are counted
    /// for each sleep and schedule.
    pub missed: u64,
    /// Ticks that cannot be published, or were not within their catch-up window.
    pub given_up: u64,
    /// Ticks that are due and not yet confirmed, at the moment.
    pub waiting: u64,
}

/// How a tick ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Published,
    Missed,
    GivenUp,
}

#[derive(Debug)]
pub(crate) struct Counters {
    published: AtomicU64,
    failures: AtomicU64,
    missed: AtomicU64,
    given_up: AtomicU64,
    waiting: AtomicU64,
    ticks: Counter<u64>,
    lateness: Histogram<f64>,
}

impl Counters {
    /// On the process-wide meter provider; one that is installed later is not seen.
    pub(crate) fn new() -> Self {
        let meter = global::meter("leveret");
        Self {
            published: AtomicU64::default(),
            failures: AtomicU64::default(),
            missed: AtomicU64::default(),
            given_up: AtomicU64::default(),
            waiting: AtomicU64::default(),
            ticks: meter
                .u64_counter("leveret.schedule.ticks")
                .with_description("Ticks, by what became of them")
                .build(),
            lateness: meter
                .f64_histogram("leveret.schedule.lateness")
                .with_unit("s")
                .with_description("From the time of a tick to the broker's confirm")
                .with_boundaries(SECONDS.to_vec())
                .build(),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            published: self.published.load(Relaxed),
            failures: self.failures.load(Relaxed),
            missed: self.missed.load(Relaxed),
            given_up: self.given_up.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
        }
    }

    /// Ticks of the schedule ended like this.
    pub(crate) fn ended(&self, schedule: &str, end: End, ticks: u64) {
        let (count, outcome) = match end {
            End::Published => (&self.published, "published"),
            End::Missed => (&self.missed, "missed"),
            End::GivenUp => (&self.given_up, "given_up"),
        };
        count.fetch_add(ticks, Relaxed);
        self.ticks.add(ticks, &[KeyValue::new("schedule", schedule.to_owned()), KeyValue::new("outcome", outcome)]);
    }

    /// A tick was confirmed so long after its time.
    pub(crate) fn lateness(&self, schedule: &str, late: Duration) {
        self.lateness.record(late.as_secs_f64(), &[KeyValue::new("schedule", schedule.to_owned())]);
    }

    /// A publish failed.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// Ticks came due and wait.
    pub(crate) fn due(&self, ticks: usize) {
        self.waiting.fetch_add(ticks as u64, Relaxed);
    }

    /// Ticks wait no longer.
    pub(crate) fn left(&self, ticks: u64) {
        self.waiting.fetch_sub(ticks, Relaxed);
    }
}
