//! What a centre that runs is asked: how it is, and what it does in the background.

use std::time::Duration;

use clap::Args;
use leveret::common::duration;
use serde_json::{Value, json};

use crate::{
    api::{Fields, Rows, Said, cells, fields, watched},
    failure::{Exit, Failure},
    session::Session,
};

/// Show which version a centre is, as whom it knows us, and which others share its database
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret centre status --watch 2s")]
pub(super) struct Status {
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
        watched(&session.output, self.again.watch, || async {
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
            Ok(Fields { fields: shown, json })
        })
        .await
    }
}

impl Operations {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, _) = session.api()?;
        watched(&session.output, self.again.watch, || async {
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
            Ok(Rows { rows, header, json: json!({ "operations": items }), none: "no operations" })
        })
        .await
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
