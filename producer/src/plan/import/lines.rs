//! The lines of an iCalendar file: long ones are folded, and each has a name, parameters and a value.

use super::InvalidCalendar;

/// A line of content, `NAME;PARAMETER=value:VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// In capitals.
    pub(super) name: String,
    /// Their names in capitals.
    pub(super) parameters: Vec<(String, String)>,
    pub(super) value: String,
    /// Where it begins in the file, from 1 on.
    pub(super) number: usize,
}

impl Line {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The content lines of a file.
pub(super) fn lines(text: &str) -> Result<Vec<Line>, InvalidCalendar> {
    let mut unfolded: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        match (line.strip_prefix([' ', '\t']), unfolded.last_mut()) {
            // One blank marks a line that goes on; any more belong to it.
            (Some(more), Some((_, whole))) => whole.push_str(more),
            _ if line.trim().is_empty() => {}
            _ => unfolded.push((at + 1, line.to_owned())),
        }
    }
    unfolded.into_iter().map(|(number, line)| read(number, &line)).collect()
}

fn read(number: usize, line: &str) -> Result<Line, InvalidCalendar> {
    let invalid = || {
        let shown: String = line.chars().take(40).collect();
        InvalidCalendar::new(number, format!("{shown:?} is no line of iCalendar, which has NAME:VALUE"))
    };
    let (head, value) = split_unquoted(line, ':').ok_or_else(invalid)?;
    let mut parts = Vec::new();
    let mut rest = head;
    while let Some((part, after)) = split_unquoted(rest, ';') {
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    let mut parts = parts.into_iter();
    let name = parts.next().unwrap_or_default();
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.') {
        return Err(invalid());
    }
    let parameters = parts.map(|part| {
        let (key, value) = part.split_once('=').ok_or_else(invalid)?;
        Ok((key.trim().to_ascii_uppercase(), value.trim_matches('"').to_owned()))
    });
    let parameters = parameters.collect::<Result<_, InvalidCalendar>>()?;
    Ok(Line { name: name.to_ascii_uppercase(), parameters, value: value.trim().to_owned(), number })
}

/// Splits at the first `separator` outside of quotes.
fn split_unquoted(text: &str, separator: char) -> Option<(&str, &str)> {
    let mut quoted = false;
    let at = text.find(|c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })?;
    Some((&text[..at], &text[at + separator.len_utf8()..]))
}

/// A text value as a person reads it: without its escapes.
pub(super) fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('n' | 'N') => plain.push(' '),
                Some(other) => plain.push(other),
                None => {}
            },
            c => plain.push(c),
        }
    }
    plain
}
