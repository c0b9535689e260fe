//! `leveret dead list`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use clap::Args;
use leveret::{UnixMillis, common::dead_letters::DeadLetter};
use serde::Serialize;

use super::{Places, cut, moment, selecting::Conditions, stopped_by_signal};
use crate::{
    failure::{Exit, Failure},
    output::{Report, number, table, write_table},
    session::Session,
};

/// List dead letters
///
/// Changes nothing. While it looks, nobody else can see what it has in hand.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leveret dead list --group\n  leveret dead list --queue mail --reason timeout --json"
)]
pub(super) struct List {
    #[command(flatten)]
    places: Places,
    /// Count what is alike, by queue, task, reason and error
    #[arg(long)]
    group: bool,
    /// List no more than this many of each queue; 0 is all
    #[arg(long, value_name = "COUNT", default_value_t = 100, conflicts_with = "group")]
    limit: u64,
    #[command(flatten)]
    conditions: Conditions,
}

#[derive(Debug, Serialize)]
struct Row {
    queue: String,
    id: Option<String>,
    task: String,
    reason: String,
    error_kind: Option<String>,
    error: Option<String>,
    attempt: u32,
    first_failed_at: Option<UnixMillis>,
    failed_at: Option<UnixMillis>,
    worker: Option<String>,
}

impl From<DeadLetter> for Row {
    fn from(letter: DeadLetter) -> Self {
        Self {
            queue: letter.queue,
            id: letter.id,
            task: letter.task,
            reason: letter.reason,
            error_kind: letter.error_kind,
            error: letter.error,
            attempt: letter.attempt,
            first_failed_at: letter.first_failed_at,
            failed_at: letter.failed_at,
            worker: letter.worker,
        }
    }
}

#[derive(Serialize)]
struct Listed {
    dead_letters: Vec<Row>,
    /// How many there are in the queues that were looked at, whether they are meant or not.
    depth: u64,
}

#[derive(Serialize)]
struct Group {
    count: u64,
    queue: String,
    task: String,
    reason: String,
    error: String,
    last_failed_at: Option<UnixMillis>,
}

#[derive(Serialize)]
struct Grouped {
    groups: Vec<Group>,
    depth: u64,
}

impl List {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let settings = session.settings()?;
        let pool = session.admin(settings.broker.clone()).await?;
        let stop = stopped_by_signal()?;
        let mut selection = self.conditions.selection();
        if !self.group && self.limit > 0 {
            selection = selection.limit(self.limit);
        }
        let (mut rows, mut groups, mut depth, mut unseen) = (Vec::new(), BTreeMap::new(), 0, 0);
        for place in self.places.open(&settings, pool.link()).await? {
            let visit = |letter: DeadLetter| {
                if self.group {
                    count(&mut groups, letter);
                } else {
                    rows.push(Row::from(letter));
                }
            };
            let tally = place.browse(&selection, &stop, visit).await?;
            depth += tally.depth;
            unseen += tally.depth.saturating_sub(tally.seen);
        }
        pool.link().close().await;
        if self.group {
            let mut groups: Vec<Group> = groups.into_values().collect();
            groups.sort_by_key(|group| std::cmp::Reverse(group.count));
            session.output.report(&Grouped { groups, depth })?;
        } else {
            session.output.report(&Listed { dead_letters: rows, depth })?;
        }
        if unseen > 0 {
            session.output.remark(format!("{unseen} more were not looked at: --limit 0 looks at all"));
        }
        Ok(Exit::Done)
    }
}

fn count(groups: &mut BTreeMap<[String; 4], Group>, letter: DeadLetter) {
    let error = cut(letter.error.as_deref().unwrap_or_default(), 200);
    let key = [&letter.queue, &letter.task, &letter.reason, &error].map(Clone::clone);
    let group = groups.entry(key).or_insert_with(|| Group {
        count: 0,
        queue: letter.queue,
        task: letter.task,
        reason: letter.reason,
        error,
        last_failed_at: None,
    });
    group.count += 1;
    group.last_failed_at = group.last_failed_at.max(letter.failed_at);
}

impl Report for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.dead_letters.is_empty() {
            return none(out, self.depth);
        }
        let mut rows = table(["queue", "id", "task", "reason", "attempt", "failed", "error"]);
        for row in &self.dead_letters {
            rows.add_row(vec![
                row.queue.as_str().into(),
                row.id.as_deref().unwrap_or("-").into(),
                row.task.as_str().into(),
                row.reason.as_str().into(),
                number(row.attempt),
                moment(row.failed_at).into(),
                cut(row.error.as_deref().unwrap_or_default(), 60).into(),
            ]);
        }
        write_table(out, &rows)
    }
}

impl Report for Grouped {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.groups.is_empty() {
            return none(out, self.depth);
        }
        let mut rows = table(["count", "queue", "task", "reason", "last failed", "error"]);
        for group in &self.groups {
            rows.add_row(vec![
                number(group.count),
                group.queue.as_str().into(),
                group.task.as_str().into(),
                group.reason.as_str().into(),
                moment(group.last_failed_at).into(),
                cut(&group.error, 80).into(),
            ]);
        }
        write_table(out, &rows)
    }
}

fn none(out: &mut dyn Write, depth: u64) -> io::Result<()> {
    match depth {
        0 => writeln!(out, "no dead letters"),
        depth => writeln!(out, "none of the {depth} dead letters fits"),
    }
}
