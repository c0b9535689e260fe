//! `leveret workers limits`.

use std::io::{self, Write};

use clap::Args;
use leveret::common::{
    control::{Answer, Command, LimitReport, Outcome, Target},
    limit::Rate,
};
use serde::Serialize;

use super::{Patience, Whom, centre, control, running::send_if_any};
use crate::{
    failure::{Exit, Failure},
    output::{Report, number, table, write_table},
    session::{Session, not_from_centre},
};

/// List the limits that workers keep to, and how much they admit now
///
/// A centre says how many workers agree on each, and who changed it. Workers that do not know the question are left out.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers limits --worker mail-1")]
pub(super) struct Limits {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, Serialize)]
struct Row {
    worker: String,
    instance: String,
    #[serde(flatten)]
    limit: LimitReport,
}

#[derive(Debug, Serialize)]
struct Listed {
    limits: Vec<Row>,
}

impl Limits {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        if let Some(api) = session.centre()? {
            return match self.whom.target() {
                None => centre::limits(&api, &session).await,
                Some(_) => Err(not_from_centre("the limits of some workers alone")),
            };
        }
        let control = control(&session).await?;
        let target = self.whom.target().unwrap_or(Target::All);
        let mut limits = Vec::new();
        for reply in send_if_any(&control, &target, &Command::Limits {}, self.patience).await? {
            let Outcome::Answer(Answer::Limits { limits: known }) = reply.outcome else { continue };
            let (worker, instance) = (reply.worker, reply.instance.to_string());
            limits.extend(known.into_iter().map(|limit| Row {
                worker: worker.clone(),
                instance: instance.clone(),
                limit,
            }));
        }
        limits.sort_by(|one, other| (&one.limit.name, &one.instance).cmp(&(&other.limit.name, &other.instance)));
        session.output.report(&Listed { limits })?;
        control.link().close().await;
        Ok(Exit::Done)
    }
}

impl Report for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.limits.is_empty() {
            return writeln!(out, "no worker that has answered has limits");
        }
        let mut rows = table(["limit", "at once", "rate", "counts", "held", "waiting", "worker"]);
        for Row { worker, limit, .. } in &self.limits {
            let counts = match (limit.per_worker, limit.by_key) {
                (false, false) => "all workers",
                (false, true) => "all workers, by key",
                (true, false) => "this worker",
                (true, true) => "this worker, by key",
            };
            rows.add_row(vec![
                limit.name.as_str().into(),
                number(limit.in_force.concurrency.map_or_else(String::new, |tasks| tasks.to_string())),
                number(limit.in_force.rate.as_ref().map_or_else(String::new, Rate::to_string)),
                counts.into(),
                number(limit.held),
                number(limit.waiting),
                worker.as_str().into(),
            ]);
        }
        write_table(out, &rows)
    }
}
