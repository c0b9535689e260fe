//! `leveret dead show`.

use std::io::{self, Write};

use clap::Args;
use leveret::producer::centre::operations::WholeLetter;
use serde::Serialize;
use serde_json::Value;

use super::{Places, place::Source, stopped_by_signal, to_second};
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
#[serde(transparent)]
struct Shown(WholeLetter);

impl Show {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let source = Source::open(&session).await?;
        let stop = stopped_by_signal()?;
        let mut found = None;
        for place in self.places.open(&source).await? {
            found = place.whole(&self.id, &stop).await?;
            if found.is_some() {
                break;
            }
        }
        source.close().await;
        let letter = found.ok_or_else(|| missing(&self.id))?;
        session.output.report(&Shown(letter))?;
        Ok(Exit::Done)
    }
}

/// There is no dead letter with this id.
pub(super) fn missing(id: &str) -> Failure {
    let text = format!("no dead letter has the id {id:?}: `leveret dead list` shows those there are");
    Failure::new(Exit::Failed, text)
}

impl Report for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let whole = &self.0;
        let letter = &whole.letter;
        let time = |at: &Option<String>| at.as_deref().map(|at| to_second(Some(at)));
        let lines = [
            ("queue", Some(letter.queue.clone())),
            ("id", letter.id.clone()),
            ("task", Some(letter.task.clone())),
            ("reason", Some(letter.reason.clone())),
            ("error", letter.error.clone()),
            ("error kind", letter.error_kind.clone()),
            ("attempt", Some(letter.attempt.to_string())),
            ("first failed", time(&letter.first_failed_at)),
            ("failed", time(&letter.failed_at)),
            ("worker", letter.worker.clone()),
            ("reply to", whole.reply_to.clone()),
            ("content type", whole.content_type.clone()),
            ("encoding", whole.content_encoding.clone()),
        ];
        for (name, value) in lines {
            if let Some(value) = value {
                writeln!(out, "{name:<13} {}", value.replace('\n', "\n              "))?;
            }
        }
        writeln!(out, "\nheaders")?;
        for (name, value) in &whole.headers {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            writeln!(out, "  {name}: {}", value.replace('\n', "\n    "))?;
        }
        writeln!(out, "\nbody, {} bytes", whole.bytes)?;
        match &whole.body {
            None => writeln!(out, "  (neither JSON nor text)"),
            Some(Value::String(text)) => writeln!(out, "{text}"),
            Some(json) => writeln!(out, "{json:#}"),
        }
    }
}
