//! Starts and stops the engine.

use std::{sync::Arc, time::Duration};

use leveret_common::{client::Client, task::TaskId, topology::InvalidName};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{
    EngineHealth, EngineStats, QueueSettingsOf,
    cancel::Canceller,
    declare::Declarer,
    dispatch::Dispatcher,
    lease::{Keeper, Lease},
    record::{Recorder, Teller},
    stats::Counters,
    ticker::Ticker,
};
use crate::centre::{
    database::DatabaseError,
    store::{Centre, Store},
    watch::Announcer,
};

/// How an engine works.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// What this centre is called, such as host and process. Default `centre`.
    pub name: String,
    /// Where its REST interface is, for others to see. Default: none.
    pub address: Option<String>,
    /// How long after its last beat others take over. A schedule waits for them for this and a beat at most, and then for
    /// their transaction: with the defaults 2.1 s, so that there is room below three seconds for a machine that has much to
    /// do. A centre that cannot beat within its lease, for the database is slow, decides nothing until it can. Choose more
    /// than 1.5 s: for so long one that was stopped in a transaction keeps its locks. Default 1.8 s.
    pub lease: Duration,
    /// How often it beats, and looks who else is alive; several times in a lease, so that one beat may fail. Default 300 ms.
    pub beat: Duration,
    /// How long a stop waits for the broker's confirms. Default 10 s.
    pub grace: Duration,
    /// The settings of queues that it declares because a schedule publishes to them and they are not there. Default: the
    /// defaults.
    pub queues: QueueSettingsOf,
    /// Tells followers what becomes of the tasks of ticks before a worker has them. Default: none, they are told of what
    /// workers tell.
    pub announcer: Option<Announcer>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            name: "centre".to_owned(),
            address: None,
            lease: Duration::from_millis(1_800),
            beat: Duration::from_millis(300),
            grace: Duration::from_secs(10),
            queues: QueueSettingsOf::default(),
            announcer: None,
        }
    }
}

/// An engine could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The database did not do what was asked.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The namespace of the broker's settings breaks the rules of names.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

/// Decides about the ticks of the schedules in a store, and publishes them.
#[derive(Debug)]
pub struct Engine;

impl Engine {
    /// Starts in the background. The client should have a connection of its own, for every publish waits for it.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(store: Store, client: Client, options: EngineOptions) -> Result<RunningEngine, EngineError> {
        let centre = Centre {
            id: TaskId::new().to_string(),
            name: options.name.clone(),
            address: options.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: store.clock().now(),
            beat_at: store.clock().now(),
            shards: 0,
        };
        store.make_shards().await?;
        let counters = Arc::new(Counters::new());
        let lease = Arc::new(Lease::new());
        let mut keeper = Keeper {
            store: store.clone(),
            lease: lease.clone(),
            centre: centre.clone(),
            length: options.lease,
            beat: options.beat,
            counters: counters.clone(),
            leaving: Vec::new(),
        };
        keeper.beat().await?;
        let canceller = Canceller::new(client.link().clone())?;
        let (dispatcher, outcomes) = Dispatcher::new(client.clone(), store.clock().clone());
        let teller = Teller::start(options.announcer);
        let (recorder, records) = Recorder::new(store.clone(), teller.clone());
        let ticker = Ticker::new(
            store.clone(),
            lease.clone(),
            centre.id.clone(),
            counters.clone(),
            (dispatcher, outcomes),
            (Declarer::new(client.clone(), options.queues), canceller),
            (teller, records),
        );
        let (stop, stop_beating) = (CancellationToken::new(), CancellationToken::new());
        let exchanges = tokio::spawn(Declarer::keep_exchanges(client, stop_beating.clone()));
        let ticker = tokio::spawn(ticker.run(stop.clone(), options.grace));
        let keeper = tokio::spawn(keeper.run(stop_beating.clone()));
        let recorder = tokio::spawn(recorder.run());
        info!(centre = %centre.id, name = options.name, "the centre decides about schedules");
        Ok(RunningEngine {
            store,
            id: centre.id,
            lease,
            counters,
            stop,
            stop_beating,
            ticker,
            tasks: [recorder, keeper, exchanges],
        })
    }
}

/// An engine at work. Dropped, it stops without waiting, and others take over once its lease is over.
#[derive(Debug)]
pub struct RunningEngine {
    store: Store,
    id: String,
    lease: Arc<Lease>,
    counters: Arc<Counters>,
    stop: CancellationToken,
    stop_beating: CancellationToken,
    ticker: JoinHandle<()>,
    tasks: [JoinHandle<()>; 3],
}

impl RunningEngine {
    /// The id of this centre, new at each start.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it has done so far.
    pub fn stats(&self) -> EngineStats {
        self.counters.stats()
    }

    /// How it is.
    pub fn health(&self) -> EngineHealth {
        self.counters.health(self.lease.is_valid(), self.lease.held().len())
    }

    /// Decides about nothing more, waits for the confirms of what is on its way, at most the
    /// [grace period](EngineOptions::grace), and lets others take over at once. What it has done.
    pub async fn stop(mut self) -> EngineStats {
        self.stop.cancel();
        if let Err(error) = (&mut self.ticker).await {
            error!(%error, "the engine ended by itself");
        }
        self.stop_beating.cancel();
        for task in &mut self.tasks {
            drop(task.await);
        }
        Keeper::end(&self.store, &self.lease, &self.id).await;
        self.stats()
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        self.stop.cancel();
        self.stop_beating.cancel();
    }
}
