//! `leveret queues`: how many messages wait where, asked over AMQP alone; and queues in shards.

mod reshard;

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::{Args, Subcommand};
use leveret::{
    Topology,
    common::{
        counts::{self, QueueCounts},
        duration,
        link::ChannelPool,
    },
};
use serde::Serialize;

use crate::{
    failure::{Exit, Failure},
    output::{Report, number, table, write_table},
    session::Session,
};

/// Show how many messages wait in each queue
///
/// Counts what is ready, not what workers are running. `delayed` is the sum of the queue's retry tiers. Says which queues
/// are paused everywhere, and why.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret queues --watch 2s", args_conflicts_with_subcommands = true)]
pub(crate) struct Queues {
    #[command(subcommand)]
    action: Option<Action>,
    /// Show it again and again, this far apart, until interrupted
    #[arg(long, value_name = "INTERVAL", value_parser = duration::parse)]
    watch: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum Action {
    Reshard(reshard::Reshard),
}

#[derive(Debug, Serialize)]
struct Counts {
    queues: Vec<QueueCounts>,
    /// What no queue took.
    lost: Option<u32>,
}

impl Queues {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        if let Some(Action::Reshard(reshard)) = self.action {
            return reshard.run(session).await;
        }
        let settings = session.settings()?;
        let topology = settings.topology()?;
        let pool = session.admin(settings.broker).await?;
        let Some(interval) = self.watch else {
            let counts = count(&pool, &topology).await?;
            session.output.report(&counts)?;
            if counts.queues.iter().any(|row| row.ready.is_none()) {
                session
                    .output
                    .remark("queues shown with - are not declared: start a worker, or run `leveret topology apply`");
            }
            pool.link().close().await;
            return Ok(Exit::Done);
        };
        let clear = !session.output.is_json() && io::stdout().is_terminal();
        loop {
            let counts = count(&pool, &topology).await?;
            if clear {
                // Home, and everything below erased: what stands there stays still.
                write!(io::stdout(), "\x1b[H\x1b[J")?;
            }
            session.output.report_line(&counts)?;
            tokio::select! {
                () = tokio::time::sleep(interval.max(Duration::from_millis(100))) => {}
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
            }
        }
    }
}

async fn count(pool: &ChannelPool, topology: &Topology) -> Result<Counts, Failure> {
    let mut queues = Vec::new();
    for (name, settings) in topology.work_queues() {
        queues.push(counts::count(pool, name, settings).await?);
    }
    Ok(Counts { queues, lost: counts::count_lost(pool, topology).await? })
}

impl Report for Counts {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let shown = |count: Option<u32>| number(count.map_or_else(|| "-".to_owned(), |count| count.to_string()));
        let mut rows = table(["queue", "ready", "delayed", "dead", "consumers"]);
        for row in &self.queues {
            rows.add_row(vec![
                row.queue.as_str().into(),
                shown(row.ready),
                shown(row.delayed),
                shown(row.dead),
                shown(row.consumers),
            ]);
        }
        write_table(out, &rows)?;
        let mut paused = self.queues.iter().filter_map(|row| Some((&row.queue, row.paused.as_ref()?))).peekable();
        if paused.peek().is_some() {
            writeln!(out)?;
        }
        for (queue, pause) in paused {
            writeln!(out, "{queue} is {pause}")?;
        }
        match self.lost {
            None | Some(0) => Ok(()),
            Some(lost) => writeln!(out, "\n{lost} lost: published with a routing key that no queue takes"),
        }
    }
}
