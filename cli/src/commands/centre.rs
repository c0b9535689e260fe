//! `leveret centre`: the scheduling centre, until it is told to stop.

use std::sync::Arc;

use clap::Args;
use leveret::{
    Client, Clock,
    common::telemetry::http::Health,
    producer::{
        centre::{
            database::{Database, DatabaseUrl},
            store::Store,
        },
        plan::{Definition, ScheduleName},
    },
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    failure::{Exit, Failure, chain},
    service::{Service, ServiceArguments, keep_declared, link_ready},
    session::Session,
    settings::Settings,
    systemd,
};

/// How often the database is asked whether it answers.
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

/// Run a scheduling centre: schedules and tasks in a database, steered over REST
///
/// It applies the schedules of leveret.toml: those that the file names are made, changed and removed as it says; those that
/// were made over REST are left alone. SIGTERM and SIGINT end it with exit code 0, after what is on its way; a second signal
/// ends it at once. Several centres may share one PostgreSQL.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret centre --database sqlite:/var/lib/leveret/centre.db --address 127.0.0.1:9470")]
pub(crate) struct Centre {
    /// Where schedules and tasks are kept: sqlite:FILE or a postgres:// URL; overrides `[centre] database` of the file
    #[arg(long, value_name = "URL", env = "LEVERET_DATABASE", hide_env_values = true)]
    database: Option<DatabaseUrl>,
    /// Serve REST here; overrides `[centre] address` of the file
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    #[command(flatten)]
    service: ServiceArguments,
}

impl Centre {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let mut settings = session.settings()?;
        self.service.apply(&session, &mut settings);
        if let Some(database) = self.database {
            settings.centre.database = database;
        }
        if let Some(address) = self.address {
            settings.centre.address = address;
        }
        let definitions = settings.definitions()?;
        let name = settings.centre.name.clone().unwrap_or_else(|| settings.broker.name.clone());
        let mut service = Service::start(&settings, &name, "centre").await?;
        let ended = work(&settings, &name, &mut service, definitions).await;
        service.end().await;
        ended
    }
}

/// From the database to the last confirm.
async fn work(
    settings: &Settings,
    name: &str,
    service: &mut Service,
    definitions: Vec<(ScheduleName, Definition)>,
) -> Result<Exit, Failure> {
    let database = Database::open(&settings.centre.database).await?;
    info!(database = %settings.centre.database, name, "the database is open");
    let store = Store::new(database.clone(), Clock::system());
    let client = Client::open(settings.broker.clone(), Clock::system())?;
    let link = client.link().clone();
    service.health.check("broker", move || link_ready(&link));
    let stop = CancellationToken::new();
    watch_database(&store, &service.health, stop.clone());
    let _ = definitions;

    let topology = settings.topology()?;
    let failed = tokio::select! {
        failure = keep_declared(client.link(), &topology) => Some(failure),
        signal = service.signals.next() => {
            info!(signal, "asked to stop; the next signal stops at once");
            None
        }
    };
    systemd::stopping();
    let stopping = async {
        stop.cancel();
        // Without a broker there is nobody to say goodbye to.
        if link_ready(client.link()).is_ok() {
            client.close().await;
        }
        database.close().await;
        info!("stopped");
    };
    tokio::select! {
        () = stopping => {}
        () = tokio::time::sleep(settings.centre.grace) => warn!("the grace period is over, stopping now"),
        signal = service.signals.next() => warn!(signal, "stopping now"),
    }
    failed.map_or(Ok(Exit::Done), Err)
}

/// Asks the database again and again whether it answers, for the checks must not wait for it.
fn watch_database(store: &Store, health: &Health, stop: CancellationToken) {
    let failing: Arc<Mutex<Option<String>>> = Arc::default();
    let shown = failing.clone();
    health.check("database", move || shown.lock().clone().map_or(Ok(()), Err));
    let database = store.database().clone();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let answer = database.ping().await.err().map(|error| chain(&error));
            if answer.is_some() && failing.lock().is_none() {
                warn!(why = answer, "the database does not answer");
            }
            *failing.lock() = answer;
        }
    }));
}
