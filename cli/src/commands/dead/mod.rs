//! `leveret dead`: look at dead letters, put them right, replay them, remove them.

mod amending;
mod background;
mod list;
mod moving;
mod place;
mod selecting;
mod show;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use leveret::{QueueName, UnixMillis};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Exit, Failure},
    session::Session,
    signals::Signals,
};

/// List, show, amend, replay or remove dead letters
///
/// A dead letter is a task that will not run again by itself: it failed too often, was rejected, or cannot be read.
/// What no queue took is a lost message; `--lost` looks at those.
///
/// It asks the broker; where a centre is named, by --api, --context or their variables, it asks that.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leveret dead list --group\n  leveret dead list --group --context production")]
pub(crate) struct Dead {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::List),
    Show(show::Show),
    Amend(amending::Amend),
    Replay(moving::Replay),
    Purge(moving::Purge),
}

impl Dead {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        match self.action {
            Action::List(list) => list.run(session).await,
            Action::Show(show) => show.run(session).await,
            Action::Amend(amend) => amend.run(session).await,
            Action::Replay(replay) => replay.run(session).await,
            Action::Purge(purge) => purge.run(session).await,
        }
    }
}

/// Where to look: one queue, or every one that is known.
#[derive(Debug, Args)]
struct Places {
    /// Queue whose dead letters are meant [default: every queue of the configuration or the centre, and the lost]
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// The messages that no queue took
    #[arg(long, conflicts_with = "queue")]
    lost: bool,
}

impl Places {
    /// The places that are meant, those that are not there left out unless they were asked for by name.
    async fn open(&self, source: &place::Source) -> Result<Vec<place::Place>, Failure> {
        match &self.queue {
            None if !self.lost => source.places().await,
            queue => Ok(vec![source.place(queue.as_ref())?]),
        }
    }
}

/// Cancelled by the first SIGINT or SIGTERM, upon which an operation gives back what it holds and ends.
fn stopped_by_signal() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let stopped = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        stopped.cancel();
    });
    Ok(stop)
}

/// A moment as a table shows it: in UTC, to the second.
pub(super) fn moment(at: Option<UnixMillis>) -> String {
    at.and_then(|at| DateTime::<Utc>::from_timestamp_millis(at.0))
        .map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// The same of a moment as RFC 3339 in UTC.
fn to_second(at: Option<&str>) -> String {
    let to_second = |at: &str| format!("{}Z", at.split(['.', 'Z']).next().unwrap_or_default().replace('T', " "));
    at.map_or_else(|| "-".to_owned(), to_second)
}

/// The first line of a text, cut to so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
