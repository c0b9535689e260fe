//! A schedule as a person writes it.

use std::{collections::BTreeMap, time::Duration};

use leveret_common::{
    duration,
    message::{InvalidMessage, Message},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Fold, Gap, Missed, Overlap, toml_dates};

/// A schedule as it is written: over REST as JSON, or as a `[schedules.<name>]` table of `leveret.toml`:
///
/// ```toml
/// [schedules.nightly-report]
/// cron = "30 2 * * 1-5"
/// timezone = "Europe/Berlin"
/// task = "report.nightly"
/// queue = "reports"
/// payload = { format = "pdf", day = "{{scheduled_at}}", recipients = ["ops@example.com"] }
/// ```
///
/// Durations are texts such as `90s` and `2h`. Moments are RFC 3339, or local times in the time zone such as
/// `2027-01-01T09:00` and `2027-01-01`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "centre", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Definition {
    // When. One of the five, and only one.
    /// Five fields of Unix cron, or a macro such as `@daily`. `H` in a field is a number that follows from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Six or seven fields of Quartz cron, Sunday being 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quartz: Option<String>,
    /// A fixed rate from 100 ms on.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "centre", schema(value_type = Option<String>, max_length = 100, example = "30m"))]
    pub every: Option<Duration>,
    /// A fixed delay: so long after the last run has ended.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "centre", schema(value_type = Option<String>, max_length = 100, example = "30m"))]
    pub after: Option<Duration>,
    /// Once, at this moment: RFC 3339, or a local time such as `2027-01-01T09:00` in the time zone.
    #[serde(default, deserialize_with = "toml_dates::text", skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,

    // And when not.
    /// Whether it runs by itself. One that does not is checked all the same, and runs when a person wants it to.
    /// Default `true`.
    #[serde(default = "default_enabled", skip_serializing_if = "is_true")]
    pub enabled: bool,
    /// The IANA name of the zone that `cron`, `quartz`, `at` and dates are read in. Default `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// What becomes of local times that the clock leaps over. Default: as cronie does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// What becomes of local times that come twice. Default: as cronie does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
    /// No tick before this moment.
    #[serde(default, deserialize_with = "toml_dates::text", skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<String>,
    /// No tick from this moment on.
    #[serde(default, deserialize_with = "toml_dates::text", skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
    /// Names of calendars; of two that know a day, the first counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<String>,
    /// Each tick is due later by a part of this, which follows from name and time and so is the same on every centre.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "centre", schema(value_type = Option<String>, max_length = 100, example = "30m"))]
    pub jitter: Option<Duration>,
    /// How many ticks there may be in all. Default: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<u32>,

    // What if.
    /// What becomes of ticks that were missed. Default: the latest runs.
    #[serde(default)]
    pub missed: Missed,
    /// How many missed ticks run at most where all do. Default 100.
    #[serde(default = "default_missed_limit")]
    pub missed_limit: u32,
    /// How old a tick may be to be still worth publishing, from 1 s on. Default 1 day.
    #[serde(default = "default_catch_up", with = "duration")]
    #[cfg_attr(feature = "centre", schema(value_type = String, max_length = 100, example = "1day"))]
    pub catch_up: Duration,
    /// What becomes of a tick whose predecessor has not ended. Default: it runs beside it.
    #[serde(default)]
    pub overlap: Overlap,
    /// Schedules of one group overlap as if they were one; of those that wait, the one with the highest `priority` is
    /// next. Default: each schedule for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// A run that nothing has been heard of for so long counts as ended. Default 1 day.
    #[serde(default = "default_lost_after", with = "duration")]
    #[cfg_attr(feature = "centre", schema(value_type = String, max_length = 100, example = "1day"))]
    pub lost_after: Duration,
    /// Pauses the schedule after so many failures in a row. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_after: Option<u32>,

    // What is published.
    /// The name of the task.
    pub task: String,
    /// The queue. Default `default`.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// The task's arguments, any value. In its texts these stand for facts of the tick: `{{scheduled_at}}` (RFC 3339 in
    /// the time zone), `{{scheduled_at_ms}}`, `{{number}}`, `{{last_success}}`, `{{schedule}}`, `{{namespace}}`, `{{id}}`
    /// and `{{kind}}`; a text that is nothing but a placeholder of a number becomes a number, and `{{{{` stands for two
    /// braces. Default: none, which is `null`.
    #[serde(default, deserialize_with = "toml_dates::value")]
    pub payload: Value,
    /// How many attempts there may be, the first included. Default: the worker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The delays between attempts, such as `2s..1h`. Default: the worker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// How long one attempt may run. Default: the worker's.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "centre", schema(value_type = Option<String>, max_length = 100, example = "30m"))]
    pub timeout: Option<Duration>,
    /// Not run when it has waited for longer than this. Default: without end.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "centre", schema(value_type = Option<String>, max_length = 100, example = "30m"))]
    pub expires: Option<Duration>,
    /// The AMQP priority, and that among schedules of one group. Default: none, which is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Affinity: tasks with the same key belong together. It may have placeholders as well. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How it is given to a worker, such as `round-robin`, where the queue has a route. Default: the queue's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,

    // For people.
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Names and values to find it by, and the tasks of its ticks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Definition {
    /// The message of its ticks, without what tells one tick from another.
    pub(crate) fn message(&self, payload: &Value, key: Option<&str>) -> Result<Message, InvalidMessage> {
        let mut message = Message::json(&self.task, payload)?.queue(&self.queue);
        if let Some(attempts) = self.max_attempts {
            message = message.max_attempts(attempts);
        }
        // Both were read when the definition was checked.
        if let Some(backoff) = self.backoff.as_deref().and_then(|text| text.parse().ok()) {
            message = message.backoff(backoff);
        }
        if let Some(route) = self.route.as_deref().and_then(|text| text.parse().ok()) {
            message = message.route(&route);
        }
        if let Some(timeout) = self.timeout {
            message = message.timeout(timeout);
        }
        if let Some(expires) = self.expires {
            message = message.expires_in(expires);
        }
        if let Some(priority) = self.priority {
            message = message.priority(priority);
        }
        if let Some(key) = key {
            message = message.key(key);
        }
        Ok(message)
    }
}

fn default_enabled() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_true(value: &bool) -> bool {
    *value
}

fn default_missed_limit() -> u32 {
    100
}

fn default_catch_up() -> Duration {
    Duration::from_secs(86_400)
}

fn default_lost_after() -> Duration {
    Duration::from_secs(86_400)
}

fn default_queue() -> String {
    "default".to_owned()
}
