//! `leveret queues`: how many messages wait where, asked over AMQP alone.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::Args;
use lapin::{ErrorKind, options::QueueDeclareOptions, types::FieldTable};
use leveret::{
    Topology,
    common::{
        control::{Pause, PauseFlags},
        duration,
        link::ChannelPool,
        wire::short,
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
#[command(after_help = "Example: leveret queues --watch 2s")]
pub(crate) struct Queues {
    /// Show it again and again, this far apart, until interrupted
    #[arg(long, value_name = "INTERVAL", value_parser = duration::parse)]
    watch: Option<Duration>,
}

/// Counts of one work queue. What is not there has none.
#[derive(Debug, Serialize)]
struct Row {
    queue: String,
    ready: Option<u32>,
    consumers: Option<u32>,
    delayed: Option<u32>,
    dead: Option<u32>,
    /// Why it is paused everywhere, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<Pause>,
}

#[derive(Debug, Serialize)]
struct Counts {
    queues: Vec<Row>,
    /// What no queue took.
    lost: Option<u32>,
}

impl Queues {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
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
    let flags = PauseFlags::new(pool.clone());
    for (name, settings) in topology.work_queues() {
        let work = ask(pool, name.as_str()).await?;
        let mut delayed = None;
        for tier in settings.tiers.iter() {
            let waiting = ask(pool, &name.tier(tier)).await?.map(|(ready, _)| ready);
            delayed = sum(delayed, waiting);
        }
        let dead = ask(pool, &name.dead()).await?.map(|(ready, _)| ready);
        queues.push(Row {
            queue: name.to_string(),
            ready: work.map(|(ready, _)| ready),
            consumers: work.map(|(_, consumers)| consumers),
            delayed,
            dead,
            // One who may count but not ask sees the counts.
            paused: flags.look(name, None).await.unwrap_or_default(),
        });
    }
    let lost = ask(pool, topology.names().lost()).await?.map(|(ready, _)| ready);
    Ok(Counts { queues, lost })
}

/// Ready messages and consumers of a queue, if it is there.
async fn ask(pool: &ChannelPool, queue: &str) -> Result<Option<(u32, u32)>, Failure> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = pool.get().await?;
    match channel.queue_declare(short("queue", queue)?, options, FieldTable::default()).await {
        Ok(found) => Ok(Some((found.message_count(), found.consumer_count()))),
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404 => Ok(None),
            _ => Err(error.into()),
        },
    }
}

fn sum(left: Option<u32>, right: Option<u32>) -> Option<u32> {
    match (left, right) {
        (None, None) => None,
        (left, right) => Some(left.unwrap_or(0).saturating_add(right.unwrap_or(0))),
    }
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
