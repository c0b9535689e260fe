//! `leveret workers show`.

use std::io::{self, Write};

use clap::Args;
use leveret::common::{
    control::{Answer, Command, Outcome, Target},
    registry::Announcement,
};
use serde::Serialize;

use super::{Patience, control, list::age};
use crate::{
    commands::dead::moment,
    failure::{Exit, Failure},
    output::Report,
    session::Session,
};

/// Show all that workers say about themselves: queues, tasks, and the JSON Schemas of their arguments
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers show mail-1")]
pub(super) struct Show {
    /// Name of workers, or an instance
    #[arg(value_name = "NAME|INSTANCE")]
    whom: String,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, Serialize)]
struct Shown {
    workers: Vec<Announcement>,
}

impl Show {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let control = control(&session).await?;
        let target = self.whom.parse().map_or(Target::Worker(self.whom), Target::Instance);
        let replies = control.send(&target, &Command::Announce {}, self.patience.wait).await?;
        let workers = replies.into_iter().filter_map(|reply| match reply.outcome {
            Outcome::Answer(Answer::Announcement(announcement)) => Some(*announcement),
            _ => None,
        });
        let shown = Shown { workers: workers.collect() };
        if shown.workers.is_empty() {
            return Err(Failure::new(Exit::NoAnswer, "it is there, but has not answered: give it longer with --wait"));
        }
        session.output.report(&shown)?;
        control.link().close().await;
        Ok(Exit::Done)
    }
}

impl Report for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for (number, Announcement { beat, about }) in self.workers.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            writeln!(out, "worker    {}", beat.worker)?;
            writeln!(out, "instance  {}", beat.instance)?;
            writeln!(out, "host      {}, process {}", about.host.as_deref().unwrap_or("unknown"), about.pid)?;
            writeln!(out, "version   {}", about.version)?;
            writeln!(out, "started   {}", moment(Some(about.started_at)))?;
            writeln!(out, "state     {}, weight {}", beat.state.as_str(), beat.weight)?;
            for queue in &beat.queues {
                let attached = if queue.attached { "attached" } else { "not attached" };
                let (busy, places, prefetch) = (queue.busy, queue.concurrency, queue.prefetch);
                write!(out, "queue     {}: {busy} of {places} busy, prefetch {prefetch}, {attached}", queue.queue)?;
                if queue.stalled_ms > 0 {
                    let stalled = std::time::Duration::from_millis(queue.stalled_ms);
                    write!(out, ", has taken none for {}", age(stalled))?;
                }
                match &queue.paused {
                    Some(pause) => writeln!(out, ", {pause}")?,
                    None => writeln!(out)?,
                }
            }
            for task in &about.tasks {
                write!(out, "task      {}", task.name)?;
                match &task.schema {
                    Some(schema) => writeln!(out, " {schema}")?,
                    None => writeln!(out)?,
                }
            }
        }
        Ok(())
    }
}
