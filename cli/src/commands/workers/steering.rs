//! The commands of `leveret workers` that are sent and answered, and no more.

use std::io::{self, Write};

use clap::Args;
use leveret::{
    QueueName,
    common::control::{Answer, Command, LimitChange, Outcome, Reply, Target},
};
use serde::{Deserialize, Serialize};

use super::{Patience, Whom, centre, control};
use crate::{
    failure::{Exit, Failure},
    output::{Output, Report},
    session::Session,
};

/// Run so many tasks of a queue at once, until the worker is restarted
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers concurrency mail 32 --worker mail-1")]
pub(super) struct Concurrency {
    queue: QueueName,
    /// Tasks at once at each worker that is meant
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    tasks: u16,
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    patience: Patience,
}

impl Concurrency {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let target = self.whom.target().unwrap_or(Target::Queue(self.queue.clone()));
        send(&session, &target, Command::Concurrency { queue: self.queue, tasks: self.tasks }, self.patience).await
    }
}

/// Change a limit
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leveret workers limit api --rate 100/s\n  leveret workers limit api --reset")]
pub(super) struct Limit {
    /// Name of the limit
    name: String,
    /// Tasks at once
    #[arg(long, value_name = "N", required_unless_present_any = ["rate", "reset"])]
    concurrency: Option<u32>,
    /// Tasks in a time, such as 100/s
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// Back to what the configuration says
    #[arg(long, conflicts_with_all = ["concurrency", "rate"])]
    reset: bool,
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    patience: Patience,
}

impl Limit {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let Self { name, concurrency, rate, reset, .. } = self;
        let change = LimitChange { name, concurrency, rate, reset };
        let target = self.whom.target().unwrap_or(Target::All);
        send(&session, &target, Command::Limit(change), self.patience).await
    }
}

/// Change what workers log, until they are restarted
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers log info,leveret_worker=debug --worker mail-1")]
pub(super) struct Log {
    /// A level, or a list of targets and levels
    #[arg(value_name = "LEVEL")]
    filter: String,
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    patience: Patience,
}

impl Log {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let target = self.whom.target().unwrap_or(Target::All);
        send(&session, &target, Command::Log { filter: self.filter }, self.patience).await
    }
}

/// Whom to stop: that has to be said.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Meant {
    /// Every worker
    #[arg(long)]
    all: bool,
    /// Workers of this name
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// This instance
    #[arg(long, value_name = "UUID")]
    instance: Option<leveret::common::registry::Instance>,
}

impl Meant {
    fn target(self) -> Target {
        let whom = Whom { worker: self.worker, instance: self.instance };
        whom.target().unwrap_or(Target::All)
    }
}

/// Let workers finish what they run, take no more, and stay up
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers drain --worker mail-1")]
pub(super) struct Drain {
    #[command(flatten)]
    meant: Meant,
    #[command(flatten)]
    patience: Patience,
}

impl Drain {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        send(&session, &self.meant.target(), Command::Drain {}, self.patience).await
    }
}

/// Stop workers as SIGTERM does: they finish what they run within their grace period, and end
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers stop --all")]
pub(super) struct Stop {
    #[command(flatten)]
    meant: Meant,
    #[command(flatten)]
    patience: Patience,
}

impl Stop {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        send(&session, &self.meant.target(), Command::Stop {}, self.patience).await
    }
}

/// See which workers answer
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers ping --wait 3s")]
pub(super) struct Ping {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    patience: Patience,
}

impl Ping {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        send(&session, &self.whom.target().unwrap_or(Target::All), Command::Ping {}, self.patience).await
    }
}

/// Tells workers something: over the broker, or where a centre is named over that.
pub(super) async fn send(
    session: &Session,
    target: &Target,
    mut command: Command,
    patience: Patience,
) -> Result<Exit, Failure> {
    if let Some(api) = session.centre()? {
        return centre::send(&api, session, target, command).await;
    }
    let control = control(session).await?;
    if let Command::Pause { by, .. } = &mut command {
        *by = Some(control.name());
    }
    let replies = control.send(target, &command, patience.wait).await?;
    control.link().close().await;
    Done { command: command.name(), replies: answered(replies), result: None }.report(&session.output)
}

/// What a worker made of a command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Steered {
    pub(super) worker: String,
    pub(super) instance: String,
    /// Why it was not carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
    /// What there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// The same of replies that came over the broker.
pub(super) fn answered(replies: Vec<Reply>) -> Vec<Steered> {
    let steered = |reply: Reply| {
        let (refused, note) = match reply.outcome {
            Outcome::Refused(refusal) => (Some(refusal.to_string()), None),
            Outcome::Answer(Answer::StillPaused { pause }) => (None, Some(format!("still {pause}"))),
            Outcome::Answer(_) => (None, None),
        };
        Steered { worker: reply.worker, instance: reply.instance.to_string(), refused, note }
    };
    replies.into_iter().map(steered).collect()
}

/// What came of a command.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    pub(super) command: &'static str,
    pub(super) replies: Vec<Steered>,
    /// What is so whether workers have answered or not, for the broker keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<&'static str>,
}

impl Done {
    /// A queue is paused everywhere.
    pub(super) fn paused(replies: Vec<Steered>) -> Self {
        Self { command: "pause", replies, result: Some("paused everywhere, until it is resumed") }
    }

    /// And is not any more.
    pub(super) fn resumed(was_paused: bool, replies: Vec<Steered>) -> Self {
        let result = if was_paused { "resumed everywhere" } else { "was not paused everywhere" };
        Self { command: "resume", replies, result: Some(result) }
    }

    /// Prints it. The exit code says whether everyone who answered has done it.
    pub(super) fn report(self, output: &Output) -> Result<Exit, Failure> {
        output.report(&self)?;
        let refused = self.replies.iter().any(|reply| reply.refused.is_some());
        Ok(match (refused, self.replies.is_empty() && self.result.is_none()) {
            (true, _) => Exit::Failed,
            (false, true) => Exit::NoAnswer,
            (false, false) => Exit::Done,
        })
    }
}

impl Report for Done {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(result) = self.result {
            writeln!(out, "{result}")?;
        } else if self.replies.is_empty() {
            writeln!(out, "no worker has answered in time")?;
        }
        for Steered { worker, instance, refused, note } in &self.replies {
            match (refused, note) {
                (Some(why), _) => writeln!(out, "{worker} {instance}  refused: {why}")?,
                (None, Some(note)) => writeln!(out, "{worker} {instance}  {note}")?,
                (None, None) => writeln!(out, "{worker} {instance}  ok")?,
            }
        }
        Ok(())
    }
}
