//! `leveret demo`: everything at work at once, on a real broker, with a crash in the middle and a ledger at the end.

mod cast;
mod foreign;
mod ledger;
mod part;
mod play;
mod screen;
mod stage;
mod work;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use leveret::common::duration;

use crate::{
    failure::{Exit, Failure},
    session::Session,
};

/// See it work: a producer, three workers, a crash, and a ledger that adds up
///
/// Starts a producer with two schedules and three workers as processes of their own. Tasks come from the schedules,
/// from a Rust client and from a client of another make. Some fail and are tried again, one always panics and ends
/// as a dead letter, and one worker is killed in the middle of its tasks. In the end it counts, from what the broker
/// holds and the results that came back, whether anything was lost: exit code 0 if not.
///
/// All that it puts up at the broker is named leveret-demo, and is gone when it ends.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leveret demo\n  leveret demo --keep --folder ~/notes")]
pub(crate) struct Demo {
    /// How long tasks are published; what is still to be done then gets up to 15 s more
    #[arg(long = "for", value_name = "TIME", default_value = "20s", value_parser = duration::parse)]
    length: Duration,
    /// Stay up until interrupted, to look around in the RabbitMQ console
    #[arg(long, conflicts_with = "length")]
    keep: bool,
    /// Text files to work on
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where the RabbitMQ console is [default: port 15672 of the broker's host]
    #[arg(long, value_name = "URL", env = "MANAGEMENT_URL", hide_env_values = true)]
    console: Option<String>,
    /// Run one part of the demo; the demo itself starts them
    #[arg(long, hide = true, requires = "files")]
    part: Option<part::Part>,
    #[arg(long, hide = true)]
    name: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    files: Option<PathBuf>,
}

impl Demo {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let mut settings = session.settings()?;
        stage::NAMESPACE.clone_into(&mut settings.broker.namespace);
        "leveret-demo".clone_into(&mut settings.broker.name);
        if let (Some(part), Some(files)) = (self.part, &self.files) {
            if let Some(name) = self.name {
                settings.broker.name = name;
            }
            return part::run(part, settings, files).await;
        }
        play::run(self, session, settings).await
    }
}
