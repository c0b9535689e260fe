//! The centre itself, until it is told to stop.

use std::io::{self, Write};

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
        operations::{Management, Operations, Queues},
        store::Store,
        watch::{RunningWatcher, WatchOptions, Watcher},
    },
};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    consul::Consul,
    parts::{keep_applied, watch_database},
};
use crate::{
    failure::{Exit, Failure},
    output::Report,
    service::{Service, ServiceArguments, keep_declared, link_ready},
    session::Session,
    settings::Settings,
    systemd,
};

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

        let id = leveret::TaskId::new().to_string();
        info!(centre = id, name, "the centre has its id");
        let operations = Operations::start(store.clone(), admin.clone(), &id);
        keep_applied(store.clone(), settings.schedules.clone(), stop.clone());

        let audit_kept = centre.retention.audit;
        let asking = ApiSettings { audit_kept, limits: settings.limits.clone(), ..ApiSettings::default() };
        let api = Api::new(store, asking)
            .broker(Broker { client: client.clone(), control, registry })
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
        Ok(Self { client, admin, database, watcher, operations, server, consul, stop })
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
            () = tokio::time::sleep(settings.centre.grace) => warn!("the grace period is over, stopping now"),
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
        self.watcher.stop().await;
        // Without a broker there is nobody to say goodbye to.
        if link_ready(self.client.link()).is_ok() {
            self.client.close().await;
        }
        self.admin.close().await;
        self.database.close().await;
    }
}
