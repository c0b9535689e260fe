//! `leveret workers pause` and `resume`.

use clap::Args;
use leveret::{
    QueueName,
    common::control::{Command, Target},
};

use super::{Patience, Whom, control, steering::Done};
use crate::{
    failure::{Exit, Failure},
    session::Session,
};

/// Let workers take no more tasks from a queue
///
/// What runs goes on, what waits stays in the queue. Without --everywhere it holds for the workers that run now, until
/// they are restarted. With it the broker keeps it: it holds for workers that start later as well, until the queue is
/// resumed everywhere.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers pause mail --everywhere --reason \"mail server is down\"")]
pub(super) struct Pause {
    queue: QueueName,
    /// At every worker, and until resumed
    #[arg(long, conflicts_with_all = ["worker", "instance"])]
    everywhere: bool,
    /// Why, for whoever wonders
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    patience: Patience,
}

impl Pause {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let control = control(&session).await?;
        if self.everywhere {
            let replies = control.pause_everywhere(&self.queue, self.reason, self.patience.wait).await?;
            let done = Done::everywhere("pause", replies, "paused everywhere, until it is resumed");
            return done.report(&session, &control).await;
        }
        let by = Some(control.name());
        let target = self.whom.target().unwrap_or(Target::Queue(self.queue.clone()));
        let command = Command::Pause { queue: self.queue, reason: self.reason, by };
        let replies = control.send(&target, &command, self.patience.wait).await?;
        session.output.remark("workers that start later are not paused: see --everywhere");
        Done::new(&command, replies).report(&session, &control).await
    }
}

/// Let workers take tasks from a queue again
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers resume mail --everywhere")]
pub(super) struct Resume {
    queue: QueueName,
    /// End the pause that holds at every worker
    #[arg(long, conflicts_with_all = ["worker", "instance"])]
    everywhere: bool,
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    patience: Patience,
}

impl Resume {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let control = control(&session).await?;
        if self.everywhere {
            let (was_paused, replies) = control.resume_everywhere(&self.queue, self.patience.wait).await?;
            let text = if was_paused { "resumed everywhere" } else { "was not paused everywhere" };
            return Done::everywhere("resume", replies, text).report(&session, &control).await;
        }
        let target = self.whom.target().unwrap_or(Target::Queue(self.queue.clone()));
        let command = Command::Resume { queue: self.queue };
        let replies = control.send(&target, &command, self.patience.wait).await?;
        Done::new(&command, replies).report(&session, &control).await
    }
}
