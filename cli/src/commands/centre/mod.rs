//! `leveret centre`: runs the scheduling centre, or asks one that runs.

mod asking;
mod consul;
mod parts;
mod run;

use clap::{Args, Subcommand};

use crate::{
    failure::{Exit, Failure},
    session::Session,
};

/// Run a scheduling centre: schedules and tasks in a database, steered over REST
///
/// It applies the schedules of leveret.toml: those that the file names are made, changed and removed as it says; those that
/// were made over REST are left alone. SIGTERM and SIGINT end it with exit code 0, after what is on its way; a second signal
/// ends it at once. Several centres may share one PostgreSQL.
///
/// Its subcommands ask the centre of `leveret context`, or of --api. So do `leveret schedules`, `tasks` and `tokens`, and
/// where a centre is named by --api or --context `leveret workers`, `queues` and `dead`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: leveret centre --database sqlite:/var/lib/leveret/centre.db --address 127.0.0.1:9470",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Centre {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    run: run::Run,
}

#[derive(Debug, Subcommand)]
enum Action {
    Status(asking::Status),
    Operations(asking::Operations),
    Cancel(asking::Cancel),
}

impl Centre {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        match self.action {
            None => self.run.run(session).await,
            Some(Action::Status(status)) => status.run(session).await,
            Some(Action::Operations(operations)) => operations.run(session).await,
            Some(Action::Cancel(cancel)) => cancel.run(session).await,
        }
    }
}
