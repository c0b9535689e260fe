//! Dead letters replayed and purged by a centre, in the background.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use indicatif::ProgressBar;
use leveret::{
    QueueName, Rate,
    producer::centre::operations::{Conditions, Request},
};
use serde_json::Value;

use crate::{
    api::{Api, Said, cell},
    failure::{Exit, Failure},
    session::Session,
};

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// Have a centre send dead letters back to their queue, in the background
///
/// It goes on when this command ends, and when the centre does. `leveret dead replay` does it itself.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret centre replay --queue mail --reason timeout --rate 500/s --wait")]
pub(super) struct Replay {
    #[command(flatten)]
    target: Target,
    /// No faster than this, such as 500/s or 30/min
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
}

/// Have a centre remove dead letters for good, in the background
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret centre purge --queue mail --reason expired")]
pub(super) struct Purge {
    #[command(flatten)]
    target: Target,
}

/// Which ones, and in which queue.
#[derive(Debug, Args)]
struct Target {
    /// Queue whose dead letters are meant
    #[arg(long, value_name = "NAME", required_unless_present = "lost")]
    queue: Option<QueueName>,
    /// The messages that no queue took
    #[arg(long, conflicts_with = "queue")]
    lost: bool,
    /// All of them
    #[arg(long)]
    all: bool,
    /// With this task id; may be given several times
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// Dead for this reason, such as exhausted
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Of the task with this name
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// With this text in the error, capital letters or not
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// At most this many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Wait for its end
    #[arg(long)]
    wait: bool,
}

impl Replay {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        self.target.run(session, "replay", self.rate).await
    }
}

impl Purge {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        self.target.run(session, "purge", None).await
    }
}

impl Target {
    async fn run(self, session: Session, kind: &'static str, rate: Option<Rate>) -> Result<Exit, Failure> {
        let only = Conditions {
            ids: BTreeSet::from_iter(self.id),
            reason: self.reason,
            task: self.task,
            error: self.error,
            ..Conditions::default()
        };
        let request = Request { only, all: self.all, limit: self.limit, rate };
        request.check().map_err(|error| Failure::new(Exit::Usage, error.replace('`', "")))?;
        let (api, _) = session.api()?;
        let queue = self.queue.as_ref().map_or("~lost", QueueName::as_str);
        let begun: Value = api.post(&["queues", queue, "dead", kind], &[], &request).await?;
        let id = cell(&begun, "/id");
        if !self.wait {
            session.output.remark("it has begun: `leveret centre operations` shows how far it is");
            session.output.report(&Said { json: begun, text: id })?;
            return Ok(Exit::Done);
        }
        let bar = session.output.progress(None, kind);
        let ended = wait(&api, &id, &bar).await;
        bar.finish_and_clear();
        let ended = ended?;
        let state = cell(&ended, "/state");
        let why = ended["error"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        let text = format!("{state}: {} of {} were moved or removed{why}", ended["done"], cell(&ended, "/total"));
        let exit = if state == "done" { Exit::Done } else { Exit::Failed };
        session.output.report(&Said { json: ended, text })?;
        Ok(exit)
    }
}

async fn wait(api: &Api, id: &str, bar: &ProgressBar) -> Result<Value, Failure> {
    loop {
        let operation: Value = api.get(&["operations", id], &[]).await?;
        bar.set_position(operation["seen"].as_u64().unwrap_or_default());
        if operation["state"] != "running" {
            return Ok(operation);
        }
        tokio::time::sleep(LOOK).await;
    }
}
