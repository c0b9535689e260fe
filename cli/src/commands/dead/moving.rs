//! `leveret dead replay` and `leveret dead purge`.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use leveret::{Rate, common::dead_letters::Tally, producer::centre::operations::Request};
use serde::Serialize;

use super::{
    background::begin,
    place::{Place, Source},
    selecting::Target,
    stopped_by_signal,
};
use crate::{
    failure::{Exit, Failure},
    output::Report,
    session::Session,
};

/// How long a centre is waited for.
#[derive(Debug, Args)]
struct Background {
    /// Wait until the centre has done it; without a centre this command does it, to its end
    #[arg(long)]
    wait: bool,
}

impl Background {
    fn check(&self, session: &Session) -> Result<(), Failure> {
        if self.wait { session.need_centre("--wait waits for a centre").map(drop) } else { Ok(()) }
    }
}

/// An id that was asked for and is not there is an error; conditions that fit none are not.
fn exit(request: &Request, matched: u64, stopped: bool) -> Exit {
    let missing = matched == 0 && !request.only.ids.is_empty();
    if missing || stopped { Exit::Failed } else { Exit::Done }
}

/// Send dead letters back to their queue, where their attempts count anew
///
/// The broker itself moves each, so an interrupted replay, even by SIGKILL, loses none and doubles none: run it again
/// and it goes on. Lost messages are published again and then removed; of those a killed replay can double one.
/// A centre that is named replays in the background: that goes on when this command ends, and when the centre does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leveret dead replay --queue mail --all --rate 500/s\n  \
                        leveret dead replay --queue mail --reason timeout --dry-run\n  \
                        leveret dead replay --queue mail --reason timeout --context production --wait")]
pub(super) struct Replay {
    /// No faster than this, such as 500/s or 30/min
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Only count what would be replayed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    background: Background,
    #[command(flatten)]
    target: Target,
}

#[derive(Serialize)]
struct Replayed {
    queue: String,
    matched: u64,
    replayed: u64,
    /// How many are in the dead-letter queue now.
    left: u64,
    stopped: bool,
    dry_run: bool,
}

impl Replay {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let request = self.target.request(self.rate)?;
        self.background.check(&session)?;
        let source = Source::open(&session).await?;
        let place = source.place(self.target.queue.as_ref())?;
        let stop = stopped_by_signal()?;
        let (replayed, exit) = match &place {
            _ if self.dry_run => {
                let (matched, left) = place.count(&request, &stop).await?;
                let queue = place.queue();
                (
                    Replayed { queue, matched, replayed: 0, left, stopped: false, dry_run: true },
                    exit(&request, matched, false),
                )
            }
            Place::Centre { api, .. } => {
                let queue = self.target.queue.as_ref();
                return begin(api, &session, "replay", queue, &request, self.background.wait).await;
            }
            Place::Broker(dead) => {
                let bar = session.output.progress(Some(dead.depth().await?), "replaying");
                let progress = |tally: &Tally| {
                    bar.set_length(tally.depth);
                    bar.set_position(tally.seen);
                };
                let interval = request.rate.map(|rate| rate.interval());
                let replayed = dead.replay(&request.selection(0), interval, &stop, progress).await;
                bar.finish_and_clear();
                let Tally { matched, settled, stopped, .. } = replayed?;
                let (queue, left) = (dead.queue(), dead.depth().await?);
                (
                    Replayed { queue, matched, replayed: settled, left, stopped, dry_run: false },
                    exit(&request, matched, stopped),
                )
            }
        };
        source.close().await;
        session.output.report(&replayed)?;
        Ok(exit)
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
///
/// A centre that is named removes them in the background.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret dead purge --queue mail --reason expired --older-than 30days")]
pub(super) struct Purge {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    background: Background,
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
        let request = self.target.request(None)?;
        self.background.check(&session)?;
        if !self.yes && !io::stdin().is_terminal() {
            return Err(Failure::new(Exit::Usage, "there is nobody to ask: give --yes to remove without asking"));
        }
        let source = Source::open(&session).await?;
        let place = source.place(self.target.queue.as_ref())?;
        let stop = stopped_by_signal()?;
        if !self.yes {
            let (meant, _) = place.count(&request, &stop).await?;
            if !ask(meant, place.queue()).await? {
                source.close().await;
                return Err(Failure::new(Exit::Failed, "nothing was removed"));
            }
        }
        let dead = match &place {
            Place::Centre { api, .. } => {
                let queue = self.target.queue.as_ref();
                return begin(api, &session, "purge", queue, &request, self.background.wait).await;
            }
            Place::Broker(dead) => dead,
        };
        let bar = session.output.progress(Some(dead.depth().await?), "removing");
        let purged = dead.purge(&request.selection(0), &stop, |tally| bar.set_position(tally.seen)).await;
        bar.finish_and_clear();
        let Tally { matched, settled, stopped, .. } = purged?;
        let (queue, left) = (dead.queue(), dead.depth().await?);
        source.close().await;
        session.output.report(&Purged { queue, purged: settled, left, stopped })?;
        Ok(exit(&request, matched, stopped))
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
