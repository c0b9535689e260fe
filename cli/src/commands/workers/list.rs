//! `leveret workers` itself.

use std::time::Duration;

use clap::Args;
use leveret::{
    Clock, UnixMillis,
    common::{
        control::{Answer, Command, ControlError, Outcome, Target},
        duration,
        registry::{About, Beat, Presence, Registry},
    },
};
use serde::Serialize;
use serde_json::Value;

use super::{Patience, control, shown::Listed};
use crate::{
    api::watched,
    failure::{Exit, Failure},
    session::Session,
};

/// List the workers that run
///
/// As `leveret workers` does. A centre also lists, for ten minutes, those that are gone.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret workers list --watch 2s")]
pub(super) struct List {
    /// Show it again and again, this far apart, until interrupted; with those that are lost
    #[arg(long, value_name = "INTERVAL", value_parser = duration::parse, num_args = 0..=1, default_missing_value = "1s")]
    watch: Option<Duration>,
    #[command(flatten)]
    patience: Patience,
}

/// A worker, as it was last heard of.
#[derive(Debug, Serialize)]
struct Row {
    presence: Presence,
    #[serde(flatten)]
    beat: Beat,
    #[serde(flatten)]
    about: Option<About>,
    heard_at: UnixMillis,
}

impl List {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        match (session.centre()?, self.watch) {
            (Some(api), watch) => {
                let look = || async { Ok(Listed { workers: api.list(&["workers"], &[], usize::MAX).await?.0 }) };
                watched(&session.output, watch, look).await
            }
            (None, Some(interval)) => watch(&session, interval).await,
            (None, None) => self.once(&session).await,
        }
    }

    async fn once(self, session: &Session) -> Result<Exit, Failure> {
        let control = control(session).await?;
        let asked = control.send(&Target::All, &Command::Announce {}, self.patience.wait).await;
        let replies = match asked {
            Err(ControlError::Nobody { .. } | ControlError::NoExchange { .. }) => Vec::new(),
            replies => replies?,
        };
        let now = Clock::system().now();
        let workers = replies.into_iter().filter_map(|reply| match reply.outcome {
            Outcome::Answer(Answer::Announcement(said)) => {
                Some(Row { presence: Presence::Live, beat: said.beat, about: Some(said.about), heard_at: now })
            }
            _ => None,
        });
        let mut workers: Vec<_> = workers.collect();
        workers.sort_by(|a, b| (&a.beat.worker, a.beat.instance).cmp(&(&b.beat.worker, b.beat.instance)));
        if workers.is_empty() {
            session.output.remark("no worker has answered");
        }
        session.output.report(&Listed { workers: values(workers)? })?;
        control.link().close().await;
        Ok(Exit::Done)
    }
}

async fn watch(session: &Session, interval: Duration) -> Result<Exit, Failure> {
    let registry = Registry::connect(session.settings()?.broker).await?;
    let row = |peer: &std::sync::Arc<leveret::common::registry::Peer>| Row {
        presence: peer.presence,
        beat: peer.beat.clone(),
        about: peer.about.clone(),
        heard_at: peer.heard_at,
    };
    watched(&session.output, Some(interval), || async {
        Ok(Listed { workers: values(registry.workers().iter().map(row))? })
    })
    .await
}

fn values(rows: impl IntoIterator<Item = Row>) -> Result<Vec<Value>, Failure> {
    Ok(rows.into_iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}
