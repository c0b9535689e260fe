//! `leveret queues reshard`: another number of shards.

use std::io::{self, Write};

use clap::Args;
use leveret::{
    QueueName,
    common::{link::Publisher, shards::Step},
};
use serde::Serialize;

use crate::{
    failure::{Exit, Failure},
    output::Report,
    session::Session,
};

/// Change the number of shards of a queue, while its publishers and workers go on
///
/// No task is lost or doubled, and those of one key keep their order: a shard that takes over keys waits until what was
/// published before is done. To remove a shard waits until workers have run what is in it. Ended half way, run it again.
/// It asks the broker; a centre cannot be asked to do it.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret queues reshard mail --to 8")]
pub(super) struct Reshard {
    /// The queue
    queue: QueueName,
    /// How many shards there are to be, 1 to 100
    #[arg(long, value_name = "N")]
    to: u16,
}

impl Reshard {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        session.without_centre("`queues reshard`")?;
        let settings = session.settings()?;
        let topology = settings.topology_of([self.queue.clone()])?;
        let configured = settings.queue(&self.queue).shards;
        let pool = session.admin(settings.broker).await?;
        if !pool.link().live().await?.capabilities.keeps_rings() {
            session.output.remark(
                "if all nodes of this broker were down together since the queue was made, remove shards only while no task \
                 waits in it: such a broker may have given keys to other shards, and then their order is not kept",
            );
        }
        let publisher = Publisher::new(pool.link().clone());
        let reshard = leveret::common::shards::Reshard::new(pool.clone(), publisher, topology, self.queue.clone())?;
        let mut steps = Vec::new();
        let told = |step: Step| {
            session.output.remark(describe(&step));
            steps.push(step);
        };
        tokio::select! {
            done = reshard.to(self.to, told) => done?,
            _ = tokio::signal::ctrl_c() => {
                let again = format!("ended half way: run `leveret queues reshard {} --to {}` again", self.queue, self.to);
                return Err(Failure::new(Exit::Failed, again));
            }
        }
        pool.link().close().await;
        if configured != Some(self.to) {
            let text = format!("write `shards = {}` into [queues.{}] of the configuration", self.to, self.queue);
            session.output.remark(&text);
        }
        session.output.report(&Resharded { queue: self.queue.to_string(), shards: self.to, steps })?;
        Ok(Exit::Done)
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Added { shard } => format!("{shard} takes tasks"),
        Step::Closed { shard } => format!("{shard} takes no more tasks, waiting until workers have run those in it"),
        Step::Removed { shard } => format!("{shard} is removed"),
        Step::Retired { shard } => {
            format!("{shard} takes no more tasks; delete it once nothing is ready or unacknowledged in it")
        }
        step => format!("{step:?}"),
    }
}

#[derive(Serialize)]
struct Resharded {
    queue: String,
    shards: u16,
    steps: Vec<Step>,
}

impl Report for Resharded {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} has {} shards", self.queue, self.shards)
    }
}
