//! `leveret dead`: look at dead letters, replay them, remove them.

mod list;
mod moving;
mod selecting;
mod show;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use leveret::{
    QueueName, UnixMillis,
    common::{dead_letters::DeadLetters, link::Link},
};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Exit, Failure},
    session::Session,
    settings::Settings,
    signals::Signals,
};

/// List, show, replay or remove dead letters
///
/// A dead letter is a task that will not run again by itself: it failed too often, was rejected, or cannot be read.
/// What no queue took is a lost message; `--lost` looks at those.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret dead list --group")]
pub(crate) struct Dead {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::List),
    Show(show::Show),
    Replay(moving::Replay),
    Purge(moving::Purge),
}

impl Dead {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        match self.action {
            Action::List(list) => list.run(session).await,
            Action::Show(show) => show.run(session).await,
            Action::Replay(replay) => replay.run(session).await,
            Action::Purge(purge) => purge.run(session).await,
        }
    }
}

/// Where to look: one queue, or every one that the configuration names.
#[derive(Debug, Args)]
struct Places {
    /// Queue whose dead letters are meant [default: every queue of the configuration, and the lost]
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// The messages that no queue took
    #[arg(long, conflicts_with = "queue")]
    lost: bool,
}

impl Places {
    /// The places that are meant, those that are not there left out unless they were asked for by name.
    async fn open(self, settings: &Settings, link: &Link) -> Result<Vec<DeadLetters>, Failure> {
        let mut places = Vec::new();
        if let Some(queue) = self.queue {
            places.push(DeadLetters::of(link.clone(), queue)?);
        } else if self.lost {
            places.push(DeadLetters::lost(link.clone())?);
        } else {
            let topology = settings.topology()?;
            for (queue, _) in topology.work_queues() {
                let dead = DeadLetters::of(link.clone(), queue.clone())?;
                if is_there(&dead).await? {
                    places.push(dead);
                }
            }
            let lost = DeadLetters::lost(link.clone())?;
            if is_there(&lost).await? {
                places.push(lost);
            }
        }
        Ok(places)
    }
}

async fn is_there(dead: &DeadLetters) -> Result<bool, Failure> {
    use leveret::common::dead_letters::DeadLettersError;
    match dead.depth().await {
        Ok(_) => Ok(true),
        Err(DeadLettersError::NoQueue { .. }) => Ok(false),
        Err(error) => Err(error.into()),
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

/// The first line of a text, cut to so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
