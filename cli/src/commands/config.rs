//! `leveret config`: is the configuration right, and what does it come to.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use leveret::{
    BrokerUrl,
    common::{duration, telemetry},
    worker::exec::{CommandLine, ExecSettings, NamedValues},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    failure::{Exit, Failure},
    output::Report,
    session::Session,
    settings::{Settings, WorkerSettings, without_user},
};

/// Check the configuration, or show what it comes to
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret config check")]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether the configuration is right; if not, which line is wrong and what to write (exit code 64)
    #[command(after_help = "Example: leveret config check --config /etc/leveret.toml")]
    Check,
    /// Print the configuration with all defaults, secrets left out, as JSON
    #[command(after_help = "Example: leveret config show")]
    Show,
}

impl Config {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let settings = session.settings()?;
        settings.check_tasks()?;
        settings.check_schedules()?;
        let schedules = settings.schedules.iter().filter(|(_, schedule)| schedule.enabled);
        match self.action {
            Action::Check => {
                // Its settings can be checked in no other way than by using them.
                telemetry::init(&settings.telemetry, &settings.broker.name, "check")
                    .map_err(|error| settings.invalid_telemetry(&error))?;
                session.output.report(&Summary {
                    ok: true,
                    file: settings.file().map(str::to_owned),
                    broker: settings.broker.url.clone(),
                    queues: settings.topology()?.work_queues().map(|(name, _)| name.to_string()).collect(),
                    tasks: settings.tasks.keys().cloned().collect(),
                    schedules: schedules.map(|(name, _)| name.clone()).collect(),
                })?;
            }
            Action::Show => session.output.report(&Effective(effective(&settings)))?,
        }
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Summary {
    ok: bool,
    file: Option<String>,
    broker: Vec<BrokerUrl>,
    queues: Vec<String>,
    tasks: Vec<String>,
    schedules: Vec<String>,
}

impl Report for Summary {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.file {
            Some(file) => writeln!(out, "{file} is right")?,
            None => writeln!(out, "there is no leveret.toml here: the defaults hold")?,
        }
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let broker: Vec<_> = self.broker.iter().map(ToString::to_string).collect();
        writeln!(out, "broker     {}", broker.join(", "))?;
        writeln!(out, "queues     {}", list(&self.queues))?;
        writeln!(out, "tasks      {}", list(&self.tasks))?;
        writeln!(out, "schedules  {}", list(&self.schedules))
    }
}

/// The settings with all defaults. Its text is its JSON: TOML has no way to show a value that is not set.
#[derive(Serialize)]
#[serde(transparent)]
struct Effective(Value);

impl Report for Effective {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{:#}", self.0)
    }
}

fn effective(settings: &Settings) -> Value {
    let mut telemetry = json!(settings.telemetry);
    if let Some(otlp) = telemetry["otlp"].as_str() {
        telemetry["otlp"] = json!(without_user(otlp));
    }
    json!({
        "broker": settings.broker,
        "queues": settings.queues,
        "limits": settings.limits,
        "worker": settings.worker,
        "tasks": settings.tasks.iter().map(|(name, task)| (name.clone(), effective_task(task, &settings.worker))).collect::<Map<_, _>>(),
        "schedules": settings.schedules,
        "centre": settings.centre,
        "telemetry": telemetry,
        "http": settings.http,
    })
}

fn effective_task(task: &ExecSettings, worker: &WorkerSettings) -> Value {
    let mut shown = json!({
        "queue": task.queue,
        "timeout": duration::format(task.timeout.unwrap_or(worker.timeout)),
        "retries": task.retries.unwrap_or(worker.retries),
        "backoff": task.backoff.unwrap_or(worker.backoff),
        "give_up_after": task.give_up_after.or(worker.give_up_after).map(duration::format),
        "output_limit": task.output_limit,
    });
    if let Some(command) = &task.command {
        shown["command"] = match command {
            CommandLine::Program(line) => json!(line),
            CommandLine::Shell(text) => json!(text),
            _ => Value::Null,
        };
        shown["directory"] = json!(task.directory);
        shown["environment"] = redacted(&task.environment);
        shown["inherit_environment"] = json!(task.inherit_environment.unwrap_or(true));
        shown["permanent_exit_codes"] = json!(task.permanent_exit_codes.as_deref().unwrap_or(&[64, 65]));
        shown["grace"] = json!(duration::format(task.grace.unwrap_or(std::time::Duration::from_secs(5))));
    }
    if let Some(http) = &task.http {
        shown["http"] = json!({
            "url": without_user(&http.url),
            "method": http.method,
            "headers": redacted(&http.headers),
        });
    }
    shown
}

/// The names; the values may be secret.
fn redacted(values: &NamedValues) -> Value {
    values.iter().map(|(name, _)| (name.to_owned(), json!("***"))).collect::<Map<_, _>>().into()
}
