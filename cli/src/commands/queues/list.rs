//! `leveret queues` itself.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use leveret::{
    Topology,
    common::{counts, duration, link::ChannelPool},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{Api, cell, watched},
    failure::{Exit, Failure},
    output::{Report, number, table, write_table},
    session::Session,
};

/// List the queues, with how many messages wait in each
///
/// As `leveret queues` does.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret queues list --watch 2s")]
pub(super) struct List {
    /// Show it again and again, this far apart, until interrupted
    #[arg(long, value_name = "INTERVAL", value_parser = duration::parse)]
    watch: Option<Duration>,
}

#[derive(Debug, Serialize)]
struct Counts {
    queues: Vec<Value>,
    /// What no queue took.
    lost: Option<u64>,
    /// Whether a centre has said so, which knows more.
    #[serde(skip)]
    of_centre: bool,
    /// Queues that are paused everywhere, and why.
    #[serde(skip)]
    paused: Vec<(String, String)>,
}

impl List {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        if let Some(api) = session.centre()? {
            return watched(&session.output, self.watch, || ask(&api)).await;
        }
        let settings = session.settings()?;
        let topology = settings.topology()?;
        let pool = session.admin(settings.broker).await?;
        watched(&session.output, self.watch, || async {
            let counts = count(&pool, &topology).await?;
            if self.watch.is_none() && counts.queues.iter().any(|row| row["ready"].is_null()) {
                session
                    .output
                    .remark("queues shown with - are not declared: start a worker, or run `leveret topology apply`");
            }
            Ok(counts)
        })
        .await?;
        pool.link().close().await;
        Ok(Exit::Done)
    }
}

async fn count(pool: &ChannelPool, topology: &Topology) -> Result<Counts, Failure> {
    let (mut queues, mut paused) = (Vec::new(), Vec::new());
    for (name, settings) in topology.work_queues() {
        let counted = counts::count(pool, name, settings).await?;
        paused.extend(counted.paused.as_ref().map(|pause| (name.to_string(), pause.to_string())));
        queues.push(serde_json::to_value(counted)?);
    }
    let lost = counts::count_lost(pool, topology).await?.map(u64::from);
    Ok(Counts { queues, lost, of_centre: false, paused })
}

async fn ask(api: &Api) -> Result<Counts, Failure> {
    let mut answer: Value = api.get(&["queues"], &[]).await?;
    let queues = answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let paused = queues.iter().filter_map(|queue| Some((cell(queue, "/queue"), queue["paused"].as_str()?.to_owned())));
    Ok(Counts { paused: paused.collect(), lost: answer["lost"].as_u64(), of_centre: true, queues })
}

impl Report for Counts {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.queues.is_empty() {
            writeln!(out, "no queues")?;
        } else if self.of_centre {
            let header =
                ["queue", "ready", "in hand", "delayed", "dead", "consumers", "workers", "in/s", "done/s", "growth/s"];
            let counted = ["/ready", "/unacknowledged", "/delayed", "/dead", "/consumers", "/workers"];
            self.table(out, header, &counted, &["published", "acknowledged", "growth"])?;
        } else {
            let header = ["queue", "ready", "delayed", "dead", "consumers"];
            self.table(out, header, &["/ready", "/delayed", "/dead", "/consumers"], &[])?;
        }
        if !self.paused.is_empty() {
            writeln!(out)?;
        }
        for (queue, pause) in &self.paused {
            writeln!(out, "{queue} is {pause}")?;
        }
        match self.lost {
            None | Some(0) => Ok(()),
            Some(lost) => writeln!(out, "\n{lost} lost: published with a routing key that no queue takes"),
        }
    }
}

impl Counts {
    fn table<const N: usize>(
        &self,
        out: &mut dyn Write,
        header: [&str; N],
        counted: &[&str],
        rates: &[&str],
    ) -> io::Result<()> {
        let mut rows = table(header);
        for row in &self.queues {
            let rate = |name: &&str| row["rates"][*name].as_f64().map_or("-".to_owned(), |rate| format!("{rate:.1}"));
            let mut cells = vec![cell(row, "/queue").into()];
            cells.extend(counted.iter().map(|pointer| number(cell(row, pointer))));
            cells.extend(rates.iter().map(|name| number(rate(name))));
            rows.add_row(cells);
        }
        write_table(out, &rows)
    }
}
