//! What a worker says about itself, from the broker or from a centre: the same but for moments, which are numbers in one
//! and texts in the other.

use std::{
    io::{self, Write},
    time::Duration,
};

use chrono::DateTime;
use leveret::{UnixMillis, common::control::Pause};
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::cell,
    commands::dead::moment,
    output::{Report, number, table, write_table},
};

/// A line each.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    pub(super) workers: Vec<Value>,
}

/// All about each.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    pub(super) workers: Vec<Value>,
}

impl Report for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.workers.is_empty() {
            return writeln!(out, "no workers");
        }
        let mut rows = table(["worker", "instance", "host", "state", "up", "busy", "queues"]);
        for worker in &self.workers {
            let sum = |key: &str| queues(worker).filter_map(|queue| queue[key].as_u64()).sum::<u64>();
            let up = read_moment(&worker["started_at"]).zip(read_moment(&worker["heard_at"]));
            let state = match worker["presence"].as_str() {
                None | Some("live") => cell(worker, "/state"),
                Some(gone) => gone.to_owned(),
            };
            rows.add_row(vec![
                cell(worker, "/worker").into(),
                cell(worker, "/instance").into(),
                cell(worker, "/host").into(),
                state.into(),
                number(up.map_or_else(|| "-".to_owned(), |(started, heard)| age(heard.since(started)))),
                number(format!("{}/{}", sum("busy"), sum("concurrency"))),
                queues(worker).map(brief).collect::<Vec<_>>().join(", ").into(),
            ]);
        }
        write_table(out, &rows)
    }
}

impl Report for Whole {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for (number, worker) in self.workers.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            writeln!(out, "worker    {}", cell(worker, "/worker"))?;
            writeln!(out, "instance  {}", cell(worker, "/instance"))?;
            writeln!(out, "host      {}, process {}", cell(worker, "/host"), cell(worker, "/pid"))?;
            writeln!(out, "version   {}", cell(worker, "/version"))?;
            writeln!(out, "started   {}", moment(read_moment(&worker["started_at"])))?;
            writeln!(out, "state     {}, weight {}", cell(worker, "/state"), cell(worker, "/weight"))?;
            if let Some(gone) = worker["presence"].as_str().filter(|presence| *presence != "live") {
                writeln!(out, "          {gone}, last heard {}", moment(read_moment(&worker["heard_at"])))?;
            }
            queues(worker).try_for_each(|queue| writeln!(out, "queue     {}", full(queue)))?;
            if let Some(finished) = worker["stats"]["finished"].as_object() {
                let some = finished.iter().filter(|(_, count)| **count != 0);
                let finished = some.map(|(outcome, count)| format!("{count} {}", outcome.replace('_', " ")));
                let finished = finished.collect::<Vec<_>>().join(", ");
                writeln!(out, "ended     {}", if finished.is_empty() { "nothing yet" } else { &finished })?;
            }
            for task in worker["tasks"].as_array().into_iter().flatten() {
                match (task.as_str(), &task["schema"]) {
                    (Some(name), _) => writeln!(out, "task      {name}")?,
                    (None, Value::Null) => writeln!(out, "task      {}", cell(task, "/name"))?,
                    (None, schema) => writeln!(out, "task      {} {schema}", cell(task, "/name"))?,
                }
            }
        }
        Ok(())
    }
}

fn queues(worker: &Value) -> impl Iterator<Item = &Value> {
    worker["queues"].as_array().into_iter().flatten()
}

/// `mail 3/4 paused`
fn brief(queue: &Value) -> String {
    let note = match (&queue["paused"], queue["attached"] == true) {
        (Value::Null, true) => "",
        (Value::Null, false) => " not attached",
        (pause, _) if pause["everywhere"] == true => " paused everywhere",
        _ => " paused",
    };
    format!("{} {}/{}{note}", cell(queue, "/queue"), queue["busy"], queue["concurrency"])
}

/// `mail: 3 of 4 busy, prefetch 8, attached, paused: moving (ann, 2027-01-01T09:00:00.000Z)`
fn full(queue: &Value) -> String {
    let attached = if queue["attached"] == true { "attached" } else { "not attached" };
    let (busy, places, prefetch) = (&queue["busy"], &queue["concurrency"], &queue["prefetch"]);
    let mut text = format!("{}: {busy} of {places} busy, prefetch {prefetch}, {attached}", cell(queue, "/queue"));
    match queue["stalled_ms"].as_u64() {
        None | Some(0) => {}
        Some(stalled) => text.push_str(&format!(", has taken none for {}", age(Duration::from_millis(stalled)))),
    }
    if let said @ Value::Object(_) = &queue["paused"] {
        let part = |key: &str| said[key].as_str().map(str::to_owned);
        let mut pause = Pause::default();
        pause.reason = part("reason");
        pause.by = part("by");
        pause.since = read_moment(&said["since"]);
        pause.everywhere = said["everywhere"] == true;
        text.push_str(&format!(", {pause}"));
    }
    text
}

/// Unix milliseconds, or RFC 3339.
pub(super) fn read_moment(value: &Value) -> Option<UnixMillis> {
    let read = |text| DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis());
    value.as_i64().or_else(|| value.as_str().and_then(read)).map(UnixMillis)
}

/// A length of time to two units: `3h 12m`.
pub(super) fn age(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}
