//! The centre itself, until it is told to stop.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use leveret::{
    Client, Clock,
    common::{
        control::Control,
        link::{Attachment, ChannelPool, Link, Role},
        topology::TopologyError,
    },
    producer::centre::{
        api::{Api, ApiSettings, Broker, RunningServer, Server, ServerSettings, TlsFiles},
        database::{Database, DatabaseUrl},
        engine::{Engine, EngineOptions, QueueSettingsOf, RunningEngine},
        operations::{Management, Operations, Queues},
        store::Store,
        watch::{Announcer, RunningWatcher, WatchOptions, Watcher},
    },
};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    consul::Consul,
    parts::{keep_applied, keep_declared, watch_database},
};
use crate::{
    failure::{Exit, Failure},
    output::Report,
    service::{Service, ServiceArguments, link_ready},
    session::Session,
    settings::Settings,
    systemd,
};

/// What a stop may take beyond the grace period, to say goodbye.
const BEYOND: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Where schedules and tasks are kept: sqlite:FILE or a postgres:// URL; overrides `[centre] database` of the file
    #[arg(long, value_name = "URL", env = "LEVERET_DATABASE", hide_env_values = true)]
    database: Option<DatabaseUrl>,
    /// Serve REST here; overrides `[centre] address` of the file
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// A token for an admin of everything, at least 32 characters, in place of the one that the first start makes
    #[arg(long, value_name = "TOKEN", env = "LEVERET_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    #[command(flatten)]
    service: ServiceArguments,
}

/// What whoever starts it wants to know.
#[derive(Debug, Serialize)]
struct Started<'a> {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

impl Report for Started<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "the centre listens on {}", self.url)?;
        if let Some(token) = self.token {
            writeln!(out, "the token of the first admin, which is shown this once: {token}")?;
        }
        Ok(())
    }
}

impl Run {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let mut settings = session.settings()?;
        self.service.apply(&session, &mut settings);
        if let Some(database) = self.database {
            settings.centre.database = database;
        }
        if let Some(address) = self.address {
            settings.centre.address = address;
        }
        settings.check_schedules()?;
        let name = settings.centre.name.clone().unwrap_or_else(|| settings.broker.name.clone());
        let mut service = Service::start(&settings, &name, "centre").await?;
        let ended = match Centre::start(&settings, &name, &service, self.admin_token).await {
            Ok(centre) => centre.work(&session, &settings, &mut service).await,
            Err(failure) => Err(failure),
        };
        service.end().await;
        ended
    }
}

/// All parts of a centre that runs.
struct Centre {
    client: Client,
    admin: Link,
    database: Database,
    /// Shared with the check of its lease.
    engine: Arc<Mutex<Option<RunningEngine>>>,
    watcher: RunningWatcher,
    operations: Operations,
    server: RunningServer,
    /// Its place in Consul's catalogue.
    consul: Option<JoinHandle<()>>,
    /// Ends what runs beside.
    stop: CancellationToken,
}

impl Centre {
    async fn start(
        settings: &Settings,
        name: &str,
        service: &Service,
        admin_token: Option<String>,
    ) -> Result<Self, Failure> {
        let centre = &settings.centre;
        let database = Database::open(&centre.database).await?;
        info!(database = %centre.database, "the database is open");
        let clock = Clock::system();
        let store = Store::new(database.clone(), clock.clone());
        let stop = CancellationToken::new();
        watch_database(&store, &service.health, stop.clone());

        let client = Client::open(settings.broker.clone(), clock.clone())?;
        let link = client.link().clone();
        service.health.check("broker", move || link_ready(&link));
        let admin = Link::open(client.link().settings().clone(), Role::Admin);
        let watching = WatchOptions { retention: Some(centre.retention.clone()), ..WatchOptions::default() };
        let watcher = Watcher::start(store.clone(), settings.broker.clone(), watching).await?;
        let attached = watcher.attached();
        service.health.check("events", move || match &*attached.borrow() {
            Attachment::Attached => Ok(()),
            _ => Err("the broker does not deliver the events of tasks".to_owned()),
        });
        let registry = watcher.workers().registry().clone();
        let pool = ChannelPool::new(admin.clone());
        let control = Control::on(admin.clone()).map_err(TopologyError::from)?;
        let vhost = settings.broker.url.first().map(|url| url.vhost().to_owned()).unwrap_or_default();
        let management = centre.management.as_deref().map(|url| Management::new(url, &vhost)).transpose();
        let management = management.map_err(|error| settings.invalid(&["centre", "management"], error))?;
        let queues = Queues::new(pool, settings.topology()?, Some(registry.clone()), management);

        let engine = start_engine(settings, name, &store, service, watcher.announcer()).await?;
        let id = engine.lock().as_ref().map(|engine| engine.id().to_owned()).unwrap_or_default();
        let operations = Operations::start(store.clone(), admin.clone(), &id);
        keep_applied(store.clone(), settings.schedules.clone(), stop.clone());

        let asking = ApiSettings { limits: settings.limits.clone(), ..ApiSettings::default() };
        let api = Api::new(store, asking)
            .broker(Broker { client: client.clone(), control, registry })
            .announcer(watcher.announcer())
            .operations(operations.clone())
            .queues(queues)
            .health(service.health.clone())
            .metrics(service.registry());
        let tls = centre.tls.as_ref();
        let tls = tls.map(|tls| TlsFiles { certificate: tls.certificate.clone(), key: tls.key.clone() });
        let is_tls = tls.is_some();
        let listen = ServerSettings { listen: centre.address.clone(), tls, admin_token, ..ServerSettings::default() };
        let server = Server::start(api, listen).await?;
        let place = |consul| Consul::new(settings, consul, &id, server.address(), is_tls, service.health.clone());
        let consul = centre.consul.as_ref().map(place).transpose()?;
        let consul = consul.map(|consul| consul.keep(stop.clone()));
        Ok(Self { client, admin, database, engine, watcher, operations, server, consul, stop })
    }

    /// Until it is told to stop, and through that.
    async fn work(self, session: &Session, settings: &Settings, service: &mut Service) -> Result<Exit, Failure> {
        info!(url = self.server.url(), "serving REST");
        session.output.report_line(&Started { url: self.server.url(), token: self.server.first_token() })?;
        let topology = settings.topology()?;
        let failed = tokio::select! {
            failure = keep_declared(self.client.link(), &topology) => Some(failure),
            signal = service.signals.next() => {
                info!(signal, "asked to stop; the next signal stops at once");
                None
            }
        };
        systemd::stopping();
        tokio::select! {
            () = self.stop() => info!("stopped"),
            () = tokio::time::sleep(settings.centre.grace + BEYOND) => warn!("the grace period is over, stopping now"),
            signal = service.signals.next() => warn!(signal, "stopping now"),
        }
        failed.map_or(Ok(Exit::Done), Err)
    }

    /// In the order in which one part needs another.
    async fn stop(self) {
        self.stop.cancel();
        if let Some(consul) = self.consul {
            // Nobody is to be sent here any more. Its only other end is a panic, which has said what it is already.
            let _ = consul.await;
        }
        self.server.stop().await;
        self.operations.stop().await;
        let engine = self.engine.lock().take();
        if let Some(engine) = engine {
            let stats = engine.stop().await;
            info!(decided = stats.decided, published = stats.published, "decides about schedules no more");
        }
        self.watcher.stop().await;
        // Without a broker there is nobody to say goodbye to.
        if link_ready(self.client.link()).is_ok() {
            self.client.close().await;
        }
        self.admin.close().await;
        self.database.close().await;
    }
}

/// Begins to decide about schedules. Its publishes have a connection of their own.
async fn start_engine(
    settings: &Settings,
    name: &str,
    store: &Store,
    service: &Service,
    announcer: Announcer,
) -> Result<Arc<Mutex<Option<RunningEngine>>>, Failure> {
    let centre = &settings.centre;
    let queues = settings.queues.clone();
    let options = EngineOptions {
        name: name.to_owned(),
        address: Some(format!("{}://{}", if centre.tls.is_some() { "https" } else { "http" }, centre.address)),
        grace: centre.grace,
        queues: QueueSettingsOf::new(move |queue| queues.get(queue).cloned().unwrap_or_default()),
        announcer: Some(announcer),
        ..EngineOptions::default()
    };
    let client = Client::open(settings.broker.clone(), store.clock().clone())?;
    let engine = Engine::start(store.clone(), client, options).await?;
    let engine = Arc::new(Mutex::new(Some(engine)));
    let looked_at = engine.clone();
    service.health.check("schedules", move || match looked_at.lock().as_ref().map(RunningEngine::health) {
        Some(health) if !health.has_lease => Err("its lease is over: the database does not answer in time".to_owned()),
        _ => Ok(()),
    });
    Ok(engine)
}
