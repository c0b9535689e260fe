//! What the watcher counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use leveret_common::clock::UnixMillis;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};

/// What the watcher has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchStats {
    /// Messages that were taken in and acknowledged.
    pub messages: u64,
    /// Events in them.
    pub events: u64,
    /// Those that are deaths which the broker declared, and which no worker tells of.
    pub deaths: u64,
    /// Tasks of which something new was learnt, counted each time.
    pub changed: u64,
    /// Events and messages that could not be read, and were dropped.
    pub unreadable: u64,
    /// Messages that the database would not take though it takes others, and were dropped.
    pub refused: u64,
    /// Attempts to write that failed and were made again.
    pub failures: u64,
}

/// Counts. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Metrics(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    messages: AtomicU64,
    events: AtomicU64,
    deaths: AtomicU64,
    changed: AtomicU64,
    unreadable: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
    series: Counter<u64>,
    duration: Histogram<f64>,
    lag: Histogram<f64>,
}

const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0];

impl Metrics {
    pub(super) fn new() -> Self {
        let meter = global::meter("leveret");
        let seconds = |name: &'static str, about: &'static str| {
            meter.f64_histogram(name).with_unit("s").with_description(about).with_boundaries(SECONDS.to_vec()).build()
        };
        let series = meter.u64_counter("leveret.centre.events");
        let (none, about) = (AtomicU64::default, "Events of tasks that a centre has read, by what became of them");
        Self(Arc::new(Counts {
            messages: none(),
            events: none(),
            deaths: none(),
            changed: none(),
            unreadable: none(),
            refused: none(),
            failures: none(),
            series: series.with_description(about).build(),
            duration: seconds("leveret.centre.events.write", "How long a transaction of events took"),
            lag: seconds("leveret.centre.events.lag", "From an event to the centre's database"),
        }))
    }

    pub(super) fn taken_in(&self, messages: usize, events: usize, changed: usize, took: Duration) {
        let counts = &self.0;
        counts.messages.fetch_add(count(messages), Relaxed);
        counts.events.fetch_add(count(events), Relaxed);
        counts.changed.fetch_add(count(changed), Relaxed);
        counts.series.add(count(events), &[KeyValue::new("result", "applied")]);
        counts.duration.record(took.as_secs_f64(), &[]);
    }

    pub(super) fn deaths(&self, deaths: usize) {
        self.0.deaths.fetch_add(count(deaths), Relaxed);
    }

    pub(super) fn lag(&self, happened: UnixMillis, now: UnixMillis) {
        self.0.lag.record(now.since(happened).as_secs_f64(), &[]);
    }

    pub(super) fn unreadable(&self, events: usize) {
        self.0.unreadable.fetch_add(count(events), Relaxed);
        self.0.series.add(count(events), &[KeyValue::new("result", "unreadable")]);
    }

    pub(super) fn refused(&self) {
        self.0.refused.fetch_add(1, Relaxed);
        self.0.series.add(1, &[KeyValue::new("result", "refused")]);
    }

    pub(super) fn failed(&self) {
        self.0.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn stats(&self) -> WatchStats {
        let counts = &self.0;
        WatchStats {
            messages: counts.messages.load(Relaxed),
            events: counts.events.load(Relaxed),
            deaths: counts.deaths.load(Relaxed),
            changed: counts.changed.load(Relaxed),
            unreadable: counts.unreadable.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            failures: counts.failures.load(Relaxed),
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
