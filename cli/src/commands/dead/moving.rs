//! `leveret dead replay` and `leveret dead purge`.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    time::Duration,
};

use clap::Args;
use leveret::{
    QueueName,
    common::{
        dead_letters::{DeadLetters, Tally},
        link::Link,
    },
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{selecting::Conditions, stopped_by_signal};
use crate::{
    failure::{Exit, Failure},
    output::Report,
    session::Session,
};

/// Which ones, and in which queue: said outright, for this changes something.
#[derive(Debug, Args)]
struct Target {
    /// Queue whose dead letters are meant
    #[arg(long, value_name = "NAME", required_unless_present = "lost")]
    queue: Option<QueueName>,
    /// The messages that no queue took
    #[arg(long, conflicts_with = "queue")]
    lost: bool,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    conditions: Conditions,
    /// At most this many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

impl Target {
    fn check(&self) -> Result<(), Failure> {
        let text = match (self.all, self.conditions.is_empty()) {
            (true, true) | (false, false) => return Ok(()),
            (false, true) => "say which are meant: --all, or conditions such as --id, --reason or --task",
            (true, false) => "--all leaves nothing to choose: give --all or conditions, not both",
        };
        Err(Failure::new(Exit::Usage, text))
    }

    fn open(&self, link: Link) -> Result<DeadLetters, Failure> {
        Ok(match &self.queue {
            Some(queue) => DeadLetters::of(link, queue.clone())?,
            None => DeadLetters::lost(link)?,
        })
    }

    fn selection(&self) -> leveret::common::dead_letters::Selection {
        let selection = self.conditions.selection();
        self.limit.iter().fold(selection, |selection, limit| selection.limit(*limit))
    }

    /// How many are meant, without changing anything.
    async fn count(&self, dead: &DeadLetters, stop: &CancellationToken) -> Result<Tally, Failure> {
        Ok(dead.browse(&self.selection(), stop, drop).await?)
    }

    /// An id that was asked for and is not there is an error; conditions that fit none are not.
    fn exit(&self, tally: &Tally) -> Exit {
        let missing = tally.matched == 0 && !self.conditions.ids().is_empty();
        if missing || tally.stopped { Exit::Failed } else { Exit::Done }
    }
}

/// Send dead letters back to their queue, where their attempts count anew
///
/// The broker itself moves each, so an interrupted replay, even by SIGKILL, loses none and doubles none: run it again
/// and it goes on. Lost messages are published again and then removed; of those a killed replay can double one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leveret dead replay --queue mail --all --rate 500/s\n  \
                        leveret dead replay --queue mail --reason timeout --dry-run")]
pub(super) struct Replay {
    /// No faster than this, such as 500/s or 30/m
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Duration>,
    /// Only count what would be replayed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Serialize)]
struct Replayed {
    queue: String,
    /// How many were looked at.
    seen: u64,
    matched: u64,
    replayed: u64,
    /// How many are in the dead-letter queue now.
    left: u64,
    stopped: bool,
    dry_run: bool,
}

impl Replay {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        self.target.check()?;
        let settings = session.settings()?;
        let pool = session.admin(settings.broker).await?;
        let dead = self.target.open(pool.link().clone())?;
        let stop = stopped_by_signal()?;
        let tally = if self.dry_run {
            self.target.count(&dead, &stop).await?
        } else {
            let bar = session.output.progress(Some(dead.depth().await?), "replaying");
            let progress = |tally: &Tally| {
                bar.set_length(tally.depth);
                bar.set_position(tally.seen);
            };
            let replayed = dead.replay(&self.target.selection(), self.rate, &stop, progress).await;
            bar.finish_and_clear();
            replayed?
        };
        let left = dead.depth().await?;
        pool.link().close().await;
        session.output.report(&Replayed {
            queue: dead.queue(),
            seen: tally.seen,
            matched: tally.matched,
            replayed: tally.settled,
            left,
            stopped: tally.stopped,
            dry_run: self.dry_run,
        })?;
        Ok(self.target.exit(&tally))
    }
}

impl Report for Replayed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { queue, matched, replayed, left, .. } = self;
        if self.dry_run {
            return writeln!(out, "{matched} of {left} in {queue} would be replayed");
        }
        let stopped = if self.stopped { "stopped: " } else { "" };
        writeln!(out, "{stopped}{replayed} replayed from {queue}, {left} left there")
    }
}

/// Remove dead letters for good
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret dead purge --queue mail --reason expired --older-than 30days")]
pub(super) struct Purge {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Serialize)]
struct Purged {
    queue: String,
    purged: u64,
    left: u64,
    stopped: bool,
}

impl Purge {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        self.target.check()?;
        if !self.yes && !io::stdin().is_terminal() {
            return Err(Failure::new(Exit::Usage, "there is nobody to ask: give --yes to remove without asking"));
        }
        let settings = session.settings()?;
        let pool = session.admin(settings.broker).await?;
        let dead = self.target.open(pool.link().clone())?;
        let stop = stopped_by_signal()?;
        if !self.yes {
            let meant = self.target.count(&dead, &stop).await?.matched;
            if !ask(meant, dead.queue()).await? {
                pool.link().close().await;
                return Err(Failure::new(Exit::Failed, "nothing was removed"));
            }
        }
        let bar = session.output.progress(Some(dead.depth().await?), "removing");
        let purged = dead.purge(&self.target.selection(), &stop, |tally| bar.set_position(tally.seen)).await;
        bar.finish_and_clear();
        let tally = purged?;
        let left = dead.depth().await?;
        pool.link().close().await;
        let (queue, stopped) = (dead.queue(), tally.stopped);
        session.output.report(&Purged { queue, purged: tally.settled, left, stopped })?;
        Ok(self.target.exit(&tally))
    }
}

impl Report for Purged {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { queue, purged, left, .. } = self;
        let stopped = if self.stopped { "stopped: " } else { "" };
        writeln!(out, "{stopped}{purged} removed from {queue}, {left} left there")
    }
}

/// Asks on the terminal; anything but yes is no.
async fn ask(count: u64, queue: String) -> Result<bool, Failure> {
    let asked = tokio::task::spawn_blocking(move || {
        write!(io::stderr(), "remove {count} from {queue} for good? [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok::<_, io::Error>(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    });
    Ok(asked.await??)
}

/// Reads `500/s`, `30/m` or `100/h` as the time between two.
fn rate(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no rate: write a count and s, m or h, such as 500/s or 30/m");
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    match count.trim().parse::<u32>() {
        Ok(count) if count > 0 => Ok(Duration::from_secs_f64(seconds / f64::from(count))),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_and_a_unit_of_time() {
        assert_eq!(rate("500/s"), Ok(Duration::from_millis(2)));
        assert_eq!(rate("30 / m"), Ok(Duration::from_secs(2)));
        for text in ["500", "0/s", "-1/s", "5/d", "/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
