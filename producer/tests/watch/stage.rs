//! What the tests share: databases, events as they come from workers, a worker that does as the message says.

use std::{collections::BTreeMap, time::Duration};

use leveret_common::{
    clock::{Clock, UnixMillis},
    config::BrokerSettings,
    event::{Happening, TaskEvent, Tracking},
    registry::Instance,
    retry::Tiers,
    task::{Task, TaskId},
    topology::QueueSettings,
    wire::DeadReason,
};
use leveret_producer::centre::{
    database::{Database, DatabaseUrl},
    store::{
        Store,
        tasks::{RecordedState, TaskRecord, Told},
    },
    watch::{RunningWatcher, WatchOptions, Watcher},
};
use leveret_testkit::{Broker, Postgres, Vhost};
use leveret_worker::{
    builder::{Worker, WorkerBuilder},
    context::Context,
    handler::Job,
    options::QueueOptions,
    outcome::{Error, Outcome},
    policy::TaskPolicy,
    run::RunningWorker,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const START: UnixMillis = UnixMillis(1_800_000_000_000);

/// Runs a test on SQLite and on PostgreSQL, each empty, at the same time.
pub(crate) async fn both(test: impl AsyncFn(DatabaseUrl)) {
    let (_folder, sqlite) = sqlite();
    let postgres = Postgres::shared().await.database().await;
    // In boxes, for what a test holds is some kilobytes large.
    tokio::join!(Box::pin(test(sqlite)), Box::pin(test(postgres.url().parse().unwrap())));
}

/// An empty SQLite, for as long as its folder is there.
pub(crate) fn sqlite() -> (tempfile::TempDir, DatabaseUrl) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/centre.db", folder.path().display()).parse().unwrap();
    (folder, url)
}

/// A store as one centre has it.
pub(crate) async fn store(url: &DatabaseUrl, clock: Clock) -> Store {
    Store::new(Database::open(url).await.unwrap(), clock)
}

pub(crate) fn id(name: &str) -> TaskId {
    name.parse().unwrap()
}

/// An event of a task of the name `mail.send` in the queue `mail`, at the first attempt.
pub(crate) fn event(task: &str, at: i64, what: Happening) -> Told {
    let event = TaskEvent {
        id: id(task),
        task: "mail.send".to_owned(),
        queue: "mail".to_owned(),
        attempt: 1,
        at: UnixMillis(START.0 + at),
        trace_id: None,
        replays: 0,
        schedule: None,
        scheduled_at: None,
        labels: BTreeMap::new(),
        what,
    };
    let instance: Instance = "0199aaaa-0000-7000-8000-000000000001".parse().unwrap();
    Told::by("mail-1", instance, event)
}

pub(crate) fn started(task: &str, at: i64) -> Told {
    event(task, at, Happening::Started { waited_ms: None })
}

pub(crate) fn done(task: &str, at: i64) -> Told {
    event(task, at, Happening::done(5, None))
}

pub(crate) fn failed(task: &str, at: i64, error: &str) -> Told {
    let (error_kind, retry_at) = ("error".to_owned(), UnixMillis(START.0 + at + 100));
    event(task, at, Happening::Failed { ran_ms: 5, error_kind, error: error.to_owned(), retry_at })
}

pub(crate) fn dead(task: &str, at: i64, error: &str) -> Told {
    let (reason, error_kind) = (DeadReason::Exhausted, "error".to_owned());
    event(task, at, Happening::Dead { ran_ms: None, reason, error_kind, error: error.to_owned() })
}

/// The same, at another attempt.
pub(crate) fn attempt(number: u32, mut told: Told) -> Told {
    told.event.attempt = number;
    told
}

pub(crate) fn record(task: &str, at: i64, state: RecordedState) -> TaskRecord {
    TaskRecord {
        id: id(task),
        namespace: "default".to_owned(),
        task: "mail.send".to_owned(),
        queue: "mail".to_owned(),
        state,
        at: UnixMillis(START.0 + at),
        created_at: UnixMillis(START.0 + at),
        due_at: None,
        schedule: None,
        labels: BTreeMap::new(),
        trace_id: None,
        reason: None,
    }
}

/// A task whose arguments say how it ends: `{"then": "done"}` and so on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Probe(pub(crate) Value);

impl Task for Probe {
    const NAME: &'static str = "probe";
    fn schema() -> Option<Value> {
        Some(serde_json::json!({ "type": "object" }))
    }
}

pub(crate) async fn vhost() -> Vhost {
    Broker::shared().await.vhost().await
}

pub(crate) fn settings(url: &str) -> BrokerSettings {
    let mut settings = BrokerSettings::new(url).unwrap();
    settings.reconnect_max = Duration::from_millis(500);
    settings
}

/// The settings of the queue `default`, all of whose tasks are told of.
pub(crate) fn queue() -> QueueSettings {
    let tiers = Tiers::new([50, 1_000].map(Duration::from_millis).into()).unwrap();
    QueueSettings { tiers, events: Tracking::Full, delivery_limit: 5, ..QueueSettings::default() }
}

/// A worker on the queue `default`.
pub(crate) fn worker(settings: BrokerSettings) -> WorkerBuilder {
    let policy = TaskPolicy::default().backoff("1ms".parse().unwrap()).retries(1);
    let handler = |context: Context, job: Job<Probe>| async move {
        match job.arguments.0["then"].as_str().unwrap_or("done") {
            "result" => Outcome::result(&serde_json::json!({ "pages": 3 })),
            "fail once" if context.attempt() == 1 => Err(Error::retry("no such host")),
            "fail" => Err(Error::retry("no such host")),
            "discard" => Ok(Outcome::Discard("too old".to_owned())),
            _ => Ok(Outcome::Done),
        }
    };
    Worker::builder(settings)
        .queue("default", QueueOptions::concurrency(4).settings(queue()))
        .policy(policy)
        .task(handler)
}

pub(crate) async fn start(worker: WorkerBuilder) -> RunningWorker {
    let running = worker.build().unwrap().start().await.unwrap();
    running.attached().await.unwrap();
    running
}

pub(crate) async fn watch(store: &Store, vhost: &Vhost) -> RunningWatcher {
    let options = WatchOptions { patience: Duration::from_millis(20), ..WatchOptions::default() };
    Watcher::start(store.clone(), settings(vhost.url()), options).await.unwrap()
}
