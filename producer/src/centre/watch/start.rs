//! Starting and stopping the watcher.

use std::{fmt, sync::Arc, time::Duration};

use leveret_common::{
    config::{BrokerSettings, InvalidSetting},
    control::Control,
    link::{Attachment, ChannelPool, ConsumerSettings, Link, Publisher, Role},
    registry::{Instance, Registry, RegistryError},
    topology::{InvalidName, Topology, declare},
    wire::TooLong,
};
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    Retention, WatchStats, Workers,
    cancels::{Canceller, Teller},
    copies::Copies,
    deaths,
    events::{self, Intake, RunningIntake},
    keeper::Keeper,
    metrics::Metrics,
    queues::Queues,
    read,
    relay::Relay,
    retention::Keeping,
};
use crate::centre::store::{
    Store,
    tasks::{Applied, Task},
};

/// How long a broker has to answer before anybody else is let go on: one that is away holds up nothing else.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How the watcher works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// How long an event waits for others that are written together with it. Default 150 ms.
    pub patience: Duration,
    /// Messages of events that may be here and not yet in the database. Default 256.
    pub prefetch: u16,
    /// How long things are kept. `None` leaves that to others. Default as [`Retention`] has it.
    pub retention: Option<Retention>,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { patience: Duration::from_millis(150), prefetch: 256, retention: Some(Retention::default()) }
    }
}

/// Follows tasks and workers.
#[derive(Debug)]
pub struct Watcher;

impl Watcher {
    /// Begins to take the events of tasks into `store`, to follow the workers, and to let go of what is old. A broker or a
    /// database that is away is waited for in the background, a broker for a second before this returns; events wait at
    /// the broker meanwhile.
    ///
    /// # Errors
    /// [`WatchError`] when a setting cannot work.
    pub async fn start(
        store: Store,
        settings: BrokerSettings,
        options: WatchOptions,
    ) -> Result<RunningWatcher, WatchError> {
        settings.check()?;
        let topology = Arc::new(Topology::new(&settings.namespace)?.centre());
        let names = topology.names().clone();
        let (name, patience) = (settings.name.clone(), settings.timeout.min(AT_ONCE));
        let settings = Arc::new(settings);
        let (consume, admin) = (Link::open(settings.clone(), Role::Consume), Link::open(settings.clone(), Role::Admin));
        let mut links = vec![consume.clone(), admin.clone()];
        let pool = ChannelPool::new(admin.clone());
        // Who listens to the exchange would fail at first where there is none yet.
        match admin.live_within(patience).await {
            Ok(_) => {
                if let Err(error) = declare(&pool, &topology).await {
                    warn!("the queue of events cannot be declared yet: {}", events::chain(&error));
                }
            }
            Err(error) => warn!("no broker yet, the events of tasks wait: {error}"),
        }

        let queues = Arc::new(Queues::default());
        let relay = Arc::new(if store.database().is_shared() {
            let publish = Link::open(settings.clone(), Role::Publish);
            links.push(publish.clone());
            Relay::among(admin.clone(), Publisher::new(publish), &names, queues.clone())?
        } else {
            Relay::alone(queues.clone())
        });
        let (stop, metrics, mut tasks) = (CancellationToken::new(), Metrics::new(), Vec::new());

        let consuming = ConsumerSettings {
            queue: names.centre().to_owned(),
            prefetch: options.prefetch.max(1),
            tag: name.clone(),
            topology: Some((pool.clone(), topology)),
            ordered: false,
        };
        let (begin, begun) = mpsc::unbounded_channel();
        let intake = Intake {
            read: read::message,
            store: store.clone(),
            relay: relay.clone(),
            metrics: metrics.clone(),
            patience: options.patience,
            begun: begin,
            stop: stop.clone(),
        };
        let of_deaths = Intake { read: deaths::copy, ..intake.clone() };
        let RunningIntake { attached, tasks: intake } = intake.start(consume.clone(), consuming)?;
        tasks.extend(intake);

        let control = Control::on(admin.clone())?;
        let registry = Registry::on(admin, store.clock().clone())?;
        let copies = Copies {
            pool,
            topology: Arc::new(Topology::new(&settings.namespace)?.deaths()),
            queues,
            registry: registry.clone(),
            store: store.clone(),
            stop: stop.clone(),
            refused: false,
        };
        tasks.push(tokio::spawn(copies.run(consume, name.clone(), of_deaths)));
        let teller = Teller::new(store.clone(), control);
        let canceller = Canceller { registry: registry.clone(), teller, begun, stop: stop.clone() };
        tasks.push(tokio::spawn(canceller.run()));
        let (hears, hears_since) = watch::channel(None);
        let keeper =
            Keeper { registry: registry.clone(), store: store.clone(), hears_since: hears, stop: stop.clone() };
        tasks.push(tokio::spawn(keeper.run()));
        if let Some(retention) = options.retention {
            let centre = format!("{name} {}", Instance::new());
            let keeping = Keeping { store: store.clone(), retention, centre, stop: stop.clone() };
            tasks.push(tokio::spawn(keeping.run()));
        }
        let workers = Workers { registry, store, hears_since };
        Ok(RunningWatcher { stop, tasks, links, relay, metrics, workers, attached })
    }
}

/// A watcher at work. Dropping it tells it to stop, and waits for nothing.
pub struct RunningWatcher {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    links: Vec<Link>,
    relay: Arc<Relay>,
    metrics: Metrics,
    workers: Workers,
    attached: watch::Receiver<Attachment>,
}

impl RunningWatcher {
    /// Follows the tasks of which something new is learnt, at any centre; as in a list, without results and attempts. Each
    /// is in the database when it is told. A follower that is more than 4,096 behind loses the oldest, and is told so.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Task>> {
        self.relay.follow()
    }

    /// A handle for telling followers what this centre has itself changed. Cheap to clone.
    pub fn announcer(&self) -> Announcer {
        Announcer(self.relay.clone())
    }

    /// The workers, and the kinds of tasks that they know.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// What it has done so far.
    pub fn stats(&self) -> WatchStats {
        self.metrics.stats()
    }

    /// Follows whether the broker delivers events to it.
    pub fn attached(&self) -> watch::Receiver<Attachment> {
        self.attached.clone()
    }

    /// Stops. Events that are not in the database by then stay at the broker.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            if let Err(error) = task.await {
                error!(%error, "a part of the watcher ended by itself");
            }
        }
        for link in &self.links {
            link.close().await;
        }
    }
}

impl Drop for RunningWatcher {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for RunningWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningWatcher").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Tells followers what a centre has itself changed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Announcer(Arc<Relay>);

impl Announcer {
    /// Follows the tasks of which something new is learnt: see [`RunningWatcher::subscribe`].
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Task>> {
        self.0.follow()
    }

    /// Tells followers, here and at the other centres, what has come of
    /// [`record_published`](Store::record_published) or [`record_tasks`](Store::record_tasks), once it is committed.
    pub async fn announce(&self, applied: Applied) {
        self.0.announce(applied.changed).await;
    }
}

/// The watcher could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// A setting cannot work.
    #[error(transparent)]
    Settings(#[from] InvalidSetting),
    /// The namespace breaks the rules of names.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The workers cannot be followed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
