//! `leveret dead list`.

use std::io::{self, Write};

use clap::Args;
use leveret::producer::centre::operations::{Letter, LetterGroup};
use serde::Serialize;

use super::{Places, cut, place::Source, selecting::Conditions, stopped_by_signal, to_second};
use crate::{
    failure::{Exit, Failure},
    output::{Report, number, table, write_table},
    session::Session,
};

/// List dead letters
///
/// Changes nothing. While it looks, nobody else can see what is in hand.
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
    /// List no more than this many of each queue; 0 is all, which a centre does not list
    #[arg(long, value_name = "COUNT", default_value_t = 100, conflicts_with = "group")]
    limit: u64,
    #[command(flatten)]
    conditions: Conditions,
}

#[derive(Serialize)]
struct Listed {
    dead_letters: Vec<Letter>,
    /// How many there are in the queues that were looked at, whether they are meant or not.
    depth: u64,
}

#[derive(Serialize)]
struct Group {
    queue: String,
    #[serde(flatten)]
    alike: LetterGroup,
}

#[derive(Serialize)]
struct Grouped {
    groups: Vec<Group>,
    depth: u64,
}

impl List {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let source = Source::open(&session).await?;
        let stop = stopped_by_signal()?;
        let only = self.conditions.meant();
        // A centre says itself how many it lists at most.
        let limit = Some(self.limit).filter(|limit| *limit > 0 || matches!(source, Source::Centre(_)));
        let (mut letters, mut groups, mut depth, mut unseen) = (Vec::new(), Vec::new(), 0, 0);
        for place in self.places.open(&source).await? {
            let (there, seen) = if self.group {
                let found = place.groups(&only, None, &stop).await?;
                let queue = place.queue().trim_end_matches(".dead").to_owned();
                groups.extend(found.items.into_iter().map(|alike| Group { queue: queue.clone(), alike }));
                (found.depth, found.seen)
            } else {
                let found = place.letters(&only, limit, &stop).await?;
                letters.extend(found.items);
                (found.depth, found.seen)
            };
            depth += there;
            unseen += there.saturating_sub(seen);
        }
        let more = match source {
            Source::Broker { .. } => ": --limit 0 looks at all",
            Source::Centre(_) => "",
        };
        source.close().await;
        if self.group {
            groups.sort_by_key(|group| std::cmp::Reverse(group.alike.count));
            session.output.report(&Grouped { groups, depth })?;
        } else {
            session.output.report(&Listed { dead_letters: letters, depth })?;
        }
        if unseen > 0 {
            session.output.remark(format!("{unseen} more were not looked at{more}"));
        }
        Ok(Exit::Done)
    }
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
                to_second(row.failed_at.as_deref()).into(),
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
        for Group { queue, alike } in &self.groups {
            rows.add_row(vec![
                number(alike.count),
                queue.as_str().into(),
                alike.task.as_str().into(),
                alike.reason.as_str().into(),
                to_second(alike.last_failed_at.as_deref()).into(),
                cut(&alike.error, 80).into(),
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
