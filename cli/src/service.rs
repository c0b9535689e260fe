//! What the commands that stay have in common: telemetry, the HTTP server, signals.

use clap::Args;
use leveret::{
    Topology,
    common::{
        link::{ChannelPool, Link, LinkState},
        telemetry::{self, LogFilter, LogFormat, Telemetry, http},
        topology::declare,
    },
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    failure::Failure,
    session::Session,
    settings::{HttpAddress, Settings},
    signals::Signals,
    systemd,
};

/// Arguments of the commands that stay.
#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    /// Name in logs, in the console and on dead letters [default: host name and process id]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Serve /live, /ready and /metrics here, such as 127.0.0.1:9464; overrides `[http] address` of the file
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
}

impl ServiceArguments {
    /// Puts the arguments over the settings.
    pub(crate) fn apply(self, session: &Session, settings: &mut Settings) {
        if let Some(name) = self.name {
            settings.worker.name = Some(name.clone());
            settings.centre.name = Some(name.clone());
            settings.broker.name = name;
        }
        if let Some(address) = self.http {
            settings.http = Some(HttpAddress { address });
        }
        if session.output.is_json() {
            settings.telemetry.format = LogFormat::Json;
        }
        if session.output.is_quiet() {
            "warn".clone_into(&mut settings.telemetry.log);
        }
    }
}

/// A process that stays, from its first log line to its last.
#[derive(Debug)]
pub(crate) struct Service {
    /// The checks behind `/ready`.
    pub(crate) health: http::Health,
    /// The signals that ask it to end.
    pub(crate) signals: Signals,
    telemetry: Telemetry,
    server: Option<JoinHandle<()>>,
    shutdown: CancellationToken,
}

impl Service {
    /// Sets up signals and telemetry, says what starts, and serves HTTP if that is configured. Until its check
    /// `broker` is replaced, the service is not ready.
    pub(crate) async fn start(settings: &Settings, name: &str, role: &'static str) -> Result<Self, Failure> {
        let signals = Signals::listen()?;
        let telemetry =
            telemetry::init(&settings.telemetry, name, role).map_err(|error| settings.invalid_telemetry(&error))?;
        let broker: Vec<_> = settings.broker.url.iter().map(ToString::to_string).collect();
        info!(
            version = env!("CARGO_PKG_VERSION"),
            name,
            broker = broker.join(","),
            config = settings.file().unwrap_or("none"),
            "leveret {role} starts"
        );
        let health = http::Health::new();
        health.check("broker", || Err("not connected yet".to_owned()));
        let shutdown = CancellationToken::new();
        let server = match &settings.http {
            None => None,
            Some(HttpAddress { address }) => {
                let listener = http::bind(address).await?;
                info!(address = %listener.local_addr()?, "serving /live, /ready and /metrics");
                let serving = http::serve(listener, health.clone(), telemetry.registry(), shutdown.clone());
                Some(tokio::spawn(async move {
                    if let Err(error) = serving.await {
                        error!("{}", crate::failure::chain(&error));
                    }
                }))
            }
        };
        systemd::attend(health.clone(), shutdown.clone());
        Ok(Self { health, signals, telemetry, server, shutdown })
    }

    /// Changes what is logged.
    pub(crate) fn log(&self) -> LogFilter {
        self.telemetry.log()
    }

    /// The series behind `/metrics`.
    pub(crate) fn registry(&self) -> prometheus::Registry {
        self.telemetry.registry()
    }

    /// Ends the HTTP server and sends what telemetry is left.
    pub(crate) async fn end(self) {
        systemd::stopping();
        self.shutdown.cancel();
        if let Some(server) = self.server {
            // Its only other end is a panic, which has said what it is already.
            let _ = server.await;
        }
        self.telemetry.shutdown().await;
    }
}

/// Whether a link is up and the broker takes what is published on it.
pub(crate) fn link_ready(link: &Link) -> Result<(), String> {
    match link.state() {
        LinkState::Up(live) => match live.blocked.borrow().as_ref() {
            Some(reason) => Err(format!("the broker has blocked the connection: {reason}")),
            None => Ok(()),
        },
        LinkState::Down(Some(error)) | LinkState::Closed(error) => Err(error.to_string()),
        LinkState::Down(None) => Err("not connected yet".to_owned()),
    }
}

/// Declares the topology on each new connection, for the broker may have lost it; returns only when that fails.
pub(crate) async fn keep_declared(link: &Link, topology: &Topology) -> Failure {
    let pool = ChannelPool::new(link.clone());
    loop {
        let live = match link.live().await {
            Ok(live) => live,
            Err(error) => return error.into(),
        };
        if let Err(error) = declare(&pool, topology).await {
            // A connection that was lost meanwhile is no answer.
            if !live.lost.is_cancelled() {
                return error.into();
            }
        }
        live.lost.cancelled().await;
    }
}
