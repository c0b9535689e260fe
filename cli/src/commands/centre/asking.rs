//! What a centre that runs is asked: how it is, its queues, workers and operations.

use std::time::Duration;

use clap::Args;
use leveret::common::duration;
use serde_json::{Value, json};

use crate::{
    api::{Fields, Rows, Said, again, cell, cells, fields},
    failure::{Exit, Failure},
    session::Session,
};

/// Show which version a centre is, as whom it knows us, and which others share its database
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret centre status")]
pub(super) struct Status {}

/// Show how many messages wait in each queue, and how fast it goes, as a centre sees it
///
/// `leveret queues` asks the broker itself.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret centre queues --watch 2s")]
pub(super) struct Queues {
    #[command(flatten)]
    again: Again,
}

/// List the workers that a centre knows
///
/// `leveret workers` asks the broker itself, and steers them.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret centre workers --watch 2s")]
pub(super) struct Workers {
    #[command(flatten)]
    again: Again,
}

/// List replays and purges of dead letters, and how far they are
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret centre operations --watch 1s")]
pub(super) struct Operations {
    /// List no more than this many, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    again: Again,
}

/// Call an operation off: what was done by then stays done
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret centre cancel 019a1f0e-7a52-7c05-8a3a-2f6a1c1d9f10")]
pub(super) struct Cancel {
    /// Its id, as `leveret centre operations` shows it
    id: String,
}

#[derive(Debug, Args)]
struct Again {
    /// Show it again and again, this far apart, until interrupted
    #[arg(long, value_name = "INTERVAL", value_parser = duration::parse)]
    watch: Option<Duration>,
}

impl Status {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, _) = session.api()?;
        let version: Value = api.get(&["version"], &[]).await?;
        let token: Value = api.get(&["token"], &[]).await?;
        let (centres, _) = api.list::<Value>(&["centres"], &[], usize::MAX).await?;
        let alive = centres.iter().map(|centre| {
            let [name, version, shards, address] = cells(centre, ["/name", "/version", "/shards", "/address"]);
            format!("{name}  {version}  {shards} of the schedules' parts  {address}")
        });
        let alive = alive.collect::<Vec<_>>().join("\n");
        let json = json!({ "centre": version, "token": token, "centres": centres });
        let names = [
            ("version", "/centre/version"),
            ("database", "/centre/database"),
            ("token", "/token/name"),
            ("role", "/token/role"),
            ("namespace", "/token/namespace"),
        ];
        let mut shown = fields(&json, &names);
        shown.push(("centres", alive));
        session.output.report(&Fields { fields: shown, json })?;
        Ok(Exit::Done)
    }
}

impl Queues {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, _) = session.api()?;
        loop {
            let json: Value = api.get(&["queues"], &[]).await?;
            let header = [
                "queue",
                "ready",
                "in hand",
                "delayed",
                "dead",
                "consumers",
                "workers",
                "in/s",
                "done/s",
                "growth/s",
                "paused",
            ];
            let row = |item: &Value| {
                let [queue, ready, hand, delayed, dead, consumers, workers, paused] = cells(
                    item,
                    ["/queue", "/ready", "/unacknowledged", "/delayed", "/dead", "/consumers", "/workers", "/paused"],
                );
                let rate =
                    |name: &str| item["rates"][name].as_f64().map_or("-".to_owned(), |rate| format!("{rate:.1}"));
                let rates = (rate("published"), rate("acknowledged"), rate("growth"));
                [queue, ready, hand, delayed, dead, consumers, workers, rates.0, rates.1, rates.2, paused]
            };
            let rows = json["items"].as_array().into_iter().flatten().map(row).collect();
            if !again(&session.output, self.again.watch, &Rows { rows, header, json, none: "no queues" }).await? {
                return Ok(Exit::Done);
            }
        }
    }
}

impl Workers {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, _) = session.api()?;
        loop {
            let (items, _) = api.list::<Value>(&["workers"], &[], usize::MAX).await?;
            let row = |item: &Value| {
                let [worker, presence, state, host, heard] =
                    cells(item, ["/worker", "/presence", "/state", "/host", "/heard_at"]);
                let queues = item["queues"].as_array().into_iter().flatten();
                let queues =
                    queues.map(|one| format!("{} {}/{}", cell(one, "/queue"), one["busy"], one["concurrency"]));
                [worker, presence, state, queues.collect::<Vec<_>>().join(", "), host, heard]
            };
            let header = ["worker", "presence", "state", "queues", "host", "heard"];
            let rows = items.iter().map(row).collect();
            let shown = Rows { rows, header, json: json!({ "workers": items }), none: "no workers" };
            if !again(&session.output, self.again.watch, &shown).await? {
                return Ok(Exit::Done);
            }
        }
    }
}

impl Operations {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, _) = session.api()?;
        loop {
            let (items, _) = api.list::<Value>(&["operations"], &[], self.limit).await?;
            let pointers = [
                "/id",
                "/kind",
                "/queue",
                "/state",
                "/done",
                "/seen",
                "/total",
                "/started_by",
                "/created_at",
                "/error",
            ];
            let header = ["id", "kind", "queue", "state", "done", "seen", "total", "by", "begun", "error"];
            let rows = items.iter().map(|item| cells(item, pointers)).collect();
            let shown = Rows { rows, header, json: json!({ "operations": items }), none: "no operations" };
            if !again(&session.output, self.again.watch, &shown).await? {
                return Ok(Exit::Done);
            }
        }
    }
}

impl Cancel {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, _) = session.api()?;
        let json: Value = api.post(&["operations", &self.id, "cancel"], &[], &json!({})).await?;
        session.output.report(&Said { json, text: format!("operation {} is being called off", self.id) })?;
        Ok(Exit::Done)
    }
}
