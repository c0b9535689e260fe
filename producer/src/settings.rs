//! The `[schedules.<name>]` tables of `leveret.toml`.

use std::{collections::BTreeMap, fmt, time::Duration};

use leveret_common::{duration, message::Message, topology::QueueName, wire};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::schedule::{Expression, Schedule, Timetable, Zone};

/// One schedule as it is written in `leveret.toml`:
///
/// ```toml
/// [schedules.nightly-report]
/// cron = "30 2 * * 1-5"
/// timezone = "Europe/Berlin"
/// task = "report.nightly"
/// queue = "reports"
/// payload = { format = "pdf", recipients = ["ops@example.com"] }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    /// Five fields of Unix cron, or a macro such as `@daily`; see [`Expression::unix`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Six or seven fields of Quartz cron; see [`Expression::quartz`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quartz: Option<String>,
    /// A fixed rate from 100 ms on; see [`Expression::every`].
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// The IANA name of the zone that `cron` and `quartz` are read in. Default `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The name of the task.
    pub task: String,
    /// The queue. Default `default`.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// The task's arguments, any value. Default: none, which is `null`.
    #[serde(default, deserialize_with = "payload")]
    pub payload: Value,
    /// How many attempts there may be, the first included. Default: the worker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How long one attempt may run. Default: the worker's.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Affinity: tasks with the same key belong together. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How long a tick that could not be published stays worth publishing, from 1 s on. Default 1 day.
    #[serde(default = "default_catch_up", with = "duration")]
    pub catch_up: Duration,
    /// Whether it runs. One that does not is checked all the same. Default `true`.
    #[serde(default = "default_enabled")]
    pub enabled: bool,
}

impl ScheduleSettings {
    /// Checks the settings and makes the schedule of them.
    ///
    /// # Errors
    /// [`InvalidSchedule`] with the key and the fix.
    pub fn schedule(&self, name: &str) -> Result<Schedule, InvalidSchedule> {
        let wrong = |key: &str, fix: &dyn fmt::Display| InvalidSchedule {
            key: if key.is_empty() { format!("schedules.{name}") } else { format!("schedules.{name}.{key}") },
            fix: fix.to_string(),
        };
        let expression = match (&self.cron, &self.quartz, self.every) {
            (Some(text), None, None) => Expression::unix(text).map_err(|error| wrong("cron", &error))?,
            (None, Some(text), None) => Expression::quartz(text).map_err(|error| wrong("quartz", &error))?,
            (None, None, Some(period)) => Expression::every(period).map_err(|error| wrong("every", &error))?,
            _ => return Err(wrong("", &"set one of `cron`, `quartz` and `every`, and only one")),
        };
        let zone = match &self.timezone {
            Some(_) if self.every.is_some() => {
                return Err(wrong("timezone", &"a fixed rate is the same in every zone: take it out, or use `cron`"));
            }
            Some(name) => Zone::named(name).map_err(|error| wrong("timezone", &error))?,
            None => Zone::utc(),
        };
        if self.task.is_empty() {
            return Err(wrong("task", &"name the task to publish, such as \"report.nightly\""));
        }
        wire::short("task name", &self.task).map_err(|error| wrong("task", &error))?;
        QueueName::new(&self.queue).map_err(|error| wrong("queue", &error))?;
        if self.max_attempts == Some(0) {
            return Err(wrong("max_attempts", &"write 1 or more: the first attempt counts"));
        }
        if self.timeout.is_some_and(|timeout| timeout < Duration::from_millis(1)) {
            return Err(wrong("timeout", &"write 1ms or more, or leave it out for the worker's own"));
        }
        if self.catch_up < Duration::from_secs(1) {
            return Err(wrong("catch_up", &"write 1s or more"));
        }

        let mut message = Message::json(&self.task, &self.payload).map_err(|error| wrong("payload", &error))?;
        message = message.queue(&self.queue);
        if let Some(attempts) = self.max_attempts {
            message = message.max_attempts(attempts);
        }
        if let Some(timeout) = self.timeout {
            message = message.timeout(timeout);
        }
        if let Some(key) = &self.key {
            message = message.key(key);
        }
        Schedule::new(name, Timetable::new(expression, zone), message)
            .map(|schedule| schedule.catch_up(self.catch_up))
            .map_err(|error| wrong("", &error))
    }
}

/// Checks all schedules and makes those that are enabled.
///
/// # Errors
/// Every [`InvalidSchedule`], one for each schedule that cannot work.
pub fn enabled_schedules(settings: &BTreeMap<String, ScheduleSettings>) -> Result<Vec<Schedule>, Vec<InvalidSchedule>> {
    let (mut schedules, mut errors) = (Vec::new(), Vec::new());
    for (name, settings) in settings {
        match settings.schedule(name) {
            Ok(schedule) if settings.enabled => schedules.push(schedule),
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(schedules) } else { Err(errors) }
}

/// A schedule has a setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fix}")]
pub struct InvalidSchedule {
    /// The key in `leveret.toml`, such as `schedules.nightly.cron`.
    pub key: String,
    /// What is wrong and what to write instead.
    pub fix: String,
}

fn default_queue() -> String {
    "default".to_owned()
}

fn default_catch_up() -> Duration {
    Schedule::CATCH_UP
}

fn default_enabled() -> bool {
    true
}

/// Reads any value. A date of TOML, which JSON does not know, becomes a text.
fn payload<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let mut payload = Value::deserialize(deserializer)?;
    dates_to_text(&mut payload);
    Ok(payload)
}

fn dates_to_text(value: &mut Value) {
    /// How the `toml` crate hands a date to a format that has none.
    const DATE: &str = "$__toml_private_datetime";
    match value {
        Value::Object(map) => match map.remove(DATE) {
            Some(date) => *value = date,
            None => map.values_mut().for_each(dates_to_text),
        },
        Value::Array(values) => values.iter_mut().for_each(dates_to_text),
        _ => {}
    }
}
