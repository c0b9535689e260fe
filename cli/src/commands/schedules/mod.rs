//! `leveret schedules`: look at schedules, and try them out.

mod preview;

use clap::{Args, Subcommand};

use crate::{
    failure::{Exit, Failure},
    session::Session,
};

/// Look at schedules, and try them out
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret schedules preview '30 2 * * mon-fri' --tz Europe/Berlin")]
pub(crate) struct Schedules {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Preview(preview::Preview),
}

impl Schedules {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        match self.action {
            Action::Preview(preview) => preview.run(&session),
        }
    }
}
