//! `leveret centre`: runs the scheduling centre, or asks one that runs.

mod parts;
mod run;

use clap::Args;

use crate::{
    failure::{Exit, Failure},
    session::Session,
};

/// Run a scheduling centre: schedules and tasks in a database, steered over REST
///
/// It applies the schedules of leveret.toml: those that the file names are made, changed and removed as it says; those that
/// were made over REST are left alone. SIGTERM and SIGINT end it with exit code 0, after what is on its way; a second signal
/// ends it at once. Several centres may share one PostgreSQL.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: leveret centre --database sqlite:/var/lib/leveret/centre.db --address 127.0.0.1:9470",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Centre {
    #[command(flatten)]
    run: run::Run,
}

impl Centre {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        self.run.run(session).await
    }
}
