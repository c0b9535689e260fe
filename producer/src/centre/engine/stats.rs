//! What is counted and measured of the engine.
//!
//! | series at `/metrics` | labels | |
//! |---|---|---|
//! | `leveret_schedule_ticks_total` | schedule, outcome | ticks that were decided about: `published`, `missed`, `skipped`, `given_up` |
//! | `leveret_schedule_lateness_seconds` | schedule | histogram: from when a tick was due to the broker's confirm |
//! | `leveret_schedule_overdue` | | schedules, of all centres, that are due for over ten seconds: nobody decides about them. Counted every five seconds, up to 10,000 |
//! | `leveret_schedule_overdue_seconds` | | for how long the first of them has been due; 0 when there is none |
//! | `leveret_centre_publish_seconds` | | histogram: from the decision, or the end of a delay, to the broker's confirm |
//! | `leveret_centre_turn_seconds` | | histogram: how long a transaction of decisions took |
//! | `leveret_centre_outbox_waiting` | | messages on their way to the broker |
//! | `leveret_centre_shards` | | shards that this centre holds |
//! | `leveret_centre_delayed_total` | | tasks that were put off, and published |

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram},
};
use parking_lot::Mutex;
use serde::Serialize;

use crate::plan::ScheduleName;

/// Upper bounds in seconds: from a tick in time to one after an outage.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0];

/// What one centre has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EngineStats {
    /// Ticks that are to run, by its decision.
    pub decided: u64,
    /// Ticks that the broker has confirmed.
    pub published: u64,
    /// Tasks that had been put off, and that the broker has confirmed.
    pub delayed: u64,
    /// Ticks that nobody could decide about in time.
    pub missed: u64,
    /// Ticks that were skipped for the sake of others.
    pub skipped: u64,
    /// Ticks that could not be published within their catch-up window.
    pub given_up: u64,
    /// Publishes that failed. The same message can fail often.
    pub failures: u64,
    /// Messages on their way to the broker, at the moment.
    pub waiting: u64,
    /// The longest that a tick came after it was due, in milliseconds.
    pub latest_ms: u64,
}

/// How one centre is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EngineHealth {
    /// Whether it may decide: its lease is not over.
    pub has_lease: bool,
    /// How many shards it holds.
    pub shards: usize,
    /// What the database failed with last, if it does not answer.
    pub database: Option<String>,
    /// How far its clock is ahead of the database's, in milliseconds.
    pub clock_ahead_ms: i64,
    /// Schedules, of all centres, that are due for over ten seconds. Counted every five seconds, up to 10,000.
    pub overdue: u64,
}

#[derive(Debug)]
pub(crate) struct Counters {
    decided: AtomicU64,
    published: AtomicU64,
    delayed: AtomicU64,
    missed: AtomicU64,
    skipped: AtomicU64,
    given_up: AtomicU64,
    failures: AtomicU64,
    waiting: AtomicU64,
    latest_ms: AtomicU64,
    clock_ahead_ms: AtomicI64,
    overdue: AtomicU64,
    database: Mutex<Option<String>>,
    ticks: Counter<u64>,
    lateness: Histogram<f64>,
    publish: Histogram<f64>,
    turn: Histogram<f64>,
    outbox: Gauge<u64>,
    shards: Gauge<u64>,
    overdue_schedules: Gauge<u64>,
    overdue_seconds: Gauge<f64>,
    delayed_total: Counter<u64>,
}

/// How a tick ended, as far as the centre is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Published,
    Missed,
    Skipped,
    GivenUp,
}

impl Counters {
    /// On the process-wide meter provider; one that is installed later is not seen.
    pub(crate) fn new() -> Self {
        let meter = global::meter("leveret");
        let seconds = |name: &'static str, about: &'static str| {
            meter.f64_histogram(name).with_unit("s").with_description(about).with_boundaries(SECONDS.to_vec()).build()
        };
        Self {
            decided: AtomicU64::default(),
            published: AtomicU64::default(),
            delayed: AtomicU64::default(),
            missed: AtomicU64::default(),
            skipped: AtomicU64::default(),
            given_up: AtomicU64::default(),
            failures: AtomicU64::default(),
            waiting: AtomicU64::default(),
            latest_ms: AtomicU64::default(),
            clock_ahead_ms: AtomicI64::default(),
            overdue: AtomicU64::default(),
            database: Mutex::default(),
            ticks: meter
                .u64_counter("leveret.schedule.ticks")
                .with_description("Ticks, by what became of them")
                .build(),
            lateness: seconds("leveret.schedule.lateness", "From when a tick was due to the broker's confirm"),
            publish: seconds("leveret.centre.publish", "From a decision to the broker's confirm"),
            turn: seconds("leveret.centre.turn", "How long a transaction of decisions took"),
            outbox: meter
                .u64_gauge("leveret.centre.outbox.waiting")
                .with_description("Messages on their way to the broker")
                .build(),
            shards: meter.u64_gauge("leveret.centre.shards").with_description("Shards that this centre holds").build(),
            overdue_schedules: meter
                .u64_gauge("leveret.schedule.overdue")
                .with_description("Schedules, of all centres, that are due for over ten seconds")
                .build(),
            overdue_seconds: meter
                .f64_gauge("leveret.schedule.overdue.seconds")
                .with_description("For how long the first schedule that is overdue has been due")
                .build(),
            delayed_total: meter
                .u64_counter("leveret.centre.delayed")
                .with_description("Tasks that were put off, and published")
                .build(),
        }
    }

    pub(crate) fn stats(&self) -> EngineStats {
        EngineStats {
            decided: self.decided.load(Relaxed),
            published: self.published.load(Relaxed),
            delayed: self.delayed.load(Relaxed),
            missed: self.missed.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            given_up: self.given_up.load(Relaxed),
            failures: self.failures.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            latest_ms: self.latest_ms.load(Relaxed),
        }
    }

    pub(crate) fn health(&self, has_lease: bool, shards: usize) -> EngineHealth {
        let database = self.database.lock().clone();
        let (clock_ahead_ms, overdue) = (self.clock_ahead_ms.load(Relaxed), self.overdue.load(Relaxed));
        EngineHealth { has_lease, shards, database, clock_ahead_ms, overdue }
    }

    pub(crate) fn decided(&self, ticks: usize) {
        self.decided.fetch_add(ticks as u64, Relaxed);
    }

    /// Ticks of a schedule ended like this.
    pub(crate) fn ended(&self, schedule: &ScheduleName, end: End, ticks: u64) {
        let (count, outcome) = match end {
            End::Published => (&self.published, "published"),
            End::Missed => (&self.missed, "missed"),
            End::Skipped => (&self.skipped, "skipped"),
            End::GivenUp => (&self.given_up, "given_up"),
        };
        count.fetch_add(ticks, Relaxed);
        self.ticks.add(ticks, &[KeyValue::new("schedule", schedule.to_string()), KeyValue::new("outcome", outcome)]);
    }

    /// A tick was confirmed so long after it was due.
    pub(crate) fn lateness(&self, schedule: &ScheduleName, late: Duration) {
        self.lateness.record(late.as_secs_f64(), &[KeyValue::new("schedule", schedule.to_string())]);
        self.latest_ms.fetch_max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A task that was put off is published.
    pub(crate) fn delayed(&self) {
        self.delayed.fetch_add(1, Relaxed);
        self.delayed_total.add(1, &[]);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn published_within(&self, took: Duration) {
        self.publish.record(took.as_secs_f64(), &[]);
    }

    pub(crate) fn turn(&self, took: Duration) {
        self.turn.record(took.as_secs_f64(), &[]);
    }

    pub(crate) fn waiting(&self, messages: usize) {
        self.waiting.store(messages as u64, Relaxed);
        self.outbox.record(messages as u64, &[]);
    }

    pub(crate) fn shards(&self, held: usize) {
        self.shards.record(held as u64, &[]);
    }

    /// So many schedules are overdue, the first for so long.
    pub(crate) fn overdue(&self, schedules: u64, longest: Duration) {
        self.overdue.store(schedules, Relaxed);
        self.overdue_schedules.record(schedules, &[]);
        self.overdue_seconds.record(longest.as_secs_f64(), &[]);
    }

    pub(crate) fn clock_ahead(&self, ms: i64) {
        self.clock_ahead_ms.store(ms, Relaxed);
    }

    /// What the database failed with, or that it does what it is asked.
    pub(crate) fn database(&self, failure: Option<String>) {
        *self.database.lock() = failure;
    }
}
