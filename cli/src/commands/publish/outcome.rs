//! What became of the tasks that were to be published.

use std::io::{self, Write};

use leveret::{PublishError, TaskId};
use serde::Serialize;

use super::reply::TaskResult;
use crate::{
    failure::{Exit, Failure},
    output::Report,
};

/// What became of all of them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Published {
    pub(super) published: u64,
    /// The number of the last that was tried, counted from 1: with `--lines` the line.
    pub(super) last_tried: u64,
    pub(super) ids: Vec<TaskId>,
    pub(super) failed: Vec<NotPublished>,
    /// How the task ended, with `--wait`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<TaskResult>,
}

/// One that was not.
#[derive(Debug, Serialize)]
pub(super) struct NotPublished {
    /// Which one it was, counted from 1: with `--lines` the line.
    number: u64,
    id: Option<TaskId>,
    error: String,
    #[serde(skip)]
    exit: Exit,
}

impl NotPublished {
    /// A line that could not be read, or is no payload; the error ends a sentence about it.
    pub(super) fn line(number: u64, error: &str) -> Self {
        Self { number, id: None, error: format!("the line {error}"), exit: Exit::Failed }
    }

    /// A task that the broker did not take, or not in time.
    pub(super) fn refused(number: u64, id: TaskId, error: PublishError) -> Self {
        // Whoever publishes it again needs its id.
        let text = match &error {
            PublishError::Unconfirmed { .. } | PublishError::Closed => format!("{error} {id}"),
            _ => error.to_string(),
        };
        Self { number, id: Some(id), error: text, exit: Failure::from(error).exit }
    }
}

impl Published {
    /// The exit code, or what went wrong.
    pub(super) fn exit(&self, many: bool) -> Result<Exit, Failure> {
        let Some(first) = self.failed.first() else { return Ok(Exit::Done) };
        if !many {
            return Err(Failure::new(first.exit, first.error.clone()));
        }
        let text = format!(
            "{} published, {} not; number {}: {}; none after number {} was tried",
            self.published,
            self.failed.len(),
            first.number,
            first.error,
            self.last_tried.max(first.number)
        );
        Err(Failure::new(first.exit, text))
    }
}

impl Report for Published {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.result {
            Some(result) => result.text(out),
            None => writeln!(out, "{} published", self.published),
        }
    }
}
