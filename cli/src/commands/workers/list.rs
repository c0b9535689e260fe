//! `leveret workers` itself.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::Args;
use leveret::{
    Clock, UnixMillis,
    common::{
        control::{Answer, Command, ControlError, Outcome, Target},
        duration,
        registry::{About, Beat, Presence, Registry},
    },
};
use serde::Serialize;

use super::{Patience, control};
use crate::{
    failure::{Exit, Failure},
    output::{Report, number, table, write_table},
    session::Session,
};

#[derive(Debug, Args)]
pub(super) struct List {
    /// Show it again and again, this far apart, until interrupted; with those that are lost
    #[arg(long, value_name = "INTERVAL", value_parser = duration::parse, num_args = 0..=1, default_missing_value = "1s")]
    watch: Option<Duration>,
    #[command(flatten)]
    patience: Patience,
}

/// A worker, as it was last heard of.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    presence: Presence,
    #[serde(flatten)]
    pub(super) beat: Beat,
    #[serde(flatten)]
    pub(super) about: Option<About>,
    heard_at: UnixMillis,
}

#[derive(Debug, Serialize)]
struct Listed {
    workers: Vec<Row>,
}

impl List {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        match self.watch {
            Some(interval) => watch(&session, interval.max(Duration::from_millis(100))).await,
            None => self.once(&session).await,
        }
    }

    async fn once(self, session: &Session) -> Result<Exit, Failure> {
        let control = control(session).await?;
        let asked = control.send(&Target::All, &Command::Announce {}, self.patience.wait).await;
        let replies = match asked {
            Err(ControlError::Nobody { .. } | ControlError::NoExchange { .. }) => Vec::new(),
            replies => replies?,
        };
        let now = Clock::system().now();
        let workers = replies.into_iter().filter_map(|reply| match reply.outcome {
            Outcome::Answer(Answer::Announcement(said)) => {
                Some(Row { presence: Presence::Live, beat: said.beat, about: Some(said.about), heard_at: now })
            }
            _ => None,
        });
        let mut workers: Vec<_> = workers.collect();
        workers.sort_by(|a, b| (&a.beat.worker, a.beat.instance).cmp(&(&b.beat.worker, b.beat.instance)));
        if workers.is_empty() {
            session.output.remark("no worker has answered");
        }
        session.output.report(&Listed { workers })?;
        control.link().close().await;
        Ok(Exit::Done)
    }
}

async fn watch(session: &Session, interval: Duration) -> Result<Exit, Failure> {
    let registry = Registry::connect(session.settings()?.broker).await?;
    let clear = !session.output.is_json() && io::stdout().is_terminal();
    let mut tick = tokio::time::interval(interval);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        }
        let workers = registry.workers();
        let row = |peer: &std::sync::Arc<leveret::common::registry::Peer>| Row {
            presence: peer.presence,
            beat: peer.beat.clone(),
            about: peer.about.clone(),
            heard_at: peer.heard_at,
        };
        if clear {
            write!(io::stdout(), "\x1b[H\x1b[J")?;
        }
        session.output.report_line(&Listed { workers: workers.iter().map(row).collect() })?;
    }
}

impl Row {
    fn state(&self) -> &'static str {
        match self.presence {
            Presence::Live => self.beat.state.as_str(),
            gone => gone.as_str(),
        }
    }

    fn queues(&self) -> String {
        let queues = self.beat.queues.iter().map(|queue| {
            let note = match (&queue.paused, queue.attached) {
                (Some(pause), _) if pause.everywhere => " paused everywhere",
                (Some(_), _) => " paused",
                (None, false) => " not attached",
                (None, true) => "",
            };
            format!("{} {}/{}{note}", queue.queue, queue.busy, queue.concurrency)
        });
        queues.collect::<Vec<_>>().join(", ")
    }

    fn age(&self) -> String {
        let started = self.about.as_ref().map(|about| about.started_at);
        started.map_or_else(|| "-".to_owned(), |started| age(self.heard_at.since(started)))
    }
}

/// A length of time to two units: `3h 12m`.
pub(super) fn age(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

impl Report for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.workers.is_empty() {
            return writeln!(out, "no workers");
        }
        let mut rows = table(["worker", "instance", "host", "state", "up", "busy", "queues"]);
        for worker in &self.workers {
            let host = worker.about.as_ref().and_then(|about| about.host.as_deref());
            rows.add_row(vec![
                worker.beat.worker.as_str().into(),
                worker.beat.instance.to_string().into(),
                host.unwrap_or("-").into(),
                worker.state().into(),
                number(worker.age()),
                number(format!("{}/{}", worker.beat.busy(), worker.beat.capacity())),
                worker.queues().into(),
            ]);
        }
        write_table(out, &rows)
    }
}
