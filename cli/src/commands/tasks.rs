//! `leveret tasks`: tasks as a centre knows them.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, Subcommand};
use leveret::common::duration;
use serde_json::{Map, Value, json};

use crate::{
    api::{Fields, Rows, Said, cell, cells, fields, watched},
    commands::Namespace,
    failure::{Exit, Failure},
    session::Session,
};

/// Look at tasks, publish them, and steer them, at a centre
///
/// It asks the centre of `leveret context`, or of --api. `leveret publish` needs no centre: it asks the broker itself.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret tasks list --state dead,failed --watch 2s")]
pub(crate) struct Tasks {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Get(Get),
    Publish(Publish),
    Cancel(Cancel),
    Retry(Retry),
    Reschedule(Reschedule),
}

/// List tasks, the latest first
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret tasks list --queue mail --error 'connection refused'")]
struct List {
    /// In one of these states, with commas between them
    #[arg(long, value_name = "STATES")]
    state: Option<String>,
    /// With this name
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// In this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Of this schedule
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// At this worker
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// With a label of this name, or of this name and value
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Option<String>,
    /// With this text in the error
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// List no more than this many
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// Show it again and again, this far apart, until interrupted
    #[arg(long, value_name = "INTERVAL", value_parser = duration::parse)]
    watch: Option<Duration>,
    #[command(flatten)]
    namespace: Namespace,
}

/// Show a task, with its attempts and its result
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret tasks get 019a1f0e-7a52-7c05-8a3a-2f6a1c1d9f10 --watch 1s")]
struct Get {
    /// The task's id
    id: String,
    /// Show it again and again, this far apart, until interrupted
    #[arg(long, value_name = "INTERVAL", value_parser = duration::parse)]
    watch: Option<Duration>,
}

/// Publish a task, and print its id
#[derive(Debug, Args)]
#[command(
    after_help = "Example: leveret tasks publish mail.send '{\"to\": \"ann@example.com\"}' --queue mail --delay 15m"
)]
struct Publish {
    /// The task's name
    task: String,
    /// Its arguments, as JSON [default: null]
    #[arg(value_name = "JSON", value_parser = json_value)]
    arguments: Option<Value>,
    /// The queue [default: that of its kind, or default]
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Its id: the same id twice is the same task
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Not to run before so much time has gone by
    #[arg(long, value_name = "TIME", value_parser = duration::parse, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Not to run before this moment, in RFC 3339
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Affinity: tasks with the same key belong together
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// AMQP priority
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// How many attempts there may be
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// A name and a value to find it by; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    namespace: Namespace,
}

/// Cancel a task: one that waits does not run, one that runs is told to stop
///
/// One that waits in its queue, or for another attempt, ends when its turn comes: `leveret tasks get` shows that it is to.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret tasks cancel 019a1f0e-7a52-7c05-8a3a-2f6a1c1d9f10")]
struct Cancel {
    /// The task's id
    id: String,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Run a task again that is dead
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret tasks retry 019a1f0e-7a52-7c05-8a3a-2f6a1c1d9f10")]
struct Retry {
    /// The task's id
    id: String,
}

/// Put a task that the centre holds to another time
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret tasks reschedule 019a1f0e-7a52-7c05-8a3a-2f6a1c1d9f10 --delay 2h")]
struct Reschedule {
    /// The task's id
    id: String,
    /// So long from now
    #[arg(long, value_name = "TIME", value_parser = duration::parse, required_unless_present = "at")]
    delay: Option<Duration>,
    /// At this moment, in RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "delay")]
    at: Option<String>,
}

impl Tasks {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        match self.action {
            Action::List(list) => list.run(session).await,
            Action::Get(get) => get.run(session).await,
            Action::Publish(publish) => publish.run(session).await,
            Action::Cancel(Cancel { id, reason }) => {
                let (api, _) = session.api()?;
                let json: Value = api.post(&["tasks", &id, "cancel"], &[], &json!({ "reason": reason })).await?;
                let text = match cell(&json, "/was").as_str() {
                    "running" => format!("the task {id} is told to stop"),
                    "waiting" => format!("the task {id} is cancelled when its turn comes"),
                    _ => format!("the task {id} is cancelled"),
                };
                session.output.report(&Said { json, text })?;
                Ok(Exit::Done)
            }
            Action::Retry(Retry { id }) => {
                let (api, _) = session.api()?;
                let json: Value = api.post(&["tasks", &id, "retry"], &[], &json!({})).await?;
                let text = format!("the task {id} goes back to {}", cell(&json, "/queue"));
                session.output.report(&Said { json, text })?;
                Ok(Exit::Done)
            }
            Action::Reschedule(Reschedule { id, delay, at }) => {
                let (api, _) = session.api()?;
                let body = without_nulls(json!({ "delay": delay.map(duration::format), "at": at }));
                let json: Value = api.post(&["tasks", &id, "reschedule"], &[], &body).await?;
                let text = format!("the task {id} runs at {}", cell(&json, "/due_at"));
                session.output.report(&Said { json, text })?;
                Ok(Exit::Done)
            }
        }
    }
}

impl List {
    async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, namespace) = session.api()?;
        let mut query = self.namespace.query(namespace);
        let conditions = [
            ("state", self.state),
            ("task", self.task),
            ("queue", self.queue),
            ("schedule", self.schedule),
            ("worker", self.worker),
            ("label", self.label),
            ("error", self.error),
        ];
        query.extend(conditions.into_iter().filter_map(|(name, value)| Some((name, value?))));
        watched(&session.output, self.watch, || async {
            let (items, more) = api.list::<Value>(&["tasks"], &query, self.limit).await?;
            let pointers =
                ["/id", "/task", "/queue", "/state", "/attempt", "/worker", "/created_at", "/ended_at", "/error"];
            let header = ["id", "task", "queue", "state", "attempt", "worker", "created", "ended", "error"];
            let row = |item| {
                let mut row = cells(item, pointers);
                row[8] = row[8].lines().next().unwrap_or_default().chars().take(60).collect();
                row
            };
            let rows = items.iter().map(row).collect();
            if more && self.watch.is_none() {
                session.output.remark("there are more: raise --limit");
            }
            Ok(Rows { rows, header, json: json!({ "tasks": items }), none: "no tasks" })
        })
        .await
    }
}

impl Get {
    async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, _) = session.api()?;
        watched(&session.output, self.watch, || async {
            let json: Value = api.get(&["tasks", &self.id], &[]).await?;
            let mut shown = fields(
                &json,
                &[
                    ("id", "/id"),
                    ("namespace", "/namespace"),
                    ("task", "/task"),
                    ("queue", "/queue"),
                    ("state", "/state"),
                    ("attempt", "/attempt"),
                    ("worker", "/worker"),
                    ("schedule", "/schedule"),
                    ("labels", "/labels"),
                    ("created", "/created_at"),
                    ("due", "/due_at"),
                    ("started", "/started_at"),
                    ("ended", "/ended_at"),
                    ("waited ms", "/waited_ms"),
                    ("ran ms", "/ran_ms"),
                    ("progress", "/progress"),
                    ("result", "/result"),
                    ("reason", "/reason"),
                    ("error", "/error"),
                    ("cancel requested", "/cancel_requested_at"),
                    ("cancel reason", "/cancel_reason"),
                    ("trace id", "/trace_id"),
                ],
            );
            let attempts = json["attempts"].as_array().into_iter().flatten().map(|attempt| {
                cells(attempt, ["/attempt", "/state", "/worker", "/started_at", "/ended_at", "/error"]).join("  ")
            });
            shown.push(("attempts", attempts.collect::<Vec<_>>().join("\n")));
            shown.retain(|(_, value)| !value.is_empty() && value != "{}");
            Ok(Fields { json, fields: shown })
        })
        .await
    }
}

impl Publish {
    async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, namespace) = session.api()?;
        let body = without_nulls(json!({
            "task": self.task,
            "queue": self.queue,
            "id": self.id,
            "delay": self.delay.map(duration::format),
            "at": self.at,
            "key": self.key,
            "priority": self.priority,
            "max_attempts": self.max_attempts,
            "labels": BTreeMap::from_iter(self.label),
        }));
        let mut body = body;
        body.extend(self.arguments.map(|arguments| ("arguments".to_owned(), arguments)));
        let json: Value = api.post(&["tasks"], &self.namespace.query(namespace), &body).await?;
        session.output.report(&Said { text: cell(&json, "/id"), json })?;
        Ok(Exit::Done)
    }
}

fn without_nulls(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { return Map::new() };
    map.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write a name, =, and a value")?;
    Ok((name.to_owned(), value.to_owned()))
}
