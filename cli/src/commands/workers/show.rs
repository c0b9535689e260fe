//! `leveret workers show`.

use clap::Args;
use leveret::common::control::{Answer, Command, Outcome, Target};
use serde_json::Value;

use super::{Patience, centre, control, shown::Whole};
use crate::{
    failure::{Exit, Failure},
    session::Session,
};

/// Show all that workers say about themselves: queues, tasks, and the JSON Schemas of their arguments
///
/// A centre shows how many attempts have ended, and no schemas.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers show mail-1")]
pub(super) struct Show {
    /// Name of workers, or an instance
    #[arg(value_name = "NAME|INSTANCE")]
    whom: String,
    #[command(flatten)]
    patience: Patience,
}

impl Show {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let target = self.whom.parse().map_or(Target::Worker(self.whom), Target::Instance);
        if let Some(api) = session.centre()? {
            session.output.report(&Whole { workers: centre::whole(&api, &target).await? })?;
            return Ok(Exit::Done);
        }
        let control = control(&session).await?;
        let replies = control.send(&target, &Command::Announce {}, self.patience.wait).await?;
        let workers = replies.into_iter().filter_map(|reply| match reply.outcome {
            Outcome::Answer(Answer::Announcement(announcement)) => Some(serde_json::to_value(announcement)),
            _ => None,
        });
        let workers: Vec<Value> = workers.collect::<Result<_, _>>()?;
        if workers.is_empty() {
            return Err(Failure::new(Exit::NoAnswer, "it is there, but has not answered: give it longer with --wait"));
        }
        session.output.report(&Whole { workers })?;
        control.link().close().await;
        Ok(Exit::Done)
    }
}
