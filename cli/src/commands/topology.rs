//! `leveret topology`: what the broker is to hold, what it holds, and how to make the one like the other.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use leveret::{
    Topology,
    common::topology::{Difference, Part, Target, declare, definitions, diff},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    failure::{Exit, Failure},
    output::{Report, table, write_table},
    session::Session,
};

/// Show, compare, declare or export the exchanges, queues and bindings
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret topology apply")]
pub(crate) struct TopologyCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what the configuration says the broker is to hold
    #[command(after_help = "Example: leveret topology show")]
    Show,
    /// Show where the broker differs from the configuration (exit code 1 if it does)
    #[command(after_help = "Example: leveret topology diff --url amqp://guest:guest@broker/")]
    Diff,
    /// Declare what is missing at the broker; deletes and changes nothing
    #[command(after_help = "Example: leveret topology apply")]
    Apply,
    /// Print it as a definitions file, which RabbitMQ loads at its start
    #[command(after_help = "Example: leveret topology export --output definitions.json")]
    Export(Export),
}

#[derive(Debug, Args)]
struct Export {
    /// Virtual host to export for
    #[arg(long, default_value = "/")]
    vhost: String,
    /// Write to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write nothing; fail if this file is not what would be written
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    check: Option<PathBuf>,
}

impl TopologyCommand {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let settings = session.settings()?;
        let topology = settings.topology()?;
        match self.action {
            Action::Show => {
                session.output.report(&Shown::of(&topology))?;
                Ok(Exit::Done)
            }
            Action::Export(export) => export.run(&session, &topology),
            Action::Diff => {
                let pool = session.admin(settings.broker).await?;
                let differences = diff(&pool, &topology).await?;
                pool.link().close().await;
                let exit = if differences.is_empty() { Exit::Done } else { Exit::Failed };
                session.output.report(&Differences { differences })?;
                Ok(exit)
            }
            Action::Apply => {
                let pool = session.admin(settings.broker).await?;
                let differences = diff(&pool, &topology).await?;
                let (mut missing, mut different) = (Vec::new(), Vec::new());
                for difference in differences {
                    match difference {
                        Difference::Missing { part } => missing.push(part),
                        difference => different.push(difference.to_string()),
                    }
                }
                if !different.is_empty() {
                    return Err(Failure::new(
                        Exit::Failed,
                        format!(
                            "nothing was changed: {}; set the configuration to what is there, or let the queue run empty, \
                             delete it and apply again",
                            different.join("; ")
                        ),
                    ));
                }
                declare(&pool, &topology).await?;
                pool.link().close().await;
                let parts = topology.exchanges().len() + topology.queues().len();
                session.output.report(&Applied { unchanged: parts - missing.len(), created: missing })?;
                Ok(Exit::Done)
            }
        }
    }
}

impl Export {
    fn run(self, session: &Session, topology: &Topology) -> Result<Exit, Failure> {
        for (name, _) in topology.work_queues().filter(|(_, settings)| settings.shards.is_some()) {
            session.output.remark(format!(
                "queue \"{name}\" is in shards, whose bindings no file can hold: load it, then run `leveret topology apply`"
            ));
        }
        let definitions = definitions(topology, &self.vhost);
        let text = format!("{definitions:#}\n");
        let failed = |path: &Path, error: io::Error| Failure::new(Exit::Failed, format!("{}: {error}", path.display()));
        match (self.output, self.check) {
            (Some(path), _) => {
                fs::write(&path, text).map_err(|error| failed(&path, error))?;
                session.output.report(&Exported { file: path, written: true })?;
            }
            (None, Some(path)) => {
                let there = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
                if there != text {
                    let path = path.display();
                    return Err(Failure::new(
                        Exit::Failed,
                        format!("{path} is not current: write it again with `leveret topology export --output {path}`"),
                    ));
                }
                session.output.report(&Exported { file: path, written: false })?;
            }
            (None, None) => session.output.report(&Definitions(definitions))?,
        }
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Shown {
    exchanges: Vec<Value>,
    queues: Vec<Value>,
    bindings: Vec<Value>,
}

impl Shown {
    fn of(topology: &Topology) -> Self {
        let exchanges = topology.exchanges();
        let (queues, bindings) = (topology.queues(), topology.bindings());
        Self {
            exchanges: exchanges
                .iter()
                .map(|exchange| json!({ "name": exchange.name, "type": exchange.kind, "arguments": exchange.arguments }))
                .collect(),
            queues: queues.iter().map(|queue| json!({ "name": queue.name, "arguments": queue.arguments })).collect(),
            bindings: bindings
                .iter()
                .map(|binding| {
                    let to = match binding.target {
                        Target::Queue(_) => "queue",
                        Target::Exchange(_) => "to_exchange",
                    };
                    json!({ "exchange": binding.exchange, to: binding.target.name(), "routing_key": binding.routing_key })
                })
                .collect(),
        }
    }
}

impl Report for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let arguments = |value: &Value| {
            let arguments = value["arguments"].as_object().into_iter().flatten();
            arguments
                .map(|(name, value)| {
                    format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                })
                .collect::<Vec<_>>()
                .join(" ")
        };
        let mut exchanges = table(["exchange", "type", "arguments"]);
        for exchange in &self.exchanges {
            exchanges.add_row([text(&exchange["name"]), text(&exchange["type"]), arguments(exchange)]);
        }
        write_table(out, &exchanges)?;
        writeln!(out)?;
        let mut queues = table(["queue", "arguments"]);
        for queue in &self.queues {
            queues.add_row([text(&queue["name"]), arguments(queue)]);
        }
        write_table(out, &queues)?;
        writeln!(out)?;
        let mut bindings = table(["exchange", "routing key", "queue"]);
        for binding in &self.bindings {
            let target = match &binding["to_exchange"] {
                Value::Null => text(&binding["queue"]),
                exchange => format!("exchange {}", text(exchange)),
            };
            bindings.add_row([text(&binding["exchange"]), text(&binding["routing_key"]), target]);
        }
        write_table(out, &bindings)
    }
}

#[derive(Serialize)]
struct Differences {
    differences: Vec<Difference>,
}

impl Report for Differences {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.differences.is_empty() {
            return writeln!(out, "the broker holds what the configuration says");
        }
        self.differences.iter().try_for_each(|difference| writeln!(out, "{difference}"))
    }
}

#[derive(Serialize)]
struct Applied {
    created: Vec<Part>,
    unchanged: usize,
}

impl Report for Applied {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.created.iter().try_for_each(|part| writeln!(out, "created {part}"))?;
        writeln!(out, "{} created, {} as they were", self.created.len(), self.unchanged)
    }
}

/// The definitions: JSON for people as well, for a file is what they are for.
#[derive(Serialize)]
#[serde(transparent)]
struct Definitions(Value);

impl Report for Definitions {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{:#}", self.0)
    }
}

#[derive(Serialize)]
struct Exported {
    file: PathBuf,
    /// Written now; if not, it was current.
    written: bool,
}

impl Report for Exported {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} {}", self.file.display(), if self.written { "is written" } else { "is current" })
    }
}
