//! `leveret producer`: publishes the tasks of `[schedules]` by the clock until it is told to stop.

use clap::Args;
use leveret::{Client, Clock, QueueName, Topology};
use tracing::{info, warn};

use crate::{
    failure::{Exit, Failure},
    service::{Service, ServiceArguments, keep_declared, link_ready},
    session::Session,
    settings::{DEFAULT_FILE, InvalidConfig, Settings},
    systemd,
};

/// Publish the tasks of the schedules in leveret.toml, each at its time
///
/// It declares the queues that its schedules publish to. SIGTERM and SIGINT end it with exit code 0, after the broker
/// has confirmed what is on its way. A second signal ends it at once.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret producer --http 127.0.0.1:9465")]
pub(crate) struct Producer {
    #[command(flatten)]
    service: ServiceArguments,
}

impl Producer {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let mut settings = session.settings()?;
        self.service.apply(&session, &mut settings);
        let schedules = settings.enabled_schedules()?;
        if schedules.is_empty() {
            let file = settings.file().unwrap_or(DEFAULT_FILE);
            return Err(Failure::new(
                Exit::Config,
                format!(
                    "{file}: there is no schedule to run: add one, such as [schedules.hourly] with cron = \"0 * * * *\" \
                     and task = \"hello\""
                ),
            ));
        }
        let topology = topology(&settings)?;
        let mut service = Service::start(&settings, &settings.broker.name, "producer").await?;
        let client = Client::open(settings.broker.clone(), Clock::system())?;
        let link = client.link().clone();
        service.health.check("broker", move || link_ready(&link));
        // The clock is watched from now on: what is due before the broker answers waits for it.
        let running = leveret::Producer::new(schedules, client.clone(), Clock::system()).start();
        let failed = tokio::select! {
            failure = keep_declared(client.link(), &topology) => Some(failure),
            signal = service.signals.next() => {
                info!(signal, "asked to stop; the next signal stops at once");
                None
            }
        };
        systemd::stopping();
        let stopping = async {
            let stats = running.stop().await;
            // The producer has waited for its confirms. Without a broker there is nobody to say goodbye to.
            if link_ready(client.link()).is_ok() {
                client.close().await;
            }
            let (published, given_up, waiting) = (stats.published, stats.given_up, stats.waiting);
            info!(published, given_up, waiting, "stopped");
        };
        tokio::select! {
            () = stopping => {}
            signal = service.signals.next() => warn!(signal, "stopping now"),
        }
        service.end().await;
        failed.map_or(Ok(Exit::Done), Err)
    }
}

/// The queues that the schedules publish to.
fn topology(settings: &Settings) -> Result<Topology, InvalidConfig> {
    let queues = settings.schedules.values().filter(|schedule| schedule.enabled);
    settings.topology_of(queues.filter_map(|schedule| QueueName::new(&schedule.queue).ok()))
}
