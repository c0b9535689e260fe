//! `leveret worker`: runs the tasks of `[tasks]` until it is told to stop.

use std::{collections::BTreeMap, pin::pin};

use clap::Args;
use leveret::{
    PoolOptions, QueueName, QueueOptions,
    layer::Once,
    worker::control::{ControlSettings, LogControl},
};
use tracing::{info, warn};

use crate::{
    failure::{Exit, Failure},
    service::{Service, ServiceArguments},
    session::Session,
    settings::{DEFAULT_FILE, Settings},
    systemd,
};

/// Run the tasks of leveret.toml: each as a command or an HTTP call
///
/// SIGTERM and SIGINT end it with exit code 0: it begins no more tasks, gives those that run the grace period to
/// finish, and gives back what it has not begun. A second signal gives back what still runs, and ends it at once.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret worker --queue images=2 --queue mail=16 --http 127.0.0.1:9464")]
pub(crate) struct Worker {
    /// Consume from this queue, N tasks at once; may be repeated [default: `[worker] queues`, or the queues of the
    /// tasks]
    #[arg(long = "queue", value_name = "NAME[=N]", value_parser = parse_queue)]
    queues: Vec<(QueueName, Option<usize>)>,
    /// Tasks that run at once per queue; overrides the file
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    #[command(flatten)]
    service: ServiceArguments,
}

impl Worker {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let mut settings = session.settings()?;
        let queues = self.queues(&settings)?;
        self.service.apply(&session, &mut settings);
        // Queues that are named on the command line are all that it is to consume from.
        let with_pools = self.queues.is_empty();
        let once = match &settings.worker.once {
            Some(once) => Some(once.layer().await?),
            None => None,
        };
        let worker = build(&settings, queues, with_pools, once)?;
        let name = worker_name(&settings).to_owned();
        let mut service = Service::start(&settings, &name, "worker").await?;
        let log = service.log();
        let control = ControlSettings::default()
            .log(LogControl::new(move |filter| log.set(filter).map_err(|error| crate::failure::chain(&error))));
        let worker = worker.control(control);
        // It waits for a broker that does not answer yet, and each attempt is logged.
        let started = tokio::select! {
            started = worker.start() => started,
            signal = service.signals.next() => {
                info!(signal, "stopped before the broker answered");
                service.end().await;
                return Ok(Exit::Done);
            }
        };
        let running = match started {
            Ok(running) => running,
            Err(error) => {
                service.end().await;
                return Err(error.into());
            }
        };
        let health = running.health();
        let live = health.clone();
        service.health.check("broker", move || health.ready());
        service.health.live_check("consumers", move || live.live());
        let stopper = running.stopper();
        let mut ended = pin!(running.wait());
        let mut asked = false;
        loop {
            tokio::select! {
                () = &mut ended => break,
                signal = service.signals.next() => {
                    systemd::stopping();
                    if asked {
                        warn!(signal, "stopping now");
                        stopper.stop_now();
                    } else {
                        info!(signal, "asked to stop; the next signal stops at once");
                        stopper.stop();
                    }
                    asked = true;
                }
            }
        }
        service.end().await;
        Ok(Exit::Done)
    }

    /// Which queues to consume from, and how many tasks at once.
    fn queues(&self, settings: &Settings) -> Result<BTreeMap<QueueName, usize>, Failure> {
        let concurrency = self.concurrency.unwrap_or(settings.worker.concurrency);
        if !self.queues.is_empty() {
            return Ok(self.queues.iter().map(|(name, n)| (name.clone(), n.unwrap_or(concurrency))).collect());
        }
        if !settings.worker.queues.is_empty() || !settings.worker.pools.is_empty() {
            let queues = settings.worker.queues.iter();
            return Ok(queues.map(|(name, n)| (name.clone(), self.concurrency.unwrap_or(*n))).collect());
        }
        Ok(settings.task_queues()?.into_iter().map(|name| (name, concurrency)).collect())
    }
}

fn worker_name(settings: &Settings) -> &str {
    settings.worker.name.as_deref().unwrap_or(&settings.broker.name)
}

fn build(
    settings: &Settings,
    queues: BTreeMap<QueueName, usize>,
    with_pools: bool,
    once: Option<Once>,
) -> Result<leveret::Worker, Failure> {
    if settings.tasks.is_empty() {
        let file = settings.file().unwrap_or(DEFAULT_FILE);
        return Err(Failure::new(
            Exit::Config,
            format!("{file}: there is no task to run: add one, such as [tasks.\"hello\"] with command = [\"cat\"]"),
        ));
    }
    settings.check_tasks()?;
    let mut builder = leveret::Worker::builder(settings.broker.clone())
        .name(worker_name(settings))
        .policy(settings.worker.policy())
        .grace(settings.worker.grace)
        .weight(settings.worker.weight);
    for (name, concurrency) in queues {
        let mut options = QueueOptions::concurrency(concurrency).settings(settings.queue(&name));
        options.prefetch = settings.worker.prefetch;
        builder = builder.queue(name.as_str(), options);
    }
    for pool in settings.worker.pools.values().filter(|_| with_pools) {
        let mut options = PoolOptions::concurrency(pool.concurrency);
        for (name, weight) in &pool.queues {
            let mut queue = QueueOptions::concurrency(pool.concurrency).settings(settings.queue(name));
            queue.prefetch = settings.worker.prefetch;
            options = options.queue_with(name.as_str(), *weight, queue);
        }
        builder = builder.pool(options);
    }
    if let Some(once) = once {
        builder = builder.layer(once);
    }
    for (name, limit) in &settings.limits {
        builder = builder.limit(name.as_str(), limit.clone());
    }
    for (name, task) in &settings.tasks {
        builder = builder.exec(name, task).map_err(|error| settings.invalid(&["tasks", name], error))?;
    }
    Ok(builder.build()?)
}

fn parse_queue(text: &str) -> Result<(QueueName, Option<usize>), String> {
    let (name, concurrency) = match text.split_once('=') {
        Some((name, n)) => {
            let n = n.parse().ok().filter(|n| (1..=65_535).contains(n));
            (name, Some(n.ok_or("write the number of tasks at once, 1 to 65535, after the =")?))
        }
        None => (text, None),
    };
    Ok((QueueName::new(name).map_err(|error| error.to_string())?, concurrency))
}
