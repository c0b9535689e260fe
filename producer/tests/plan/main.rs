//! What follows from a definition: when it runs, what it publishes, and what is wrong with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod any_text;
mod calendars;
mod check;
mod import;
mod jitter;
mod leaps;
mod preview;
mod spread;
mod template;
mod toml_tables;
mod when;

use jiff::Timestamp;
use leveret_common::clock::UnixMillis;
use leveret_producer::plan::{Calendar, Definition, InvalidDefinition, Plan};
use serde_json::{Value, json};

/// The moment of a text such as `2026-03-08T01:30:00-05:00`.
fn moment(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

/// The definition with a task of its own, where it names none.
fn definition(mut definition: Value) -> Definition {
    definition.as_object_mut().unwrap().entry("task").or_insert("report".into());
    serde_json::from_value(definition).unwrap()
}

fn check(name: &str, wanted: Value, calendars: &[Calendar]) -> Result<Plan, InvalidDefinition> {
    Plan::new(name.parse().unwrap(), definition(wanted), calendars)
}

fn plan(wanted: Value) -> Plan {
    check("nightly", wanted, &[]).unwrap()
}

/// Why a definition is refused: the key and the fix.
fn refused(wanted: Value) -> String {
    check("nightly", wanted, &[]).unwrap_err().to_string()
}

/// The local times of the next ticks.
fn next(plan: &Plan, after: &str, count: usize) -> Vec<String> {
    let mut times = Vec::new();
    let mut at = moment(after);
    while let Some(tick) = plan.next_after(at).filter(|_| times.len() < count) {
        at = tick.scheduled_at;
        times.push(local(plan, at));
    }
    times
}

/// A moment in the plan's zone.
fn local(plan: &Plan, at: UnixMillis) -> String {
    plan.preview(1, UnixMillis(at.0 - 1)).first().filter(|fire| fire.at == at).unwrap().local.clone()
}

#[test]
fn a_plan_keeps_its_name_and_its_definition() {
    let plan = check("billing/nightly", json!({ "cron": "@daily" }), &[]).unwrap();
    assert_eq!((plan.name().namespace(), plan.name().name()), ("billing", "nightly"));
    assert_eq!(plan.definition().cron.as_deref(), Some("@daily"));
}
