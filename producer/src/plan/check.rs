//! What a definition says besides the time: checks with the key and the fix.

use std::time::Duration;

use leveret_common::{
    clock::{Clock, UnixMillis},
    retry::Backoff,
    route::Route,
    topology::QueueName,
    wire,
};

use super::{Definition, Facts, InvalidDefinition, Plan, TickKind, template};

/// The longest that a definition can name: ten years.
const LONGEST: Duration = Duration::from_secs(3_653 * 86_400);
/// The most ticks that are made up for at once.
const MOST_MISSED: u32 = 10_000;
/// The most labels, and the bytes that the name and the value of one may have.
const MOST_LABELS: usize = 32;
const LABEL_NAME: usize = 63;
const LABEL_VALUE: usize = 255;
/// The most bytes of a description.
const DESCRIPTION: usize = 4_096;

/// Checks all but the time.
pub(super) fn check(definition: &Definition) -> Result<(), InvalidDefinition> {
    message(definition)?;
    policies(definition)?;
    words(definition)
}

fn message(definition: &Definition) -> Result<(), InvalidDefinition> {
    if definition.task.is_empty() {
        return Err(InvalidDefinition::new("task", "name the task to publish, such as \"report.nightly\""));
    }
    wire::short("task name", &definition.task).map_err(|error| InvalidDefinition::new("task", error))?;
    QueueName::new(&definition.queue).map_err(|error| InvalidDefinition::new("queue", error))?;
    at_least_one("max_attempts", definition.max_attempts, "write 1 or more: the first attempt counts")?;
    if definition.timeout.is_some_and(|timeout| timeout < Duration::from_millis(1)) {
        return Err(InvalidDefinition::new("timeout", "write 1ms or more, or leave it out for the worker's own"));
    }
    if definition.expires.is_some_and(|expires| expires < Duration::from_millis(1) || expires > LONGEST) {
        return Err(InvalidDefinition::new("expires", "write 1ms to 3653days, or leave it out: then it never expires"));
    }
    if let Some(text) = &definition.backoff {
        text.parse::<Backoff>().map_err(|error| InvalidDefinition::new("backoff", error))?;
    }
    if let Some(text) = &definition.route {
        text.parse::<Route>().map_err(|error| InvalidDefinition::new("route", error))?;
    }
    template::check(&definition.payload).map_err(|fix| InvalidDefinition::new("payload", fix))?;
    match definition.key.as_deref() {
        Some("") => Err(InvalidDefinition::new("key", "it is empty: leave it out for none")),
        Some(text) => template::check_text(text).map_err(|fix| InvalidDefinition::new("key", fix)),
        None => Ok(()),
    }
}

fn policies(definition: &Definition) -> Result<(), InvalidDefinition> {
    at_least_one("runs", definition.runs, "write 1 or more, or leave it out: then there is no end")?;
    at_least_one("pause_after", definition.pause_after, "write 1 or more, or leave it out: then it never pauses")?;
    if !(1..=MOST_MISSED).contains(&definition.missed_limit) {
        return Err(InvalidDefinition::new("missed_limit", format!("write 1 to {MOST_MISSED}")));
    }
    for (key, length) in [("catch_up", definition.catch_up), ("lost_after", definition.lost_after)] {
        if length < Duration::from_secs(1) {
            return Err(InvalidDefinition::new(key, "write 1s or more"));
        }
        if length > LONGEST {
            return Err(InvalidDefinition::new(key, "write 3653days or less"));
        }
    }
    if let Some(group) = &definition.group {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if group.is_empty() || group.len() > 100 || !group.chars().all(allowed) {
            return Err(InvalidDefinition::new("group", "use 1 to 100 letters, digits, `-`, `_` and `.`"));
        }
    }
    Ok(())
}

fn words(definition: &Definition) -> Result<(), InvalidDefinition> {
    if definition.description.as_ref().is_some_and(|text| text.len() > DESCRIPTION) {
        return Err(InvalidDefinition::new("description", format!("write at most {DESCRIPTION} bytes")));
    }
    if definition.labels.len() > MOST_LABELS {
        return Err(InvalidDefinition::new("labels", format!("there are over {MOST_LABELS}: take some out")));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    for (name, value) in &definition.labels {
        if name.is_empty() || name.len() > LABEL_NAME || !name.chars().all(allowed) {
            let name: String = name.chars().take(LABEL_NAME).collect();
            let fix =
                format!("{name:?} cannot name a label: use 1 to {LABEL_NAME} letters, digits, `-`, `_`, `.` and `/`");
            return Err(InvalidDefinition::new("labels", fix));
        }
        if value.len() > LABEL_VALUE {
            let fix = format!("the value of {name:?} has {} bytes: write at most {LABEL_VALUE}", value.len());
            return Err(InvalidDefinition::new("labels", fix));
        }
    }
    Ok(())
}

fn at_least_one(key: &'static str, value: Option<u32>, fix: &str) -> Result<(), InvalidDefinition> {
    if value == Some(0) { Err(InvalidDefinition::new(key, fix)) } else { Ok(()) }
}

/// Refuses a plan whose message no broker would take.
pub(super) fn check_size(plan: &Plan) -> Result<(), InvalidDefinition> {
    let facts = Facts {
        schedule: plan.name().clone(),
        scheduled_at: UnixMillis(253_370_764_800_000),
        kind: TickKind::Backfill,
        number: i64::MAX,
        last_success: Some(UnixMillis(253_370_764_800_000)),
        payload: None,
    };
    let stored = plan.message(&facts).and_then(|message| message.to_stored(&Clock::held(UnixMillis(0))));
    stored.map(drop).map_err(|error| InvalidDefinition::new("payload", error))
}
