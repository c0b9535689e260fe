//! `leveret dead amend`.

use std::collections::BTreeMap;

use clap::Args;
use leveret::producer::centre::operations::{LetterChange, Then};
use serde_json::{Value, json};

use super::{Places, place::Source, show::missing, stopped_by_signal};
use crate::{
    api::Said,
    failure::{Exit, Failure},
    session::Session,
};

/// Put a dead letter right: another takes its place, and goes to its queue
///
/// What is not named stays as it is. Its attempts count anew. The other is published before the old one is removed; a
/// process that is killed in between leaves both.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret dead amend 019a1f0e-7a52-7c05-8a3a-2f6a1c1d9f10 --payload '{\"to\": \
                        \"ann@example.com\"}'")]
#[group(id = "change", required = true, multiple = true, args = ["task", "payload", "header", "without_header"])]
pub(super) struct Amend {
    /// The task's id
    id: String,
    /// Another name of the task
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Other arguments, any JSON but null
    #[arg(long, value_name = "JSON", value_parser = payload)]
    payload: Option<Value>,
    /// Set a header, to a whole number, true, false or a text; a text in quotes is one in any case. May be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, Value)>,
    /// Take a header away; may be given several times
    #[arg(long, value_name = "NAME")]
    without_header: Vec<String>,
    /// Leave it among the dead letters, changed
    #[arg(long)]
    stay: bool,
    #[command(flatten)]
    places: Places,
}

impl Amend {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let taken = self.without_header.into_iter().map(|name| (name, Value::Null));
        let headers: BTreeMap<_, _> = self.header.into_iter().chain(taken).collect();
        let then = if self.stay { Then::Stay } else { Then::Run };
        let change = LetterChange { task: self.task, body: self.payload, headers, then };
        let source = Source::open(&session).await?;
        let stop = stopped_by_signal()?;
        let mut amended = false;
        for place in self.places.open(&source).await? {
            amended = place.amend(&self.id, change.clone(), &stop).await?;
            if amended {
                break;
            }
        }
        source.close().await;
        if !amended {
            return Err(missing(&self.id));
        }
        let place = if self.stay { "is changed, and stays a dead letter" } else { "is changed, and goes to its queue" };
        let text = format!("the task {} {place}", self.id);
        session.output.report(&Said { json: json!({ "amended": self.id, "then": change.then }), text })?;
        Ok(Exit::Done)
    }
}

fn payload(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(Value::Null) => Err("a dead letter cannot be given null for its arguments".to_owned()),
        Ok(value) => Ok(value),
        Err(error) => Err(format!("this is no JSON: {error}")),
    }
}

fn header(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write a name, =, and a value")?;
    let read = serde_json::from_str(value)
        .ok()
        .filter(|value: &Value| value.is_i64() || value.is_boolean() || value.is_string());
    Ok((name.to_owned(), read.unwrap_or_else(|| Value::from(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_it_looks_like() {
        let read = |text| header(text).map(|(_, value)| value);
        assert_eq!(read("a=7"), Ok(json!(7)));
        assert_eq!(read("a=true"), Ok(json!(true)));
        assert_eq!(read("a=\"7\""), Ok(json!("7")));
        assert_eq!(read("a=1.5"), Ok(json!("1.5")));
        assert_eq!(read("a=ann=b"), Ok(json!("ann=b")));
        assert_eq!(read("a="), Ok(json!("")));
        assert!(read("a").is_err());
    }
}
