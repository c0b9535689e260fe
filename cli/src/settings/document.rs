//! The text of a configuration file: reading it, and saying where in it something is wrong.

use std::{fmt, ops::Range, path::Path};

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::de::{DeTable, DeValue};

use super::wording;

/// The text of a configuration file; the default is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document {
    file: Option<String>,
    text: String,
}

impl Document {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, InvalidConfig> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { file: Some(file), text }),
            Err(error) => Err(InvalidConfig(format!("{file}: cannot be read: {error}"))),
        }
    }

    /// The file's path, as it was given.
    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Reads the text as `T`.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, InvalidConfig> {
        let deserializer = toml::Deserializer::parse(&self.text)
            .map_err(|error| self.at(error.span(), &[], format!("this is no TOML: {}", error.message())))?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let mut path: Vec<String> = error
                .path()
                .iter()
                .filter_map(|segment| match segment {
                    Segment::Map { key } => Some(key.clone()),
                    _ => None,
                })
                .collect();
            let error = error.into_inner();
            let (key, text) = wording::plain(error.message());
            if let Some(key) = key.filter(|key| path.last() != Some(key)) {
                path.push(key);
            }
            let path: Vec<_> = path.iter().map(String::as_str).collect();
            // Of a key that is not known, some types tell the place of their table.
            let own = Some(&path).filter(|path| self.has(path)).and_then(|path| self.span(path).0);
            self.at(own.or_else(|| error.span().filter(|span| !span.is_empty())), &path, text)
        })
    }

    /// An error about the value at `path`.
    pub(super) fn invalid(&self, path: &[&str], text: impl fmt::Display) -> InvalidConfig {
        self.at(None, path, text)
    }

    /// Whether there is a value at `path`.
    pub(super) fn has(&self, path: &[&str]) -> bool {
        self.span(path).1 == path.len()
    }

    fn at(&self, span: Option<Range<usize>>, path: &[&str], text: impl fmt::Display) -> InvalidConfig {
        let place = match &self.file {
            Some(file) => {
                // Of a table that is not written down, the nearest that is.
                let start = span.or_else(|| self.span(path).0).map_or(0, |span| span.start);
                let line = self.text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
                format!("{file}:{line}: ")
            }
            None => String::new(),
        };
        InvalidConfig(format!("{place}{}{text}", key(path)))
    }

    /// Where the key at `path` is, or as much of the path as there is; and how much that was.
    fn span(&self, path: &[&str]) -> (Option<Range<usize>>, usize) {
        let Ok(document) = DeTable::parse(&self.text) else {
            return (None, 0);
        };
        let (mut span, mut depth) = (None, 0);
        let mut table = Some(document.get_ref());
        for part in path {
            let Some((key, value)) = table.and_then(|table| table.get_key_value(*part)) else { break };
            span = Some(key.span());
            depth += 1;
            table = match value.get_ref() {
                DeValue::Table(table) => Some(table),
                _ => None,
            };
        }
        (span, depth)
    }
}

/// `[worker] concurrency: `, as the file has it.
fn key(path: &[&str]) -> String {
    let quoted = |part: &&str| {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !part.is_empty() && part.chars().all(bare) { (*part).to_owned() } else { format!("{part:?}") }
    };
    match path {
        [] => String::new(),
        [table] => format!("[{}]: ", quoted(table)),
        // What is under these has a name of its own, so that it is a table too.
        ["queues" | "limits" | "tasks" | "schedules", name] => format!("[{}.{}]: ", path[0], quoted(name)),
        [tables @ .., key] => {
            let tables: Vec<_> = tables.iter().map(quoted).collect();
            format!("[{}] {}: ", tables.join("."), quoted(key))
        }
    }
}

/// The configuration is wrong: one line with the place, the key, what is wrong and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidConfig(String);

impl InvalidConfig {
    /// An argument, not the file, is wrong.
    pub(super) fn argument(name: &str, error: impl fmt::Display) -> Self {
        Self(format!("{name}: {error}"))
    }
}
