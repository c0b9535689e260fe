//! The whole of `leveret.toml`, put together from the settings of the crates.

mod centre;
mod document;
mod once;
mod wording;
mod worker;

use std::{collections::BTreeMap, path::Path};

use leveret::{
    BrokerSettings, QueueName, QueueSettings, Topology,
    common::{
        limit::{LimitName, LimitSettings},
        telemetry::{TelemetryError, TelemetrySettings},
    },
    producer::{
        schedule::Schedule,
        settings::{InvalidSchedule, ScheduleSettings},
    },
    worker::exec::{ExecSettings, Executor},
};
use serde::{Deserialize, Serialize};

pub(crate) use centre::{CentreSettings, ConsulSettings};
pub(crate) use document::{Document, InvalidConfig};
pub(crate) use worker::WorkerSettings;

use crate::arguments::Global;

/// The file that is read when none is named.
pub(crate) const DEFAULT_FILE: &str = "leveret.toml";

/// What `leveret.toml` says, with the defaults for what it leaves out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// `[broker]`: where the broker is and how to talk to it.
    pub(crate) broker: BrokerSettings,
    /// `[queues.<name>]`: queues with other than the default settings.
    pub(crate) queues: BTreeMap<QueueName, QueueSettings>,
    /// `[limits.<name>]`: how many tasks run at once and begin in a time.
    pub(crate) limits: BTreeMap<LimitName, LimitSettings>,
    /// `[worker]`: what `leveret worker` consumes from, and how.
    pub(crate) worker: WorkerSettings,
    /// `[tasks."name"]`: tasks that are run as commands and HTTP calls.
    pub(crate) tasks: BTreeMap<String, ExecSettings>,
    /// `[schedules.<name>]`: tasks that are published by the clock.
    pub(crate) schedules: BTreeMap<String, ScheduleSettings>,
    /// `[centre]`: how `leveret centre` works.
    pub(crate) centre: CentreSettings,
    /// `[telemetry]`: logs, spans, metrics.
    pub(crate) telemetry: TelemetrySettings,
    /// `[http]`: where worker and producer serve `/live`, `/ready` and `/metrics`. Without it they do not.
    pub(crate) http: Option<HttpAddress>,
    /// The text that it comes from.
    #[serde(skip)]
    document: Document,
}

/// The `[http]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpAddress {
    /// Host and port, such as `127.0.0.1:9464`.
    pub(crate) address: String,
}

impl Settings {
    /// Reads the file that the arguments name, or `leveret.toml` if there is one here, and puts the URL of the
    /// arguments over the file's. Tasks and schedules are checked by those who use them.
    pub(crate) fn load(global: &Global) -> Result<Self, InvalidConfig> {
        let document = match &global.config {
            Some(path) => Document::read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => Document::read(Path::new(DEFAULT_FILE))?,
            None => Document::default(),
        };
        let mut settings: Self = document.parse()?;
        settings.document = document;
        if let Some(url) = global.url.as_deref().filter(|url| !url.is_empty()) {
            let url = url.parse().map_err(|error| InvalidConfig::argument("--url (or AMQP_URL)", error))?;
            settings.broker.url = vec![url];
        }
        if settings.broker.name == BrokerSettings::default().name {
            settings.broker.name = instance();
        }
        settings.check()?;
        Ok(settings)
    }

    /// The file, if there is one.
    pub(crate) fn file(&self) -> Option<&str> {
        self.document.file()
    }

    /// An error about the value at `path`, such as `["worker", "concurrency"]`, that says where it is.
    pub(crate) fn invalid(&self, path: &[&str], text: impl std::fmt::Display) -> InvalidConfig {
        self.document.invalid(path, text)
    }

    /// An error about the `[telemetry]` table, whose messages begin with the key in backticks.
    pub(crate) fn invalid_telemetry(&self, error: &TelemetryError) -> InvalidConfig {
        let text = error.to_string();
        let key = text.strip_prefix("`[telemetry] ").and_then(|rest| rest.split_once("` is "));
        match key {
            Some((key, text)) => self.invalid(&["telemetry", key], text),
            None => self.invalid(&["telemetry"], crate::failure::chain(error)),
        }
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        self.broker.check().map_err(|error| {
            let path: Vec<_> = error.key.split('.').collect();
            self.invalid(&path, error.fix)
        })?;
        for (name, queue) in &self.queues {
            queue.check().map_err(|error| self.invalid(&["queues", name.as_str(), error.key], error.fix))?;
        }
        for (name, limit) in &self.limits {
            limit.check().map_err(|error| self.invalid(&["limits", name.as_str()], error))?;
        }
        self.centre.check().map_err(|(path, text)| {
            let path: Vec<_> = ["centre"].into_iter().chain(path).collect();
            self.invalid(&path, text)
        })?;
        self.worker.check().map_err(|(path, text)| {
            let path: Vec<_> = ["worker"].into_iter().chain(path.iter().map(String::as_str)).collect();
            self.invalid(&path, text)
        })
    }

    /// Checks every `[tasks."name"]` table.
    pub(crate) fn check_tasks(&self) -> Result<(), InvalidConfig> {
        self.task_queues()?;
        for (name, task) in &self.tasks {
            let path = ["tasks", name.as_str()];
            if name.is_empty() || name.len() > 255 {
                return Err(self.invalid(&path, "a task's name has 1 to 255 bytes: shorten it"));
            }
            if let Err(error) = Executor::new(task) {
                let text = crate::failure::chain(&error);
                // The messages name the key in backticks, which leads to its line.
                let key = text.split('`').nth(1).filter(|key| self.document.has(&["tasks", name, key]));
                return Err(match key {
                    Some(key) => self.invalid(&["tasks", name, key], &text),
                    None => self.invalid(&path, &text),
                });
            }
        }
        Ok(())
    }

    /// The schedules that are enabled, for the cron producer. Those that are not are checked as well.
    pub(crate) fn enabled_schedules(&self) -> Result<Vec<Schedule>, InvalidConfig> {
        let mut schedules = Vec::new();
        for (name, settings) in &self.schedules {
            let schedule = settings.schedule(name).map_err(|error| self.invalid_schedule(name, &error))?;
            if settings.enabled {
                schedules.push(schedule);
            }
        }
        Ok(schedules)
    }

    /// Checks every `[schedules.<name>]` table as the centre does, which can carry out more than the cron producer.
    pub(crate) fn check_schedules(&self) -> Result<(), InvalidConfig> {
        let mut schedules = self.schedules.iter();
        schedules.try_for_each(|(name, one)| one.check(name).map_err(|error| self.invalid_schedule(name, &error)))
    }

    fn invalid_schedule(&self, name: &str, error: &InvalidSchedule) -> InvalidConfig {
        let table = format!("schedules.{name}");
        let key = error.key.strip_prefix(&table).unwrap_or_default().trim_start_matches('.');
        let path: Vec<_> = ["schedules", name, key].into_iter().filter(|part| !part.is_empty()).collect();
        self.invalid(&path, &error.fix)
    }

    /// The settings of a queue: those of its table, or the defaults.
    pub(crate) fn queue(&self, name: &QueueName) -> QueueSettings {
        self.queues.get(name).cloned().unwrap_or_default()
    }

    /// The queues of the tasks, each as often as there are tasks of it.
    pub(crate) fn task_queues(&self) -> Result<Vec<QueueName>, InvalidConfig> {
        let names = self.tasks.iter().map(|(name, task)| {
            QueueName::new(&task.queue).map_err(|error| self.invalid(&["tasks", name, "queue"], error))
        });
        names.collect()
    }

    /// Every queue that the configuration names, in `[queues]`, `[worker]`, `[tasks]` or `[schedules]`; `default`
    /// when it names none.
    pub(crate) fn topology(&self) -> Result<Topology, InvalidConfig> {
        let mut names: Vec<QueueName> = self.queues.keys().chain(self.worker.queues.keys()).cloned().collect();
        names.extend(self.worker.pools.values().flat_map(|pool| pool.queues.keys()).cloned());
        names.extend(self.task_queues()?);
        for (name, schedule) in &self.schedules {
            let queue = QueueName::new(&schedule.queue);
            names.push(queue.map_err(|error| self.invalid(&["schedules", name, "queue"], error))?);
        }
        if names.is_empty() {
            names.extend(QueueName::new("default"));
        }
        self.topology_of(names)
    }

    /// The topology of these queues.
    pub(crate) fn topology_of(&self, queues: impl IntoIterator<Item = QueueName>) -> Result<Topology, InvalidConfig> {
        let namespace = &self.broker.namespace;
        let empty = Topology::new(namespace).map_err(|error| self.invalid(&["broker", "namespace"], error))?;
        let empty = if self.limits.values().all(|limit| limit.per_worker) { empty } else { empty.limits() };
        Ok(queues.into_iter().fold(empty, |topology, name| {
            let settings = self.queue(&name);
            topology.queue(name, settings)
        }))
    }
}

/// What tells this process from others in the console, in logs and on dead letters: host and process id.
pub(crate) fn instance() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    format!("{}-{}", host.unwrap_or_else(|| "leveret".to_owned()), std::process::id())
}

/// A URL without what lets one in.
pub(crate) fn without_user(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            let _ = url.set_username("***").and_then(|()| url.set_password(None));
            url.into()
        }
        _ => text.to_owned(),
    }
}
