//! `leveret queues`: how many messages wait where, asked over AMQP or of a centre; and queues in shards.

mod list;
mod reshard;

use clap::{Args, Subcommand};

use crate::{
    failure::{Exit, Failure},
    session::Session,
};

/// Show how many messages wait in each queue
///
/// It asks the broker about the queues of leveret.toml; where a centre is named, by --api, --context or their variables, it
/// asks that, which also knows the queues of the workers and, with RabbitMQ's management interface, how fast each goes.
/// Counts what is ready, not what workers are running. `delayed` is the sum of the queue's retry tiers. Says which queues
/// are paused everywhere, and why.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leveret queues --watch 2s\n  leveret queues --context production",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Queues {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::List),
    Reshard(reshard::Reshard),
}

impl Queues {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        match self.action {
            None => self.list.run(session).await,
            Some(Action::List(list)) => list.run(session).await,
            Some(Action::Reshard(reshard)) => reshard.run(session).await,
        }
    }
}
