//! `leveret bench --schedules`: how late the ticks of the scheduling centre come, and what idle schedules cost.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;
use leveret::{
    Clock, Context, Error, Job, Outcome, QueueOptions, RunningWorker, Task, UnixMillis, Worker,
    producer::{
        centre::{
            database::Database,
            engine::{Engine, EngineOptions, RunningEngine},
            store::{Expected, Source, Store},
        },
        plan::{Definition, Plan, ScheduleName},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{
    ResourceUse,
    ours::queue_settings,
    report::{BenchError, memory},
};

/// How large the bench of schedules is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Ticks a second that are kept up, with --schedules
    #[arg(long, default_value_t = 1_000, requires = "schedules", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    ticks: u32,
    /// Ticks that are due at one moment, with --schedules
    #[arg(long, default_value_t = 10_000, requires = "schedules", value_parser = clap::value_parser!(u32).range(1..=200_000))]
    burst: u32,
    /// Schedules that have nothing to do, with --schedules
    #[arg(long, default_value_t = 1_000_000, requires = "schedules", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    idle: u32,
}

/// What was found. Lateness is from when a tick was due to the start of its handler, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    ticks_per_s: u32,
    seconds: u32,
    spread: Lateness,
    /// All ticks of a second at its begin.
    at_once: Lateness,
    burst: Lateness,
    burst_ms: u64,
    idle_schedules: u32,
    /// Resident memory beyond that of a centre without schedules.
    idle_bytes_each: f64,
    /// Share of one processor that a centre takes with these schedules, in percent, and without any.
    idle_processor_percent: f64,
    empty_processor_percent: f64,
}

#[derive(Debug, Serialize)]
struct Lateness {
    ticks: u64,
    p50_ms: u64,
    p99_ms: u64,
    max_ms: u64,
}

impl Lateness {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            ticks: histogram.len(),
            p50_ms: histogram.value_at_quantile(0.5),
            p99_ms: histogram.value_at_quantile(0.99),
            max_ms: histogram.max(),
        }
    }
}

impl crate::output::Report for Report {
    fn text(&self, f: &mut dyn io::Write) -> io::Result<()> {
        writeln!(f, "ticks of a centre on SQLite, with broker and worker on this machine; late by, in ms:")?;
        let mut row = |what: &str, late: &Lateness| {
            let Lateness { ticks, p50_ms, p99_ms, max_ms } = late;
            writeln!(f, "  {what:<34} {ticks:>8} ticks   p50 {p50_ms:>5}   p99 {p99_ms:>5}   max {max_ms:>5}")
        };
        row(&format!("{}/s over {} s, spread", self.ticks_per_s, self.seconds), &self.spread)?;
        row(&format!("{}/s over {} s, each second at once", self.ticks_per_s, self.seconds), &self.at_once)?;
        row("all at once", &self.burst)?;
        writeln!(f, "  the last of {} ticks at once ran after {} ms; none was lost", self.burst.ticks, self.burst_ms)?;
        let (each, share, empty) = (self.idle_bytes_each, self.idle_processor_percent, self.empty_processor_percent);
        writeln!(
            f,
            "  {} idle schedules: {each:.0} bytes of memory each, {share:.1} % of a processor ({empty:.1} % without any)",
            self.idle_schedules
        )
    }
}

/// A task that does nothing but say which schedule it is of.
#[derive(Serialize, Deserialize)]
struct Tick(Value);

impl Task for Tick {
    const NAME: &'static str = "bench.tick";
}

/// A tick that came: its schedule, its time, and when its handler began.
type Seen = (String, UnixMillis, UnixMillis);

/// One run of the bench.
pub(super) struct Course<'a> {
    arguments: &'a Arguments,
    seconds: u32,
    outer: &'a super::Course<'a>,
    folder: PathBuf,
}

// The same rows in one statement: a schedule is saved in a transaction of its own, which takes a while for a million.
const FILL: &str =
    "INSERT INTO leveret_centre_schedules (namespace, name, shard, revision, source, definition, next_at,
        next_due, created_at, changed_at)
    WITH RECURSIVE numbers(n) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $1)
    SELECT 'default', 'bench-' || n, n % 64, 1, 'api', $2, $3, $3, $4, $4 FROM numbers";

impl<'a> Course<'a> {
    pub(super) fn new(arguments: &'a Arguments, seconds: u32, outer: &'a super::Course<'a>) -> Self {
        let folder = std::env::temp_dir().join(format!("leveret-bench-{}", std::process::id()));
        Self { arguments, seconds, outer, folder }
    }

    /// In a folder of its own, which goes whatever happened.
    pub(super) async fn run(&self) -> Result<Report, BenchError> {
        std::fs::create_dir_all(&self.folder).map_err(|_| BenchError::Refused)?;
        let report = self.measure().await;
        let _ = std::fs::remove_dir_all(&self.folder);
        report
    }

    async fn measure(&self) -> Result<Report, BenchError> {
        self.outer.client.apply(&self.outer.topology()?).await?;
        let (idle_bytes_each, idle_processor_percent, empty_processor_percent) = self.idle().await?;
        let (worker, mut seen) = self.worker().await?;
        let spread = self.sustained("spread", Some("1s"), &mut seen).await?;
        let at_once = self.sustained("at-once", None, &mut seen).await?;
        let (burst, burst_ms) = self.burst(&mut seen).await?;
        worker.stop().await;
        Ok(Report {
            ticks_per_s: self.arguments.ticks,
            seconds: self.seconds,
            spread,
            at_once,
            burst,
            burst_ms,
            idle_schedules: self.arguments.idle,
            idle_bytes_each,
            idle_processor_percent,
            empty_processor_percent,
        })
    }

    async fn worker(&self) -> Result<(RunningWorker, mpsc::UnboundedReceiver<Seen>), BenchError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let handler = move |context: Context, _: Job<Tick>| {
            if let Some((schedule, at)) = context.schedule() {
                let _ = sender.send((schedule.to_owned(), at, context.clock().now()));
            }
            async { Ok::<_, Error>(Outcome::Done) }
        };
        let options = QueueOptions::concurrency(100).settings(queue_settings());
        let worker = Worker::builder(self.outer.broker.clone()).queue(&self.outer.queue, options).task(handler);
        let running = worker.build()?.start().await?;
        running.attached().await?;
        Ok((running, receiver))
    }

    async fn store(&self, name: &str) -> Result<Store, BenchError> {
        let url = format!("sqlite:{}", Path::new(&self.folder).join(name).display()).parse()?;
        Ok(Store::new(Database::open(&url).await?, Clock::system()))
    }

    async fn engine(&self, store: &Store) -> Result<RunningEngine, BenchError> {
        Ok(Engine::start(store.clone(), self.outer.client.clone(), EngineOptions::default()).await?)
    }

    fn definition(&self, mut when: Value) -> Result<Definition, BenchError> {
        when["task"] = Tick::NAME.into();
        when["queue"] = self.outer.queue.as_str().into();
        when["payload"] = "x".repeat(190).into();
        serde_json::from_value(when).map_err(|_| BenchError::Refused)
    }

    /// Schedules with a tick each second, for some seconds.
    async fn sustained(
        &self,
        name: &str,
        jitter: Option<&str>,
        seen: &mut mpsc::UnboundedReceiver<Seen>,
    ) -> Result<Lateness, BenchError> {
        self.outer.bar.set_message(format!("{} ticks a second, {name}", self.arguments.ticks));
        let store = self.store(name).await?;
        // They are saved one by one, and begin once all are there.
        let begin = Clock::system().now() + Duration::from_secs(5) + Duration::from_millis(10) * self.arguments.ticks;
        let begin = UnixMillis(begin.0 - begin.0 % 1_000);
        let end = begin + Duration::from_secs(self.seconds.into());
        let mut when = json!({
            "every": "1s",
            "starts_at": begin.to_rfc3339(),
            "ends_at": end.to_rfc3339(),
            "missed": "all",
            "missed_limit": 10_000,
        });
        if let Some(jitter) = jitter {
            when["jitter"] = jitter.into();
        }
        let definition = self.definition(when)?;
        let mut plans = HashMap::new();
        for number in 0..self.arguments.ticks {
            let name: ScheduleName = format!("{name}-{number}").parse().map_err(|_| BenchError::Refused)?;
            store.save_schedule(&name, &definition, &[], Source::Api, Expected::Any, None).await?;
            let plan = Plan::new(name.clone(), definition.clone(), &[]).map_err(|_| BenchError::Refused)?;
            plans.insert(name.to_string(), plan);
        }
        let engine = self.engine(&store).await?;
        let due = |schedule: &str, at| plans.get(schedule).map_or(at, |plan| plan.tick(at).due_at);
        let expected = usize::try_from(self.arguments.ticks * self.seconds).unwrap_or(usize::MAX);
        let wait = end.since(Clock::system().now()) + Duration::from_secs(30);
        let histogram = collect(seen, expected, wait, due).await?;
        engine.stop().await;
        store.database().close().await;
        Ok(Lateness::of(&histogram))
    }

    /// Schedules that are all due at one moment.
    async fn burst(&self, seen: &mut mpsc::UnboundedReceiver<Seen>) -> Result<(Lateness, u64), BenchError> {
        self.outer.bar.set_message(format!("{} ticks at once", self.arguments.burst));
        let store = self.store("burst").await?;
        let at = Clock::system().now() + Duration::from_secs(5);
        let definition = self.definition(json!({"at": at.to_rfc3339()}))?;
        fill(&store, self.arguments.burst, &definition, at).await?;
        let engine = self.engine(&store).await?;
        let expected = usize::try_from(self.arguments.burst).unwrap_or(usize::MAX);
        let histogram = collect(seen, expected, Duration::from_secs(120), |_, at| at).await?;
        engine.stop().await;
        store.database().close().await;
        let last = histogram.max();
        Ok((Lateness::of(&histogram), last))
    }

    /// Memory of an idle schedule in bytes, and the share of a processor in percent with all of them and without any.
    async fn idle(&self) -> Result<(f64, f64, f64), BenchError> {
        let store = self.store("idle").await?;
        let engine = self.engine(&store).await?;
        self.outer.bar.set_message("a centre without schedules");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (empty, before) = (processor_share(Duration::from_secs(10)).await, memory());
        engine.stop().await;
        self.outer.bar.set_message(format!("{} idle schedules", self.arguments.idle));
        let definition = self.definition(json!({"cron": "@yearly"}))?;
        let next = Clock::system().now() + Duration::from_secs(86_400);
        fill(&store, self.arguments.idle, &definition, next).await?;
        // What the filling took of memory is the database's, not the schedules'.
        store.database().close().await;
        let store = self.store("idle").await?;
        let engine = self.engine(&store).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (full, after) = (processor_share(Duration::from_secs(10)).await, memory());
        engine.stop().await;
        store.database().close().await;
        Ok((((after - before) / f64::from(self.arguments.idle)).max(0.0), full, empty))
    }
}

async fn fill(store: &Store, count: u32, definition: &Definition, next: UnixMillis) -> Result<(), BenchError> {
    let text = serde_json::to_string(definition).map_err(|_| BenchError::Refused)?;
    let values = [count.into(), text.into(), next.into(), store.clock().now().into()];
    store.database().execute(FILL, values).await?;
    Ok(())
}

/// How late the ticks came, in milliseconds; all have to come within `wait`, each once.
async fn collect(
    seen: &mut mpsc::UnboundedReceiver<Seen>,
    expected: usize,
    wait: Duration,
    due: impl Fn(&str, UnixMillis) -> UnixMillis,
) -> Result<Histogram<u64>, BenchError> {
    let mut histogram = Histogram::new_with_max(600_000, 3)?;
    let deadline = Instant::now() + wait;
    let mut known = std::collections::HashSet::with_capacity(expected);
    while known.len() < expected {
        let Ok(Some((schedule, at, began))) = tokio::time::timeout_at(deadline, seen.recv()).await else {
            return Err(BenchError::Ticks { missing: expected - known.len(), expected, seconds: wait.as_secs() });
        };
        let late = began.since(due(&schedule, at));
        if known.insert((Arc::<str>::from(schedule), at)) {
            histogram.saturating_record(u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
        }
    }
    Ok(histogram)
}

/// How much of one processor this process takes, in percent.
async fn processor_share(length: Duration) -> f64 {
    let measuring = ResourceUse::start();
    tokio::time::sleep(length).await;
    // Of so many "messages" as there are microseconds: processor time over time, then.
    let micros = usize::try_from(length.as_micros()).unwrap_or(usize::MAX);
    measuring.stop(micros).client_us * 100.0
}
