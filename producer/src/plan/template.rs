//! Placeholders in the texts of a payload.
//!
//! | placeholder | stands for |
//! |---|---|
//! | `{{scheduled_at}}` | the tick's time in RFC 3339, in the schedule's zone |
//! | `{{scheduled_at_ms}}` | the tick's time in Unix milliseconds: a number |
//! | `{{number}}` | which tick of the schedule it is, from 1 on: a number |
//! | `{{last_success}}` | when the task of a tick last succeeded, like `{{scheduled_at}}`; before that nothing |
//! | `{{schedule}}` | the schedule's name in its namespace |
//! | `{{namespace}}` | its namespace |
//! | `{{id}}` | the task's id |
//! | `{{kind}}` | `tick`, `now` or `backfill` |
//!
//! A text that is one placeholder and nothing else becomes a number where it stands for one, and `null` where it stands
//! for nothing. `{{{{` stands for two braces. Names of fields are left as they are.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Facts;
use crate::schedule::Zone;

/// Of all placeholders.
pub(super) const NAMES: [&str; 8] =
    ["scheduled_at", "scheduled_at_ms", "number", "last_success", "schedule", "namespace", "id", "kind"];

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Placeholder(&'a str),
    /// Two braces and all that follows them, for nothing closes them.
    Unclosed(&'a str),
}

/// Checks every text of a value.
///
/// # Errors
/// What is wrong and what to write instead.
pub(super) fn check(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => check_text(text),
        Value::Array(values) => values.iter().try_for_each(check),
        Value::Object(fields) => fields.values().try_for_each(check),
        _ => Ok(()),
    }
}

/// Checks one text; see [`check`].
pub(super) fn check_text(text: &str) -> Result<(), String> {
    pieces(text).try_for_each(|piece| match piece {
        Piece::Placeholder(name) if !NAMES.contains(&name) => {
            let name: String = name.chars().take(60).collect();
            let names = NAMES.join(", ");
            Err(format!("there is no placeholder {{{{{name}}}}}: use one of {names}, or write {{{{{{{{ for two braces"))
        }
        Piece::Unclosed(_) => {
            Err("a placeholder has no end: close it with two braces, or write {{{{ for two that mean nothing"
                .to_owned())
        }
        _ => Ok(()),
    })
}

/// Whether a text of the value has one of these placeholders.
pub(super) fn has(value: &Value, names: &[&str]) -> bool {
    match value {
        Value::String(text) => text_has(text, names),
        Value::Array(values) => values.iter().any(|value| has(value, names)),
        Value::Object(fields) => fields.values().any(|value| has(value, names)),
        _ => false,
    }
}

/// Whether the text has one of these placeholders.
pub(super) fn text_has(text: &str, names: &[&str]) -> bool {
    pieces(text).any(|piece| matches!(piece, Piece::Placeholder(name) if names.contains(&name)))
}

/// The value with the facts of a tick in place of its placeholders. What is no placeholder stays.
pub(super) fn render<'a>(value: &'a Value, facts: &Facts, zone: &Zone) -> Cow<'a, Value> {
    if !has_braces(value) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(match value {
        Value::String(text) => rendered(text, facts, zone),
        Value::Array(values) => values.iter().map(|value| render(value, facts, zone).into_owned()).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), render(value, facts, zone).into_owned()));
            fields.collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    })
}

/// The text with the facts of a tick in place of its placeholders.
pub(super) fn render_text<'a>(text: &'a str, facts: &Facts, zone: &Zone) -> Cow<'a, str> {
    if !text.contains("{{") {
        return Cow::Borrowed(text);
    }
    let mut whole = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) | Piece::Unclosed(text) => whole.push_str(text),
            Piece::Placeholder(name) => match fact(name, facts, zone) {
                Some(Value::String(text)) => whole.push_str(&text),
                Some(Value::Null) => {}
                Some(value) => whole.push_str(&value.to_string()),
                None => {
                    whole.push_str("{{");
                    whole.push_str(name);
                    whole.push_str("}}");
                }
            },
        }
    }
    Cow::Owned(whole)
}

fn rendered(text: &str, facts: &Facts, zone: &Zone) -> Value {
    if let Some((Piece::Placeholder(name), "")) = next_piece(text)
        && let Some(value) = fact(name, facts, zone)
    {
        return value;
    }
    render_text(text, facts, zone).into_owned().into()
}

/// What a placeholder stands for; `None` when there is none of this name.
fn fact(name: &str, facts: &Facts, zone: &Zone) -> Option<Value> {
    let local = |at| zone.local(at).map(|(local, _)| local);
    Some(match name {
        "scheduled_at" => local(facts.scheduled_at).into(),
        "scheduled_at_ms" => facts.scheduled_at.0.into(),
        "number" => facts.number.into(),
        "last_success" => facts.last_success.and_then(local).into(),
        "schedule" => facts.schedule.name().into(),
        "namespace" => facts.schedule.namespace().into(),
        "id" => facts.task_id().as_str().into(),
        "kind" => facts.kind.as_str().into(),
        _ => return None,
    })
}

fn has_braces(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{"),
        Value::Array(values) => values.iter().any(has_braces),
        Value::Object(fields) => fields.values().any(has_braces),
        _ => false,
    }
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = next_piece(rest)?;
        rest = after;
        Some(piece)
    })
}

/// The first piece of a text, and what is behind it. Braces without an end are text.
fn next_piece(text: &str) -> Option<(Piece<'_>, &str)> {
    if text.is_empty() {
        return None;
    }
    let Some(start) = text.find("{{") else { return Some((Piece::Text(text), "")) };
    if start > 0 {
        return Some((Piece::Text(&text[..start]), &text[start..]));
    }
    if let Some(after) = text.strip_prefix("{{{{") {
        return Some((Piece::Text("{{"), after));
    }
    Some(match text[2..].split_once("}}") {
        Some((name, after)) => (Piece::Placeholder(name.trim()), after),
        None => (Piece::Unclosed(text), ""),
    })
}
