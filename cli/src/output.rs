//! What a command prints: text for people, or one JSON value of a fixed shape.

use std::{
    fmt::{self, Display},
    io::{self, IsTerminal, Write},
    time::Duration,
};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// A command's result: [`Serialize`] gives its JSON, this its text.
pub(crate) trait Report: Serialize {
    /// Writes the text for people.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Where results, remarks and progress go. Results go to standard output, all else to standard error.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether remarks and progress are unwanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints a command's result.
    pub(crate) fn report(&self, report: &impl Report) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, report).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            report.text(&mut out)?;
        }
        Ok(out.flush()?)
    }

    /// Prints one of many results over time: JSON takes one line.
    pub(crate) fn report_line(&self, report: &impl Report) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, report).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            report.text(&mut out)?;
        }
        Ok(out.flush()?)
    }

    /// A remark for people, such as what to do next: on standard error, not with `--json` or `--quiet`.
    pub(crate) fn remark(&self, text: impl Display) {
        if !self.json && !self.quiet {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Prints why a command failed, and gives its exit code.
    pub(crate) fn failure(&self, failure: &Failure) -> Exit {
        if failure.is_broken_pipe() {
            return Exit::Done;
        }
        let mut stderr = io::stderr().lock();
        let _ = if self.json {
            writeln!(stderr, "{}", serde_json::json!({ "error": failure.to_string(), "exit": failure.exit as u8 }))
        } else {
            writeln!(stderr, "error: {failure}")
        };
        failure.exit
    }

    /// A progress bar over `length` steps, or over an unknown number of them. It shows only where someone can see
    /// it: on a terminal, without `--quiet` and `--json`.
    pub(crate) fn progress(&self, length: Option<u64>, what: &'static str) -> ProgressBar {
        if self.json || self.quiet || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match length {
            Some(length) => (ProgressBar::new(length), "{msg} {wide_bar} {human_pos}/{human_len} {rate} {eta} left"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg} {human_pos} {rate}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{:.0}/s", state.per_sec());
            };
            bar.set_style(style.with_key("rate", rate));
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        bar.with_message(what)
    }
}

/// A table without lines, whose columns people and `awk` can both read.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.map(str::to_uppercase));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A cell with a number, to the right.
pub(crate) fn number(value: impl Display) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

/// Writes a table without the blanks that would end its lines.
pub(crate) fn write_table(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    table.lines().try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}
