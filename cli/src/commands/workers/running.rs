//! `leveret workers running` and `cancel`.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use leveret::{
    Clock, QueueName, TaskId, UnixMillis,
    common::{
        control::{Answer, Command, Control, ControlError, Outcome, Reply, Target},
        duration,
    },
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Patience, Whom, centre, control,
    shown::{age, read_moment},
};
use crate::{
    api::cell,
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

/// A task that runs, as its worker or a centre says it.
#[derive(Debug, Serialize)]
struct Row {
    worker: String,
    instance: String,
    #[serde(flatten)]
    task: Value,
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
        let target = self.whom.target().or(self.queue.clone().map(Target::Queue)).unwrap_or(Target::All);
        let now = Clock::system().now();
        let mut listed = Listed { tasks: Vec::new(), total: 0 };
        if let Some(api) = session.centre()? {
            for (worker, instance, answer) in centre::running(&api, &target).await? {
                let meant = |task: &Value| self.queue.as_ref().is_none_or(|queue| task["queue"] == queue.as_str());
                let tasks = answer["tasks"].as_array().into_iter().flatten().filter(|task| meant(task));
                let tasks: Vec<_> = tasks.map(|task| Row::new(&worker, &instance, task.clone(), now)).collect();
                // A centre counts those of all queues.
                let total = answer["total"].as_u64().filter(|_| self.queue.is_none());
                listed.total += total.and_then(|total| usize::try_from(total).ok()).unwrap_or(tasks.len());
                listed.tasks.extend(tasks);
            }
        } else {
            let control = control(&session).await?;
            let command = Command::Running { queue: self.queue };
            for reply in send_if_any(&control, &target, &command, self.patience).await? {
                let Outcome::Answer(Answer::Running { tasks, total }) = reply.outcome else { continue };
                listed.total += total;
                for task in tasks {
                    let task = serde_json::to_value(task)?;
                    listed.tasks.push(Row::new(&reply.worker, &reply.instance.to_string(), task, now));
                }
            }
            control.link().close().await;
        }
        listed.tasks.sort_by_key(|row| std::cmp::Reverse(row.ran_ms));
        session.output.report(&listed)?;
        Ok(Exit::Done)
    }
}

impl Row {
    fn new(worker: &str, instance: &str, task: Value, now: UnixMillis) -> Self {
        let ran = read_moment(&task["since"]).map(|since| now.since(since)).unwrap_or_default();
        let ran_ms = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
        Self { worker: worker.to_owned(), instance: instance.to_owned(), task, ran_ms }
    }
}

impl Report for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.tasks.is_empty() {
            return writeln!(out, "nothing runs");
        }
        let mut rows = table(["id", "task", "queue", "attempt", "runs for", "progress", "worker"]);
        for Row { worker, task, ran_ms, .. } in &self.tasks {
            let progress =
                task.get("progress").filter(|progress| progress.is_object()).map_or_else(String::new, |progress| {
                    let of = progress["total"].as_u64().map(|total| format!("/{total}")).unwrap_or_default();
                    let note = progress["note"].as_str().map(|note| format!(" {}", cut(note, 40))).unwrap_or_default();
                    format!("{}{of}{note}", progress["cursor"])
                });
            rows.add_row(vec![
                cell(task, "/id").into(),
                cell(task, "/task").into(),
                cell(task, "/queue").into(),
                number(cell(task, "/attempt")),
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
        session.without_centre("`workers cancel` (there is `tasks cancel`)")?;
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
pub(super) async fn send_if_any(
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
