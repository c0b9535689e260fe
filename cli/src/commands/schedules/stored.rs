//! Schedules that a centre has: looked at, steered and removed.

use std::time::Duration;

use clap::Args;
use leveret::common::duration;
use serde_json::{Map, Value, json};

use crate::{
    api::{Api, Fields, Rows, Said, cell, cells, fields, watched},
    commands::Namespace,
    failure::{Exit, Failure},
    session::Session,
};

/// List the schedules of a centre
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret schedules list --label team=billing --watch 2s")]
pub(super) struct List {
    /// With a label of this name, or of this name and value
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Option<String>,
    /// With this text in the name or the definition
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Only those that are paused, or not
    #[arg(long, value_name = "true|false")]
    paused: Option<bool>,
    /// Made by: file or api
    #[arg(long, value_name = "MAKER")]
    source: Option<String>,
    /// List no more than this many
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    limit: usize,
    /// Show it again and again, this far apart, until interrupted
    #[arg(long, value_name = "INTERVAL", value_parser = duration::parse)]
    watch: Option<Duration>,
    #[command(flatten)]
    namespace: Namespace,
}

/// Show a schedule, and when it runs next
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret schedules get nightly")]
pub(super) struct Get {
    #[command(flatten)]
    of: Named,
}

/// What goes behind the question mark.
type Query = Vec<(&'static str, String)>;

/// Which schedule is meant.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The schedule
    name: String,
    #[command(flatten)]
    namespace: Namespace,
}

/// Remove a schedule
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret schedules delete nightly")]
pub(super) struct Delete {
    #[command(flatten)]
    of: Named,
}

/// Pause a schedule: it does not run until it is resumed
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret schedules pause nightly --reason 'the mail server is being moved'")]
pub(super) struct Pause {
    #[command(flatten)]
    of: Named,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Resume a schedule that is paused
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret schedules resume nightly")]
pub(super) struct Resume {
    #[command(flatten)]
    of: Named,
}

/// Run a schedule now, whether it is paused or not
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret schedules run nightly --payload '{\"day\": \"2027-01-01\"}'")]
pub(super) struct RunNow {
    #[command(flatten)]
    of: Named,
    /// Arguments in place of the schedule's, as JSON
    #[arg(long, value_name = "JSON", value_parser = json_value)]
    payload: Option<Value>,
}

/// Run the ticks of a past range, whether they ran or not
#[derive(Debug, Args)]
#[command(
    after_help = "Example: leveret schedules backfill nightly --from 2027-01-01T00:00:00Z --until 2027-01-08T00:00:00Z"
)]
pub(super) struct Backfill {
    #[command(flatten)]
    of: Named,
    /// From this moment on, in RFC 3339
    #[arg(long, value_name = "TIME")]
    from: String,
    /// Up to this moment, in RFC 3339
    #[arg(long, value_name = "TIME")]
    until: String,
    /// At most this many, the oldest
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u32,
}

/// List what was decided about the ticks of a schedule, and what became of them
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret schedules history nightly --limit 20")]
pub(super) struct History {
    #[command(flatten)]
    of: Named,
    /// List no more than this many, the latest first
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// Show it again and again, this far apart, until interrupted
    #[arg(long, value_name = "INTERVAL", value_parser = duration::parse)]
    watch: Option<Duration>,
}

impl List {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, namespace) = session.api()?;
        let mut query = self.namespace.query(namespace);
        query.extend(self.label.map(|label| ("label", label)));
        query.extend(self.text.map(|text| ("text", text)));
        query.extend(self.paused.map(|paused| ("paused", paused.to_string())));
        query.extend(self.source.map(|source| ("source", source)));
        watched(&session.output, self.watch, || async {
            let (items, more) = api.list::<Value>(&["schedules"], &query, self.limit).await?;
            if more && self.watch.is_none() {
                session.output.remark("there are more: raise --limit");
            }
            let rows = items.iter().map(|item| {
                let [namespace, name, task, queue, next, last] = cells(
                    item,
                    ["/namespace", "/name", "/definition/task", "/definition/queue", "/next/due_at", "/last_tick_at"],
                );
                [namespace, name, when(&item["definition"]), task, queue, next, last, state(item)]
            });
            let rows = rows.collect();
            let header = ["namespace", "name", "when", "task", "queue", "next", "last", "state"];
            Ok(Rows { rows, header, json: json!({ "schedules": items }), none: "no schedules" })
        })
        .await
    }
}

/// When it runs, in a few words.
fn when(definition: &Value) -> String {
    let key = ["cron", "quartz", "every", "after", "at"].into_iter().find(|key| definition[key].is_string());
    match key {
        Some("cron" | "quartz") => cell(definition, &format!("/{}", key.unwrap_or_default())),
        Some(key) => format!("{key} {}", cell(definition, &format!("/{key}"))),
        None => "-".to_owned(),
    }
}

fn state(item: &Value) -> String {
    match (item["paused"].as_str(), &item["next"]) {
        (Some(""), _) => "paused".to_owned(),
        (Some(reason), _) => format!("paused: {reason}"),
        (None, _) if item["definition"]["enabled"] == json!(false) => "not enabled".to_owned(),
        (None, Value::Null) => "no next run".to_owned(),
        (None, _) => "waiting".to_owned(),
    }
}

impl Named {
    fn path<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        ["schedules", &self.name].into_iter().chain(more.iter().copied()).collect()
    }

    fn api(&self, session: &Session) -> Result<(Api, Query), Failure> {
        let (api, namespace) = session.api()?;
        Ok((api, self.namespace.query(namespace)))
    }
}

impl Get {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, query) = self.of.api(&session)?;
        let mut schedule: Value = api.get(&self.of.path(&[]), &query).await?;
        let preview: Value = api.get(&self.of.path(&["preview"]), &query).await?;
        let mut shown = fields(&schedule, &[("namespace", "/namespace"), ("name", "/name"), ("source", "/source")]);
        shown.push(("when", when(&schedule["definition"])));
        shown.extend(fields(
            &schedule,
            &[
                ("time zone", "/definition/timezone"),
                ("task", "/definition/task"),
                ("queue", "/definition/queue"),
                ("payload", "/definition/payload"),
                ("overlap", "/definition/overlap"),
                ("missed", "/definition/missed"),
                ("description", "/definition/description"),
            ],
        ));
        shown.push(("state", state(&schedule)));
        shown.extend(fields(
            &schedule,
            &[
                ("ticks", "/ticks"),
                ("runs left", "/runs_left"),
                ("failures", "/failures"),
                ("last tick", "/last_tick_at"),
                ("last success", "/last_success_at"),
                ("revision", "/revision"),
            ],
        ));
        let times = preview["times"].as_array().cloned().unwrap_or_default();
        let left = schedule["runs_left"].as_u64().and_then(|left| usize::try_from(left).ok());
        let times = times.iter().take(left.unwrap_or(usize::MAX));
        shown.push(("next runs", times.map(|time| cell(time, "/local")).collect::<Vec<_>>().join("\n")));
        shown.push(("warnings", cell(&preview, "/warnings")));
        schedule["preview"] = preview;
        session.output.report(&Fields { json: schedule, fields: shown })?;
        Ok(Exit::Done)
    }
}

impl Delete {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, query) = self.of.api(&session)?;
        api.delete(&self.of.path(&[]), &query).await?;
        let text = format!("the schedule {} is removed", self.of.name);
        session.output.report(&Said { json: json!({ "removed": self.of.name }), text })?;
        Ok(Exit::Done)
    }
}

impl Pause {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, query) = self.of.api(&session)?;
        let json = api.post(&self.of.path(&["pause"]), &query, &json!({ "reason": self.reason })).await?;
        session.output.report(&Said { json, text: format!("the schedule {} is paused", self.of.name) })?;
        Ok(Exit::Done)
    }
}

impl Resume {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, query) = self.of.api(&session)?;
        let json: Value = api.post(&self.of.path(&["resume"]), &query, &json!({})).await?;
        let text = format!("the schedule {} is resumed, its next run is {}", self.of.name, cell(&json, "/next/due_at"));
        session.output.report(&Said { json, text })?;
        Ok(Exit::Done)
    }
}

impl RunNow {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, query) = self.of.api(&session)?;
        let mut body = Map::new();
        body.extend(self.payload.map(|payload| ("payload".to_owned(), payload)));
        let json: Value = api.post(&self.of.path(&["run"]), &query, &body).await?;
        session.output.report(&Said { text: cell(&json, "/task_id"), json })?;
        Ok(Exit::Done)
    }
}

impl Backfill {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, query) = self.of.api(&session)?;
        let body = json!({ "from": self.from, "until": self.until, "limit": self.limit });
        let json: Value = api.post(&self.of.path(&["backfill"]), &query, &body).await?;
        let text = format!("{} ticks of {} are to run", cell(&json, "/ticks"), self.of.name);
        session.output.report(&Said { json, text })?;
        Ok(Exit::Done)
    }
}

impl History {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, query) = self.of.api(&session)?;
        watched(&session.output, self.watch, || async {
            let (items, _) = api.list::<Value>(&self.of.path(&["ticks"]), &query, self.limit).await?;
            let pointers =
                ["/scheduled_at", "/kind", "/number", "/state", "/published_at", "/ended_at", "/task_id", "/reason"];
            let header = ["scheduled", "kind", "number", "state", "published", "ended", "task id", "reason"];
            let rows = items.iter().map(|item| cells(item, pointers)).collect();
            Ok(Rows { rows, header, json: json!({ "ticks": items }), none: "no ticks so far" })
        })
        .await
    }
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))
}
