//! What a centre answered: its JSON as it came, and for people a table, fields or a sentence.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    failure::{Exit, Failure},
    output::{Output, Report, table, write_table},
};

/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(100);

/// Rows.
#[derive(Debug)]
pub(crate) struct Rows<const N: usize> {
    /// As it came.
    pub(crate) json: Value,
    /// The names of the columns.
    pub(crate) header: [&'static str; N],
    /// Their cells.
    pub(crate) rows: Vec<[String; N]>,
    /// What is said when there are none.
    pub(crate) none: &'static str,
}

/// Names and values, one a line.
#[derive(Debug)]
pub(crate) struct Fields {
    /// As it came.
    pub(crate) json: Value,
    /// Those that are shown; the ones without a value are left out.
    pub(crate) fields: Vec<(&'static str, String)>,
}

/// A sentence.
#[derive(Debug)]
pub(crate) struct Said {
    /// As it came.
    pub(crate) json: Value,
    /// What is said.
    pub(crate) text: String,
}

macro_rules! as_it_came {
    ($([$($generics:tt)*] $type:ty),+) => {
        $(impl<$($generics)*> Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.json.serialize(serializer)
            }
        })+
    };
}

as_it_came!([const N: usize] Rows<N>, [] Fields, [] Said);

impl<const N: usize> Report for Rows<N> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return writeln!(out, "{}", self.none);
        }
        let mut rows = table(self.header);
        for row in &self.rows {
            rows.add_row(row);
        }
        write_table(out, &rows)
    }
}

impl Report for Fields {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let shown: Vec<_> = self.fields.iter().filter(|(_, value)| value != "-").collect();
        let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let indent = format!("\n{:width$}  ", "");
        shown.iter().try_for_each(|(name, value)| writeln!(out, "{name:<width$}  {}", value.replace('\n', &indent)))
    }
}

impl Report for Said {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.text)
    }
}

/// What is at a JSON Pointer, for a cell: a text as it is, `-` for nothing, a moment to the second.
pub(crate) fn cell(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => match text.split_once('.') {
            Some((to_second, rest)) if pointer.ends_with("_at") && rest.ends_with('Z') => format!("{to_second}Z"),
            _ if text.is_empty() => "-".to_owned(),
            _ => text.clone(),
        },
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// The cells at several pointers.
pub(crate) fn cells<const N: usize>(value: &Value, pointers: [&str; N]) -> [String; N] {
    pointers.map(|pointer| cell(value, pointer))
}

/// Fields under the names that they have in JSON.
pub(crate) fn fields(value: &Value, names: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    names.iter().map(|(name, pointer)| (*name, cell(value, pointer))).collect()
}

/// Looks and shows what is seen, once; or again and again, `watch` apart, until interrupted. On a terminal each look takes
/// the place of the one before, elsewhere an empty line ends it.
pub(crate) async fn watched<R: Report, L: Future<Output = Result<R, Failure>>>(
    output: &Output,
    watch: Option<Duration>,
    look: impl Fn() -> L,
) -> Result<Exit, Failure> {
    let Some(interval) = watch else {
        output.report(&look().await?)?;
        return Ok(Exit::Done);
    };
    let watching = async {
        loop {
            let seen = look().await?;
            let is_terminal = io::stdout().is_terminal();
            if !output.is_json() && is_terminal {
                // Home, and everything below erased: what stands there stays still.
                write!(io::stdout(), "\x1b[H\x1b[J")?;
            }
            output.report_line(&seen)?;
            if !output.is_json() && !is_terminal {
                writeln!(io::stdout())?;
            }
            tokio::time::sleep(interval.max(SHORTEST)).await;
        }
    };
    tokio::select! {
        ended = watching => ended,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_for_people() {
        let value =
            json!({ "a": { "next_at": "2027-01-01T09:00:00.000Z" }, "b": null, "c": 7, "d": ["x", "y"], "e": "1.5Z" });
        assert_eq!(
            cells(&value, ["/a/next_at", "/b", "/c", "/d", "/z"]),
            ["2027-01-01T09:00:00Z", "-", "7", "x, y", "-"]
        );
        assert_eq!(cell(&value, "/e"), "1.5Z");
    }
}
