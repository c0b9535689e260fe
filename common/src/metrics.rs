//! What is counted and measured, by way of OpenTelemetry's meters: `/metrics` and OTLP show the same series.
//!
//! Everything that is recorded while tasks run goes through handles that were bound to their labels beforehand,
//! so that recording is an atomic or two. Without an SDK all of it does nothing. A task id is never a label.
//!
//! | series at `/metrics` | labels | |
//! |---|---|---|
//! | `leveret_tasks_finished_total` | queue, task, outcome | attempts that ended, see [`TaskEnd`] |
//! | `leveret_task_duration_seconds` | queue, task | histogram: how long an attempt ran |
//! | `leveret_task_wait_seconds` | queue, task | histogram: from publish (or due time) to start |
//! | `leveret_tasks_running` | queue, task | attempts that run now |
//! | `leveret_queue_concurrency` | queue | how many may run at once in this process |
//! | `leveret_acks_flushed_total` | queue | `basic.ack` frames sent; one may settle many deliveries |
//! | `leveret_deliveries_acked_total` | queue | deliveries that these frames settled |
//! | `leveret_settlements_stale_total` | queue | settlements dropped because their channel was gone: the broker redelivers |
//! | `leveret_messages_published_total` | result | see [`Published`] |
//! | `leveret_events_total` | result | events of tasks that were `published`, or `dropped` for want of room |
//! | `leveret_link_connected`, `leveret_link_blocked` | role | connections that are up, and those the broker has blocked |
//! | `leveret_link_reconnects_total` | role | connects after the first |

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{
    BoundCounter, BoundGauge, BoundHistogram, BoundUpDownCounter, Counter, Gauge, Histogram, Meter, UpDownCounter,
};
use tokio::time::Instant;

/// The label `task` of messages whose name no handler knows: names from outside must not make series.
pub const UNKNOWN_TASK: &str = "unknown";

/// Upper bounds in seconds: from no-op tasks to batch jobs of half an hour.
const SECONDS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// How an attempt at a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskEnd {
    /// The handler succeeded.
    Done,
    /// It failed and runs again later.
    Retried,
    /// The handler asked to run again later; no failure.
    Snoozed,
    /// It became a dead letter.
    Dead,
    /// The handler asked to drop it.
    Discarded,
    /// It was returned to its queue, at shutdown for instance.
    GivenBack,
    /// It was called off.
    Cancelled,
}

impl TaskEnd {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Done, Self::Retried, Self::Snoozed, Self::Dead, Self::Discarded, Self::GivenBack, Self::Cancelled];

    /// The value of the label `outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retried => "retried",
            Self::Snoozed => "snoozed",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
            Self::GivenBack => "given_back",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What became of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Published {
    /// The broker has it.
    Confirmed,
    /// No queue is bound for its routing key.
    Unroutable,
    /// The broker said no: a full queue, for instance.
    Refused,
    /// The connection was lost or the time was up before the broker answered.
    Unconfirmed,
}

impl Published {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Confirmed, Self::Unroutable, Self::Refused, Self::Unconfirmed];

    /// The value of the label `result`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unroutable => "unroutable",
            Self::Refused => "refused",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

/// All instruments of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Instruments {
    finished: Counter<u64>,
    duration: Histogram<f64>,
    wait: Histogram<f64>,
    running: UpDownCounter<i64>,
    concurrency: Gauge<u64>,
    flushed: Counter<u64>,
    acked: Counter<u64>,
    stale: Counter<u64>,
    published: Counter<u64>,
    events: Counter<u64>,
    connected: UpDownCounter<i64>,
    blocked: UpDownCounter<i64>,
    reconnects: Counter<u64>,
}

impl Instruments {
    /// On the process-wide meter provider. A provider that is installed later is not seen: call this after
    /// `telemetry::init`.
    pub fn global() -> Self {
        Self::new(&opentelemetry::global::meter("leveret"))
    }

    /// On a meter of your own.
    pub fn new(meter: &Meter) -> Self {
        let counter = |name: &'static str, about: &'static str| meter.u64_counter(name).with_description(about).build();
        let level =
            |name: &'static str, about: &'static str| meter.i64_up_down_counter(name).with_description(about).build();
        let seconds = |name: &'static str, about: &'static str| {
            meter.f64_histogram(name).with_unit("s").with_description(about).with_boundaries(SECONDS.to_vec()).build()
        };
        let concurrency = meter.u64_gauge("leveret.queue.concurrency");
        Self {
            finished: counter("leveret.tasks.finished", "Attempts at tasks that ended"),
            duration: seconds("leveret.task.duration", "How long an attempt ran"),
            wait: seconds("leveret.task.wait", "From publish, or the time it was due, to the start"),
            running: level("leveret.tasks.running", "Attempts that run now"),
            concurrency: concurrency.with_description("How many tasks may run at once in this process").build(),
            flushed: counter("leveret.acks.flushed", "Acknowledgements sent; one may settle many deliveries"),
            acked: counter("leveret.deliveries.acked", "Deliveries settled by acknowledgements"),
            stale: counter("leveret.settlements.stale", "Settlements dropped because their channel was gone"),
            published: counter("leveret.messages.published", "Messages published, by what became of them"),
            events: counter("leveret.events", "Events of tasks, published or dropped for want of room"),
            connected: level("leveret.link.connected", "Connections to the broker that are up"),
            blocked: level("leveret.link.blocked", "Connections that the broker has blocked"),
            reconnects: counter("leveret.link.reconnects", "Connects after the first"),
        }
    }

    /// For the attempts at one task from one queue. Make it once per handler and queue and keep it; for names
    /// that no handler knows use [`UNKNOWN_TASK`].
    pub fn task(&self, queue: &str, task: &str) -> TaskMetrics {
        let labels = [KeyValue::new("queue", queue.to_owned()), KeyValue::new("task", task.to_owned())];
        let [queue, task] = labels.clone();
        TaskMetrics {
            finished: TaskEnd::ALL
                .map(|end| self.finished.bind(&[queue.clone(), task.clone(), KeyValue::new("outcome", end.as_str())])),
            duration: self.duration.bind(&labels),
            wait: self.wait.bind(&labels),
            running: self.running.bind(&labels),
        }
    }

    /// For the consumer of one queue.
    pub fn queue(&self, queue: &str) -> QueueMetrics {
        let labels = [KeyValue::new("queue", queue.to_owned())];
        QueueMetrics {
            concurrency: self.concurrency.bind(&labels),
            flushed: self.flushed.bind(&labels),
            acked: self.acked.bind(&labels),
            stale: self.stale.bind(&labels),
        }
    }

    /// For a publisher.
    pub fn publish(&self) -> PublishMetrics {
        let bind = |result: Published| self.published.bind(&[KeyValue::new("result", result.as_str())]);
        PublishMetrics { results: Published::ALL.map(bind) }
    }

    /// For whoever reports on tasks.
    pub fn events(&self) -> EventMetrics {
        let bind = |result: &'static str| self.events.bind(&[KeyValue::new("result", result)]);
        EventMetrics { published: bind("published"), dropped: bind("dropped") }
    }

    /// For one connection to the broker. `role` says what it is for, such as `consume` or `publish`.
    pub fn link(&self, role: &str) -> LinkMetrics {
        let labels = [KeyValue::new("role", role.to_owned())];
        LinkMetrics {
            connected: Switch::new(self.connected.bind(&labels)),
            blocked: Switch::new(self.blocked.bind(&labels)),
            reconnects: self.reconnects.bind(&labels),
            known: AtomicBool::new(false),
        }
    }
}

/// The attempts at one task from one queue.
#[derive(Debug)]
pub struct TaskMetrics {
    finished: [BoundCounter<u64>; 7],
    duration: BoundHistogram<f64>,
    wait: BoundHistogram<f64>,
    running: BoundUpDownCounter<i64>,
}

impl TaskMetrics {
    /// An attempt starts. `waited` is the time since it was published or due, when that is known. The guard
    /// counts as running until it is dropped, however that comes.
    pub fn started(&self, waited: Option<Duration>) -> Running<'_> {
        self.running.add(1);
        if let Some(waited) = waited {
            self.wait.record(waited.as_secs_f64());
        }
        Running { metrics: self, since: Instant::now() }
    }

    /// An attempt ended after it had run for so long.
    pub fn finished(&self, end: TaskEnd, ran: Duration) {
        self.duration.record(ran.as_secs_f64());
        self.never_ran(end);
    }

    /// A task was settled without running: given back, expired, unknown. Counted, with no duration.
    pub fn never_ran(&self, end: TaskEnd) {
        self.finished[end as usize].add(1);
    }
}

/// An attempt that runs.
#[derive(Debug)]
#[must_use = "dropping it says that the attempt is no longer running"]
pub struct Running<'a> {
    metrics: &'a TaskMetrics,
    since: Instant,
}

impl Running<'_> {
    /// How long it has run so far.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// The attempt ended now.
    pub fn finished(self, end: TaskEnd) {
        self.metrics.finished(end, self.elapsed());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.metrics.running.add(-1);
    }
}

/// The consumer of one queue.
#[derive(Debug)]
pub struct QueueMetrics {
    concurrency: BoundGauge<u64>,
    flushed: BoundCounter<u64>,
    acked: BoundCounter<u64>,
    stale: BoundCounter<u64>,
}

impl QueueMetrics {
    /// So many tasks may run at once.
    pub fn set_concurrency(&self, tasks: usize) {
        self.concurrency.record(tasks as u64);
    }

    /// One `basic.ack` went out and settled so many deliveries.
    pub fn flushed(&self, deliveries: u64) {
        self.flushed.add(1);
        self.acked.add(deliveries);
    }

    /// A settlement came too late: its channel is gone.
    pub fn stale_settlement(&self) {
        self.stale.add(1);
    }
}

/// A publisher.
#[derive(Debug)]
pub struct PublishMetrics {
    results: [BoundCounter<u64>; 4],
}

impl PublishMetrics {
    /// So many messages ended like this.
    pub fn count(&self, result: Published, messages: u64) {
        self.results[result as usize].add(messages);
    }
}

/// Whoever reports on tasks.
#[derive(Debug)]
pub struct EventMetrics {
    published: BoundCounter<u64>,
    dropped: BoundCounter<u64>,
}

impl EventMetrics {
    /// So many events are at the broker.
    pub fn published(&self, events: u64) {
        self.published.add(events);
    }

    /// So many events were dropped.
    pub fn dropped(&self, events: u64) {
        self.dropped.add(events);
    }
}

/// One connection to the broker. Dropping it counts as disconnected.
#[derive(Debug)]
pub struct LinkMetrics {
    connected: Switch,
    blocked: Switch,
    reconnects: BoundCounter<u64>,
    known: AtomicBool,
}

impl LinkMetrics {
    /// The connection is up, or is not. Every time that it comes up after the first counts as a reconnect.
    pub fn set_connected(&self, up: bool) {
        if self.connected.set(up) && up && self.known.swap(true, Relaxed) {
            self.reconnects.add(1);
        }
    }

    /// The broker has blocked the connection, or lets it go on.
    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.set(blocked);
    }
}

impl Drop for LinkMetrics {
    fn drop(&mut self) {
        self.set_connected(false);
        self.set_blocked(false);
    }
}

/// Adds one to a level while it is on, so that several connections in the same role add up.
#[derive(Debug)]
struct Switch {
    level: BoundUpDownCounter<i64>,
    on: AtomicBool,
}

impl Switch {
    fn new(level: BoundUpDownCounter<i64>) -> Self {
        Self { level, on: AtomicBool::new(false) }
    }

    /// Whether it changed.
    fn set(&self, on: bool) -> bool {
        let changed = self.on.swap(on, Relaxed) != on;
        if changed {
            self.level.add(if on { 1 } else { -1 });
        }
        changed
    }
}
