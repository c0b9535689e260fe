//! `leveret dead show`.

use std::io::{self, Write};

use clap::Args;
use leveret::{
    UnixMillis,
    common::dead_letters::{DeadLetter, Selection},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Places, moment, stopped_by_signal};
use crate::{
    failure::{Exit, Failure},
    output::Report,
    session::Session,
};

/// Show one dead letter whole, with its headers and its body
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret dead show 019a1f0e-7a52-7c05-8a3a-2f6a1c1d9f10")]
pub(super) struct Show {
    /// The task's id
    id: String,
    #[command(flatten)]
    places: Places,
}

#[derive(Serialize)]
struct Shown {
    queue: String,
    id: Option<String>,
    task: String,
    reason: String,
    error: Option<String>,
    error_kind: Option<String>,
    attempt: u32,
    first_failed_at: Option<UnixMillis>,
    failed_at: Option<UnixMillis>,
    worker: Option<String>,
    reply_to: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    /// Size of the body as it is, in bytes.
    bytes: usize,
    headers: Map<String, Value>,
    /// The body, decompressed: as JSON if it is, else as text, else nothing.
    body: Option<Value>,
}

impl Show {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let settings = session.settings()?;
        let pool = session.admin(settings.broker.clone()).await?;
        let stop = stopped_by_signal()?;
        let selection = Selection::all().id(&self.id).limit(1);
        let mut found = None;
        for place in self.places.open(&settings, pool.link()).await? {
            place.browse(&selection, &stop, |letter| found = Some(letter)).await?;
            if found.is_some() {
                break;
            }
        }
        pool.link().close().await;
        let Some(letter) = found else {
            let text = format!("no dead letter has the id {:?}: `leveret dead list` shows those there are", self.id);
            return Err(Failure::new(Exit::Failed, text));
        };
        session.output.report(&Shown::from(letter))?;
        Ok(Exit::Done)
    }
}

impl From<DeadLetter> for Shown {
    fn from(letter: DeadLetter) -> Self {
        let text = |body: &[u8]| std::str::from_utf8(body).ok().map(Value::from);
        let body = letter.content().ok().and_then(|body| serde_json::from_slice(&body).ok().or_else(|| text(&body)));
        Self {
            body,
            bytes: letter.body.len(),
            headers: letter.headers.to_json(),
            queue: letter.queue,
            id: letter.id,
            task: letter.task,
            reason: letter.reason,
            error: letter.error,
            error_kind: letter.error_kind,
            attempt: letter.attempt,
            first_failed_at: letter.first_failed_at,
            failed_at: letter.failed_at,
            worker: letter.worker,
            reply_to: letter.reply_to,
            content_type: letter.content_type,
            content_encoding: letter.content_encoding,
        }
    }
}

impl Report for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let time = |at: Option<UnixMillis>| at.map(|at| moment(Some(at)));
        let lines = [
            ("queue", Some(self.queue.clone())),
            ("id", self.id.clone()),
            ("task", Some(self.task.clone())),
            ("reason", Some(self.reason.clone())),
            ("error", self.error.clone()),
            ("error kind", self.error_kind.clone()),
            ("attempt", Some(self.attempt.to_string())),
            ("first failed", time(self.first_failed_at)),
            ("failed", time(self.failed_at)),
            ("worker", self.worker.clone()),
            ("reply to", self.reply_to.clone()),
            ("content type", self.content_type.clone()),
            ("encoding", self.content_encoding.clone()),
        ];
        for (name, value) in lines {
            if let Some(value) = value {
                writeln!(out, "{name:<13} {}", value.replace('\n', "\n              "))?;
            }
        }
        writeln!(out, "\nheaders")?;
        for (name, value) in &self.headers {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            writeln!(out, "  {name}: {}", value.replace('\n', "\n    "))?;
        }
        writeln!(out, "\nbody, {} bytes", self.bytes)?;
        match &self.body {
            None => writeln!(out, "  (neither JSON nor text)"),
            Some(Value::String(text)) => writeln!(out, "{text}"),
            Some(json) => writeln!(out, "{json:#}"),
        }
    }
}
