//! A worker's control plane without a worker behind it: it remembers what it was told.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use leveret::{
    BrokerSettings, Clock, QueueName, Topology, UnixMillis,
    common::{
        control::{LimitChange, LimitReport, Pause, PauseFlags, RunningTask},
        event::Progress,
        limit::{LimitName, Terms},
        link::{Attachment, ChannelPool, Link, Publisher, Role},
        registry::{About, Instance, TaskAbout, WorkerState},
        topology::declare,
    },
    worker::control::{
        ControlPlane, ControlSettings, Controlled, Lines, Liveness, QueueReport, Revoked, Which, Who, paused_at_start,
    },
};
use tokio::sync::{Notify, watch};

use crate::within;

/// What a control plane steers in a test.
#[derive(Debug)]
pub struct Double {
    queues: watch::Sender<Vec<QueueReport>>,
    running: watch::Sender<Vec<RunningTask>>,
    told: watch::Sender<Vec<String>>,
    draining: AtomicBool,
    /// While it is closed, a change of a limit takes until it is opened.
    pub gate: Notify,
}

impl Double {
    fn tell(&self, what: String) {
        self.told.send_modify(|told| told.push(what));
    }

    /// What it was told so far.
    pub fn told(&self) -> Vec<String> {
        self.told.borrow().clone()
    }

    /// Waits until it has been told this.
    pub async fn until_told(&self, what: &str) {
        let mut told = self.told.subscribe();
        let seen = told.wait_for(|told| told.iter().any(|told| told == what));
        drop(within(&format!("to be told: {what}"), seen).await);
    }

    /// Changes what it says about its queues.
    pub fn set_queues(&self, change: impl FnOnce(&mut Vec<QueueReport>)) {
        self.queues.send_modify(change);
    }

    /// Lets a task run.
    pub fn run(&self, id: &str, task: &str, queue: &str) {
        let task = RunningTask {
            id: id.parse().unwrap(),
            task: task.to_owned(),
            queue: QueueName::new(queue).unwrap(),
            attempt: 1,
            since: UnixMillis(1_000),
            progress: Some(Progress { cursor: 3, total: Some(10), note: Some("resizing".to_owned()) }),
        };
        self.running.send_modify(|running| running.push(task));
    }
}

impl Controlled for Double {
    fn state(&self) -> WorkerState {
        if self.draining.load(Ordering::Relaxed) { WorkerState::Draining } else { WorkerState::Running }
    }

    fn queues(&self) -> Vec<QueueReport> {
        self.queues.borrow().clone()
    }

    fn finished(&self) -> BTreeMap<String, u64> {
        BTreeMap::from([("done".to_owned(), 7)])
    }

    fn events_dropped(&self) -> u64 {
        0
    }

    fn running(&self) -> Vec<RunningTask> {
        self.running.borrow().clone()
    }

    fn cancel(&self, which: &Which, reason: Option<&str>) -> usize {
        let mut cancelled = Vec::new();
        self.running.send_modify(|running| {
            let meant = |task: &mut RunningTask| which.is_meant(&task.id, &task.task, 0);
            cancelled.extend(running.extract_if(.., meant));
        });
        for task in &cancelled {
            self.tell(format!("cancel {} {}", task.id, reason.unwrap_or("-")));
        }
        cancelled.len()
    }

    fn revoke(&self, which: &Revoked, reason: Option<&str>, lasts: Duration) {
        for id in &which.ids {
            self.tell(format!("revoke {id} {} {lasts:?} {:?}", reason.unwrap_or("-"), which.replays));
        }
    }

    async fn pause(&self, queue: &QueueName, pause: &Pause) -> Result<(), String> {
        self.tell(format!("pause {queue} {}", pause.reason.as_deref().unwrap_or("-")));
        Ok(())
    }

    async fn resume(&self, queue: &QueueName) -> Result<(), String> {
        self.tell(format!("resume {queue}"));
        Ok(())
    }

    async fn set_concurrency(&self, queue: &QueueName, tasks: u16) -> Result<(), String> {
        self.set_queues(|queues| {
            let changed = queues.iter_mut().filter(|report| report.queue == *queue);
            changed.for_each(|report| report.concurrency = tasks.into());
        });
        self.tell(format!("concurrency {queue} {tasks}"));
        Ok(())
    }

    fn limits(&self) -> Vec<LimitReport> {
        let terms = Terms { concurrency: Some(5), rate: None };
        vec![LimitReport {
            name: LimitName::new("api").unwrap(),
            queues: vec![],
            tasks: vec!["mail.send".to_owned()],
            by_key: false,
            per_worker: true,
            concurrency: Some(9),
            rate: None,
            in_force: terms,
            held: 2,
            waiting: 1,
        }]
    }

    async fn set_limit(&self, change: &LimitChange) -> Result<(), String> {
        match change.name.as_str() {
            "slow" => self.gate.notified().await,
            "panic" => panic!("as the test wants it"),
            "unknown" => return Err("there is no limit \"unknown\"".to_owned()),
            _ => {}
        }
        self.tell(format!("limit {} {:?} {:?}", change.name, change.concurrency, change.rate));
        Ok(())
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.tell("drain".to_owned());
    }

    fn stop(&self) {
        self.tell("stop".to_owned());
    }
}

/// A [`Double`] with its control plane and its connections.
#[derive(Debug)]
pub struct Steered {
    /// What is steered.
    pub double: Arc<Double>,
    /// Its instance.
    pub instance: Instance,
    /// What a liveness probe would ask.
    pub liveness: Liveness,
    plane: ControlPlane,
    publisher: Publisher,
    consume: Link,
    publish: Link,
}

impl Steered {
    /// Starts one of this name for these queues, each with four places, of which one is busy.
    pub async fn start(broker: BrokerSettings, name: &str, queues: &[&str], settings: ControlSettings) -> Self {
        let broker = Arc::new(broker.name(name));
        let consume = Link::open(broker.clone(), Role::Consume);
        let publish = Link::open(broker.clone(), Role::Publish);
        let topology = Topology::new(&broker.namespace).unwrap();
        declare(&ChannelPool::new(publish.clone()), &topology).await.unwrap();
        let queues: Vec<_> = queues.iter().map(|queue| QueueName::new(queue).unwrap()).collect();
        let flags = PauseFlags::new(ChannelPool::new(publish.clone()));
        let paused = paused_at_start(&flags, &ChannelPool::new(consume.clone()), &queues).await;
        let reports = queues.iter().map(|queue| QueueReport {
            queue: queue.clone(),
            concurrency: 4,
            busy: 1,
            prefetch: 8,
            attached: true,
            taken: 0,
        });
        let double = Arc::new(Double {
            queues: watch::Sender::new(reports.collect()),
            running: watch::Sender::default(),
            told: watch::Sender::new(paused.keys().map(|queue| format!("start without {queue}")).collect()),
            draining: AtomicBool::new(false),
            gate: Notify::new(),
        });
        let instance = Instance::new();
        let schema = serde_json::json!({"type": "object", "properties": {"to": {"type": "string"}}});
        let tasks = vec![TaskAbout { name: "mail.send".to_owned(), queue: None, schema: Some(schema) }];
        let about = About::this_process(Clock::system().now(), tasks);
        let who = Who { name: name.to_owned(), instance, weight: 1, about };
        let publisher = Publisher::new(publish.clone());
        let lines = Lines { consume: consume.clone(), publisher: publisher.clone(), flags };
        let names = topology.names();
        let clock = Clock::system();
        let plane = ControlPlane::start(double.clone(), who, lines, names, paused, settings, clock).unwrap();
        let liveness = plane.liveness();
        Self { double, instance, liveness, plane, publisher, consume, publish }
    }

    /// Follows whether commands come in.
    pub fn listening(&self) -> watch::Receiver<Attachment> {
        self.plane.listening()
    }

    /// Waits until commands come in.
    pub async fn listens(self) -> Self {
        let mut listening = self.plane.listening();
        within("it listens", listening.wait_for(|attached| *attached == Attachment::Attached)).await.unwrap();
        drop(listening);
        self
    }

    /// Ends in the order in which a worker does.
    pub async fn stop(self) {
        self.plane.stop().await;
        self.publisher.close().await;
        self.consume.close().await;
        self.publish.close().await;
    }
}
