//! A store, a broker, and engines between them.

use std::time::Duration;

use leveret_common::{
    client::Client,
    clock::Clock,
    config::BrokerSettings,
    task::TaskId,
    topology::{QueueName, QueueSettings, Topology},
};
use leveret_producer::centre::{
    engine::{Engine, EngineOptions, RunningEngine},
    store::{
        Expected, RunEnd, RunEnded, Source, Store, TickRecord, TickState,
        tasks::{Task, TaskFilter, TaskState},
    },
};
use leveret_testkit::{Broker, Vhost, eventually, eventually_eq};
use serde_json::Value;

use crate::centre::{definition, name};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A store, a broker, and the means to see what an engine does with them.
pub(crate) struct Rig {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) vhost: Vhost,
}

impl Rig {
    pub(crate) async fn new(store: Store, clock: Clock) -> Self {
        let vhost = Broker::shared().await.vhost().await;
        let client = Client::connect(BrokerSettings::new(vhost.url()).unwrap()).await.unwrap();
        let topology = Topology::new("leveret").unwrap();
        let topology = topology.queue(QueueName::new("default").unwrap(), QueueSettings::default());
        client.apply(&topology).await.unwrap();
        client.close().await;
        Self { store, clock, vhost }
    }

    pub(crate) async fn engine(&self) -> RunningEngine {
        self.engine_at(self.vhost.url()).await
    }

    pub(crate) async fn engine_at(&self, url: &str) -> RunningEngine {
        let mut settings = BrokerSettings::new(url).unwrap();
        settings.reconnect_max = Duration::from_millis(500);
        settings.publish_timeout = Duration::from_secs(2);
        let client = Client::open(settings, self.clock.clone()).unwrap();
        Engine::start(self.store.clone(), client, EngineOptions::default()).await.unwrap()
    }

    /// An engine at another store, such as one that reaches the database another way.
    pub(crate) async fn engine_on(&self, store: &Store) -> RunningEngine {
        let client = Client::open(BrokerSettings::new(self.vhost.url()).unwrap(), self.clock.clone()).unwrap();
        Engine::start(store.clone(), client, EngineOptions::default()).await.unwrap()
    }

    pub(crate) async fn save(&self, schedule: &str, json: Value) {
        let definition = definition(json);
        self.store.save_schedule(&name(schedule), &definition, &[], Source::Api, Expected::Any, None).await.unwrap();
    }

    /// The ticks, oldest first.
    pub(crate) async fn ticks(&self, schedule: &str) -> Vec<TickRecord> {
        let mut ticks = self.store.ticks(&name(schedule), None, 1_000).await.unwrap().items;
        ticks.reverse();
        ticks
    }

    /// The tasks of a schedule that are known, oldest first.
    pub(crate) async fn tasks_of(&self, schedule: &str) -> Vec<Task> {
        let filter = TaskFilter { schedule: Some(schedule.to_owned()), ..TaskFilter::default() };
        let mut tasks = self.store.search(&filter, None, 1_000).await.unwrap().items;
        tasks.sort_by_key(|task| task.scheduled_at);
        tasks
    }

    /// Waits until the tasks of a schedule are like this.
    pub(crate) async fn task_states(&self, schedule: &str, expected: &[TaskState]) {
        let read = async || self.tasks_of(schedule).await.iter().map(|task| task.state).collect::<Vec<_>>();
        eventually_eq(PATIENCE, expected.to_vec(), read).await;
    }

    /// Waits until the ticks are like this.
    pub(crate) async fn states(&self, schedule: &str, expected: &[TickState]) {
        let read = async || self.ticks(schedule).await.iter().map(|tick| tick.state).collect::<Vec<_>>();
        eventually_eq(PATIENCE, expected.to_vec(), read).await;
    }

    /// Moves the clock, once the engine knows of the schedule's next tick.
    pub(crate) fn pass(&self, minutes: u32) {
        self.clock.advance(minutes * MINUTE);
    }

    /// The ids of the tasks in a queue, which are taken from it, once there are so many.
    pub(crate) async fn tasks(&self, queue: &str, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        eventually(PATIENCE, async || {
            if self.vhost.exists(queue).await {
                ids.extend(self.vhost.take_all(queue).await.iter().map(|message| message.id().unwrap()));
            }
            ids.len() >= count
        })
        .await;
        assert_eq!(ids.len(), count);
        ids
    }

    pub(crate) async fn ended(&self, id: &TaskId, end: RunEnd) {
        let mut transaction = self.store.database().begin().await.unwrap();
        let run = RunEnded { task_id: id.clone(), end, at: self.clock.now() };
        self.store.runs_ended(&mut transaction, &[run]).await.unwrap();
        transaction.commit().await.unwrap();
        self.store.wake();
    }

    pub(crate) async fn outbox(&self) -> i64 {
        let rows = self.store.database().fetch("SELECT count(*) AS n FROM leveret_centre_outbox", []).await.unwrap();
        rows[0].number("n").unwrap()
    }
}
