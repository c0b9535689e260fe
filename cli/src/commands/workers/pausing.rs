//! `leveret workers pause` and `resume`.

use clap::Args;
use leveret::{
    QueueName,
    common::control::{Command, Target},
};

use super::{
    Patience, Whom, centre, control,
    steering::{Done, answered, send},
};
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
        let Self { queue, everywhere, reason, whom, patience } = self;
        if everywhere && let Some(api) = session.centre()? {
            return centre::pause_everywhere(&api, &session, &queue, reason).await;
        }
        if everywhere {
            let control = control(&session).await?;
            let replies = control.pause_everywhere(&queue, reason, patience.wait).await?;
            control.link().close().await;
            return Done::paused(answered(replies)).report(&session.output);
        }
        let target = whom.target().unwrap_or(Target::Queue(queue.clone()));
        let done = send(&session, &target, Command::Pause { queue, reason, by: None }, patience).await?;
        session.output.remark("workers that start later are not paused: see --everywhere");
        Ok(done)
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
        let Self { queue, everywhere, whom, patience } = self;
        if everywhere && let Some(api) = session.centre()? {
            return centre::resume_everywhere(&api, &session, &queue).await;
        }
        if everywhere {
            let control = control(&session).await?;
            let (was_paused, replies) = control.resume_everywhere(&queue, patience.wait).await?;
            control.link().close().await;
            return Done::resumed(was_paused, answered(replies)).report(&session.output);
        }
        let target = whom.target().unwrap_or(Target::Queue(queue.clone()));
        send(&session, &target, Command::Resume { queue }, patience).await
    }
}
