//! What the handlers work with.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use leveret_common::{
    client::Client,
    control::Control,
    limit::{LimitName, LimitSettings},
    registry::Registry,
    telemetry::http::Health,
};

use tokio_util::sync::CancellationToken;

use super::{Problem, conformity::Conformity, events::Feed, gate::Gate, kinds::Schemas, openapi};
use crate::centre::{
    operations::{Operations, Queues},
    store::{Store, tasks::Applied},
    watch::Announcer,
};

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
#[non_exhaustive]
pub struct Api {
    /// What is kept.
    pub store: Store,
    /// The way to the broker. Without it, what needs the broker answers 503.
    pub broker: Option<Broker>,
    /// Replays and purges of dead letters. Without them, what is about dead letters answers 503.
    pub operations: Option<Operations>,
    /// Counts of queues. Without them, what is about queues answers 503.
    pub queues: Option<Queues>,
    /// Tells what becomes of tasks, at any centre. Without it, streams of events look for that in the database.
    pub announcer: Option<Announcer>,
    /// The checks behind `/ready` and `/live`.
    pub health: Health,
    /// The series behind `/metrics`.
    pub metrics: prometheus::Registry,
    /// What it keeps to.
    pub settings: Arc<ApiSettings>,
    pub(super) gate: Arc<Gate>,
    pub(super) schemas: Arc<Schemas>,
    pub(super) conformity: Arc<Conformity>,
    pub(super) feed: Arc<Feed>,
    /// The server is told to stop: streams of events end.
    pub(super) closing: CancellationToken,
}

/// The way to the broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Publishes tasks.
    pub client: Client,
    /// Steers workers.
    pub control: Control,
    /// Knows the workers.
    pub registry: Registry,
}

/// What the interface keeps to.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// The largest body that is read, in bytes. Default 16 MiB.
    pub body_limit: usize,
    /// How long a request may take, except that a stream of events may last. Default 30 s.
    pub timeout: Duration,
    /// How long workers have to answer a command. Default 1 s.
    pub patience: Duration,
    /// Wrong tokens that one address may send in a minute. Default 60.
    pub wrong_tokens: u32,
    /// The limits of the configuration, to be listed. Default: none.
    pub limits: BTreeMap<LimitName, LimitSettings>,
    /// Whether everybody is an admin. Only for a listener on loopback, which is where [`Server`](super::Server) holds it
    /// to. Default no.
    pub insecure_loopback: bool,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            body_limit: 16 << 20,
            timeout: Duration::from_secs(30),
            patience: Duration::from_secs(1),
            wrong_tokens: 60,
            limits: BTreeMap::new(),
            insecure_loopback: false,
        }
    }
}

impl Api {
    /// On these tables, so far without a broker.
    pub fn new(store: Store, settings: ApiSettings) -> Self {
        Self {
            store,
            broker: None,
            announcer: None,
            operations: None,
            queues: None,
            health: Health::new(),
            metrics: prometheus::Registry::new(),
            gate: Arc::new(Gate::new(settings.wrong_tokens)),
            settings: Arc::new(settings),
            schemas: Arc::default(),
            conformity: Arc::new(Conformity::of(&openapi())),
            feed: Arc::default(),
            closing: CancellationToken::new(),
        }
    }

    /// With a way to the broker.
    #[must_use]
    pub fn broker(mut self, broker: Broker) -> Self {
        self.broker = Some(broker);
        self
    }

    /// With replays and purges of dead letters.
    #[must_use]
    pub fn operations(mut self, operations: Operations) -> Self {
        self.operations = Some(operations);
        self
    }

    /// With counts of queues.
    #[must_use]
    pub fn queues(mut self, queues: Queues) -> Self {
        self.queues = Some(queues);
        self
    }

    /// With what tells of tasks.
    #[must_use]
    pub fn announcer(mut self, announcer: Announcer) -> Self {
        self.announcer = Some(announcer);
        self
    }

    /// With the checks behind `/ready` and `/live`.
    #[must_use]
    pub fn health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// With the series behind `/metrics`.
    #[must_use]
    pub fn metrics(mut self, metrics: prometheus::Registry) -> Self {
        self.metrics = metrics;
        self
    }

    /// Tells others what this centre has changed about tasks.
    pub(super) async fn announce(&self, applied: Applied) {
        if let Some(announcer) = &self.announcer {
            announcer.announce(applied).await;
        }
    }

    /// The way to the broker.
    ///
    /// # Errors
    /// 503 when there is none.
    pub fn need_broker(&self) -> Result<&Broker, Problem> {
        self.broker.as_ref().ok_or_else(|| Problem::unavailable("this centre has no connection to a broker"))
    }
}

impl Api {
    pub(super) fn need_operations(&self) -> Result<&Operations, Problem> {
        self.operations.as_ref().ok_or_else(|| Problem::unavailable("this centre has no connection to a broker"))
    }

    pub(super) fn need_queues(&self) -> Result<&Queues, Problem> {
        self.queues.as_ref().ok_or_else(|| Problem::unavailable("this centre has no connection to a broker"))
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("store", &self.store).field("settings", &self.settings).finish_non_exhaustive()
    }
}
