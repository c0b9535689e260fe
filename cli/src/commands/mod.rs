//! One file a command: its arguments, and `run`.

pub(crate) mod bench;
pub(crate) mod centre;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod dead;
pub(crate) mod demo;
mod namespace;
pub(crate) mod producer;
pub(crate) mod publish;
pub(crate) mod queues;
pub(crate) mod schedules;
pub(crate) mod tasks;
pub(crate) mod tokens;
pub(crate) mod topology;
pub(crate) mod worker;
pub(crate) mod workers;

pub(crate) use namespace::Namespace;

use crate::{
    arguments::Command,
    failure::{Exit, Failure},
    session::Session,
};

/// Runs the command that was asked for.
pub(crate) async fn run(session: Session, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Worker(command) => command.run(session).await,
        Command::Workers(command) => command.run(session).await,
        Command::Producer(command) => command.run(session).await,
        Command::Centre(command) => command.run(session).await,
        Command::Tokens(command) => command.run(session).await,
        Command::Context(command) => command.run(session).await,
        Command::Tasks(command) => command.run(session).await,
        Command::Schedules(command) => command.run(session).await,
        Command::Publish(command) => command.run(session).await,
        Command::Queues(command) => command.run(session).await,
        Command::Dead(command) => command.run(session).await,
        Command::Topology(command) => command.run(session).await,
        Command::Bench(command) => command.run(session).await,
        // It holds a whole company.
        Command::Demo(command) => Box::pin(command.run(session)).await,
        Command::Config(command) => command.run(session).await,
        Command::Completions(command) => command.run(&session),
    }
}
