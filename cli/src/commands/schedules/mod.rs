//! `leveret schedules`: try schedules out, and those of a centre.

mod apply;
mod preview;
mod stored;

use clap::{Args, Subcommand};

use crate::{
    failure::{Exit, Failure},
    session::Session,
};

/// Try schedules out; look at and steer those of a centre
///
/// `preview` needs nothing but itself; the others ask the centre of `leveret context`, or of --api.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leveret schedules preview '30 2 * * mon-fri' --tz Europe/Berlin\n  \
                        leveret schedules list --watch 2s")]
pub(crate) struct Schedules {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Preview(preview::Preview),
    List(stored::List),
    Get(stored::Get),
    Apply(apply::Apply),
    Delete(stored::Delete),
    Pause(stored::Pause),
    Resume(stored::Resume),
    Run(stored::RunNow),
    Backfill(stored::Backfill),
    History(stored::History),
}

impl Schedules {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        match self.action {
            Action::Preview(preview) => preview.run(&session),
            Action::List(list) => list.run(session).await,
            Action::Get(get) => get.run(session).await,
            Action::Apply(apply) => apply.run(session).await,
            Action::Delete(delete) => delete.run(session).await,
            Action::Pause(pause) => pause.run(session).await,
            Action::Resume(resume) => resume.run(session).await,
            Action::Run(run) => run.run(session).await,
            Action::Backfill(backfill) => backfill.run(session).await,
            Action::History(history) => history.run(session).await,
        }
    }
}
