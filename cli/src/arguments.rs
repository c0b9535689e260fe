//! The command line: what holds for every command, and which commands there are.
//!
//! The environment is read here alone: a variable is another way to give an argument.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    bench::Bench, centre::Centre, completions::Completions, config::Config, context::ContextCommand, dead::Dead,
    demo::Demo, producer::Producer, publish::Publish, queues::Queues, schedules::Schedules, tasks::Tasks,
    tokens::Tokens, topology::TopologyCommand, worker::Worker, workers::Workers,
};

/// Workers and schedules on RabbitMQ that do not lose messages.
#[derive(Debug, Parser)]
#[command(
    name = "leveret",
    version,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = crate::failure::EXIT_CODES
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What holds for every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Configuration file [default: leveret.toml, if there is one here]
    #[arg(long, global = true, value_name = "FILE", env = "LEVERET_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// AMQP URL of the broker; overrides `[broker] url` of the file
    #[arg(long, global = true, value_name = "URL", env = "AMQP_URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// Ask this centre of `leveret context` [default: the one in use; `workers`, `queues` and `dead` ask the broker]
    #[arg(long, global = true, value_name = "NAME", env = "LEVERET_CONTEXT")]
    pub(crate) context: Option<String>,
    /// Ask the centre at this URL
    #[arg(long, global = true, value_name = "URL", env = "LEVERET_API")]
    pub(crate) api: Option<String>,
    /// Token for the centre
    #[arg(long, global = true, value_name = "TOKEN", env = "LEVERET_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Directory of the user's configuration, in which contexts are kept
    #[arg(long, global = true, value_name = "DIR", env = "XDG_CONFIG_HOME", hide = true)]
    pub(crate) config_home: Option<PathBuf>,
    /// Directory of the user
    #[arg(long, global = true, value_name = "DIR", env = "HOME", hide = true)]
    pub(crate) home: Option<PathBuf>,
    /// Print JSON instead of text, errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no remarks and no progress
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

impl Global {
    /// Whether a centre is named. One that is merely in use is not.
    pub(crate) fn names_centre(&self) -> bool {
        [&self.api, &self.context].into_iter().flatten().any(|text| !text.is_empty())
    }
}

/// The commands, in the order in which help lists them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Worker(Worker),
    Workers(Workers),
    Producer(Producer),
    Centre(Centre),
    Schedules(Schedules),
    Tasks(Tasks),
    Tokens(Tokens),
    Context(ContextCommand),
    Publish(Publish),
    Queues(Queues),
    Dead(Dead),
    Topology(TopologyCommand),
    Bench(Bench),
    Demo(Demo),
    Config(Config),
    Completions(Completions),
}
