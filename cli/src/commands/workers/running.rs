//! `leveret workers running` and `cancel`.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use leveret::{
    Clock, QueueName, TaskId,
    common::{
        control::{Answer, Command, Control, ControlError, Outcome, Reply, RunningTask, Target},
        duration,
    },
};
use serde::Serialize;

use super::{Patience, Whom, control, list::age};
use crate::{
    commands::dead::cut,
    failure::{Exit, Failure},
    output::{Report, number, table, write_table},
    session::Session,
};

/// List the tasks that run now
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers running --queue mail")]
pub(super) struct Running {
    /// Only those of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
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
    task: RunningTask,
    ran_ms: u64,
}

#[derive(Debug, Serialize)]
struct Listed {
    tasks: Vec<Row>,
    /// How many run; a worker lists no more than 1,000 of its own.
    total: usize,
}

impl Running {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let control = control(&session).await?;
        let target = self.whom.target().or(self.queue.clone().map(Target::Queue)).unwrap_or(Target::All);
        let replies = send_if_any(&control, &target, &Command::Running { queue: self.queue }, self.patience).await?;
        let now = Clock::system().now();
        let (mut tasks, mut all) = (Vec::new(), 0);
        for reply in replies {
            let Outcome::Answer(Answer::Running { tasks: running, total }) = reply.outcome else { continue };
            all += total;
            tasks.extend(running.into_iter().map(|task| Row {
                worker: reply.worker.clone(),
                instance: reply.instance.to_string(),
                ran_ms: u64::try_from(now.since(task.since).as_millis()).unwrap_or(u64::MAX),
                task,
            }));
        }
        tasks.sort_by_key(|row| row.task.since);
        session.output.report(&Listed { tasks, total: all })?;
        control.link().close().await;
        Ok(Exit::Done)
    }
}

impl Report for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.tasks.is_empty() {
            return writeln!(out, "nothing runs");
        }
        let mut rows = table(["id", "task", "queue", "attempt", "runs for", "progress", "worker"]);
        for Row { worker, task, ran_ms, .. } in &self.tasks {
            let progress = task.progress.as_ref().map_or_else(String::new, |progress| {
                let of = progress.total.map(|total| format!("/{total}")).unwrap_or_default();
                let note = progress.note.as_deref().map(|note| format!(" {}", cut(note, 40))).unwrap_or_default();
                format!("{}{of}{note}", progress.cursor)
            });
            rows.add_row(vec![
                task.id.to_string().into(),
                task.task.as_str().into(),
                task.queue.to_string().into(),
                number(task.attempt),
                number(age(Duration::from_millis(*ran_ms))),
                progress.into(),
                worker.as_str().into(),
            ]);
        }
        write_table(out, &rows)?;
        match self.total.saturating_sub(self.tasks.len()) {
            0 => Ok(()),
            more => writeln!(out, "\nand {more} more"),
        }
    }
}

/// Cancel tasks that run, by id or by name
///
/// The handler is told, and its attempt ends as cancelled. A task that waits in a queue is not affected, unless its id is
/// to be remembered; workers that start later do not know of it, as they do of what `leveret tasks cancel` is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leveret workers cancel 0199-…\n  leveret workers cancel --task mail.send --reason \"wrong list\""
)]
pub(super) struct Cancel {
    /// Ids of tasks
    #[arg(value_name = "ID", required_unless_present = "task")]
    ids: Vec<TaskId>,
    /// Every task of this name
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    task: Option<String>,
    /// Why, for the log and for the handler
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not begin those either that come to these workers within this time
    #[arg(long, value_name = "TIME", value_parser = duration::parse, conflicts_with = "task")]
    remember: Option<Duration>,
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, Serialize)]
struct Cancelled {
    cancelled: usize,
    workers: usize,
    /// Whether the workers remember the tasks that do not run.
    remembered: bool,
}

impl Cancel {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let control = control(&session).await?;
        let target = self.whom.target().unwrap_or(Target::All);
        let command = match self.task {
            Some(task) => Command::CancelAll { task, reason: self.reason },
            None => {
                let remember_ms = self.remember.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1));
                Command::Cancel { ids: self.ids, reason: self.reason, remember_ms, replays: None }
            }
        };
        let replies = send_if_any(&control, &target, &command, self.patience).await?;
        let tasks = replies.iter().map(|reply| match reply.outcome {
            Outcome::Answer(Answer::Cancelled { tasks }) => tasks,
            _ => 0,
        });
        let remembered = self.remember.is_some() && !replies.is_empty();
        let cancelled = Cancelled { cancelled: tasks.sum(), workers: replies.len(), remembered };
        session.output.report(&cancelled)?;
        control.link().close().await;
        Ok(if cancelled.cancelled == 0 && !remembered { Exit::Failed } else { Exit::Done })
    }
}

impl Report for Cancelled {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.cancelled {
            0 if self.remembered => writeln!(out, "remembered by {} workers", self.workers),
            0 => writeln!(out, "no such task runs at the {} workers that have answered", self.workers),
            tasks => writeln!(out, "{tasks} cancelled"),
        }
    }
}

/// Sends a command; that nobody is there is no failure.
async fn send_if_any(
    control: &Control,
    target: &Target,
    command: &Command,
    patience: Patience,
) -> Result<Vec<Reply>, Failure> {
    match control.send(target, command, patience.wait).await {
        Err(ControlError::Nobody { target: Target::All } | ControlError::NoExchange { .. }) => Ok(Vec::new()),
        replies => Ok(replies?),
    }
}
