//! A task as it is to be published.

use std::{collections::BTreeMap, time::Duration};

use leveret_common::{clock::UnixMillis, duration, message::Message, retry::Backoff, route::Route, task::TaskId};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::centre::api::{Problem, moment::Moment};

/// A task to be published.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTask, example = json!({
    "task": "mail.send", "arguments": {"to": "ann@example.com"}, "queue": "mail", "delay": "15m", "labels": {"team": "billing"},
}))]
pub(super) struct NewTask {
    /// Its name.
    #[schema(min_length = 1, max_length = 255)]
    pub(super) task: String,
    /// Its arguments, any value. Default `null`.
    #[serde(default)]
    pub(super) arguments: Value,
    /// The queue. Default: that of its kind, or `default`.
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$")]
    pub(super) queue: Option<String>,
    /// Its id: the same id published twice is the same task. Default: a new UUID.
    #[schema(min_length = 1, max_length = 255)]
    id: Option<String>,
    /// Not to run before so much time has gone by. The centre holds it until then. Not together with `at`.
    #[serde(default, with = "duration::option")]
    #[schema(value_type = Option<String>, max_length = 100, example = "15m")]
    delay: Option<Duration>,
    /// Not to run before this moment. The centre holds it until then.
    at: Option<Moment>,
    /// To be dead-lettered instead of run once so much time has gone by. Not together with `expires_at`.
    #[serde(default, with = "duration::option")]
    #[schema(value_type = Option<String>, max_length = 100, example = "1h")]
    expires_in: Option<Duration>,
    /// To be dead-lettered instead of run from this moment on.
    expires_at: Option<Moment>,
    /// How many attempts there may be, the first included. Default: the worker's.
    #[schema(minimum = 1)]
    max_attempts: Option<u32>,
    /// The delays between attempts. Default: the worker's.
    #[schema(max_length = 255, example = "2s..1h")]
    backoff: Option<String>,
    /// How long one attempt may run. Default: the worker's.
    #[serde(default, with = "duration::option")]
    #[schema(value_type = Option<String>, max_length = 100, example = "30s")]
    timeout: Option<Duration>,
    /// The AMQP priority.
    priority: Option<u8>,
    /// Affinity: tasks with the same key belong together.
    #[schema(min_length = 1, max_length = 255)]
    key: Option<String>,
    /// What makes it the same as others of its name, of which only the first is run.
    unique: Option<Unique>,
    /// How it is given to a worker, where the queue has a route.
    #[schema(max_length = 255, example = "round-robin")]
    route: Option<String>,
    /// Names and values to find it by.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// Further headers. Those that begin with `leveret-` are Leveret's own.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Whether it is to be known what becomes of it. Default yes.
    #[serde(default = "yes")]
    pub(super) track: bool,
}

/// What makes a task the same as others of its name.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Unique {
    /// Tasks with the same key are the same.
    #[schema(min_length = 1, max_length = 255)]
    key: String,
    /// For how long after the first. Default 1 hour.
    #[serde(default = "hour", with = "duration")]
    #[schema(value_type = String, max_length = 100, example = "1h")]
    window: Duration,
}

fn yes() -> bool {
    true
}

fn hour() -> Duration {
    leveret_common::task::Unique::DEFAULT_WINDOW
}

/// The most labels and headers, and the longest name of one.
const MOST: usize = 32;
const LONGEST: usize = 255;

impl NewTask {
    /// When it is to be published, if not now.
    pub(super) fn due_at(&self, now: UnixMillis) -> Result<Option<UnixMillis>, Problem> {
        match (self.delay, self.at) {
            (Some(_), Some(_)) => Err(Problem::invalid_part("/at", "give `delay` or `at`, not both")),
            (Some(delay), None) if delay > Duration::from_secs(100 * 366 * 86_400) => {
                Err(Problem::invalid_part("/delay", "it is over a hundred years"))
            }
            (Some(delay), None) => Ok(Some(now + delay).filter(|due| *due > now)),
            (None, at) => Ok(at.map(|at| at.0).filter(|due| *due > now)),
        }
    }

    /// The message, for this queue.
    pub(super) fn message(&self, queue: &str) -> Result<Message, Problem> {
        let mut message = Message::json(&self.task, &self.arguments)?.queue(queue);
        if let Some(id) = &self.id {
            let id: TaskId = id.parse().map_err(|error| Problem::invalid_part("/id", error))?;
            message = message.id(id);
        }
        message = match (self.expires_in, self.expires_at) {
            (Some(_), Some(_)) => {
                return Err(Problem::invalid_part("/expires_at", "give `expires_in` or `expires_at`, not both"));
            }
            (Some(ttl), None) => message.expires_in(ttl),
            (None, Some(at)) => message.expires_at(at.0),
            (None, None) => message,
        };
        match self.max_attempts {
            Some(0) => return Err(Problem::invalid_part("/max_attempts", "it is at least 1")),
            Some(attempts) => message = message.max_attempts(attempts),
            None => {}
        }
        if let Some(backoff) = &self.backoff {
            let backoff: Backoff = backoff.parse().map_err(|error| Problem::invalid_part("/backoff", error))?;
            message = message.backoff(backoff);
        }
        if let Some(timeout) = self.timeout {
            message = message.timeout(timeout);
        }
        if let Some(priority) = self.priority {
            message = message.priority(priority);
        }
        if let Some(key) = &self.key {
            if !(1..=LONGEST).contains(&key.len()) {
                return Err(Problem::invalid_part("/key", "it has 1 to 255 bytes"));
            }
            message = message.key(key);
        }
        if let Some(unique) = &self.unique {
            message = message.unique(&unique.key, unique.window);
        }
        if let Some(route) = &self.route {
            let route: Route = route.parse().map_err(|error| Problem::invalid_part("/route", error))?;
            message = message.route(&route);
        }
        self.headers(message)
    }

    fn headers(&self, mut message: Message) -> Result<Message, Problem> {
        for (part, map) in [("/labels", &self.labels), ("/headers", &self.headers)] {
            if map.len() > MOST {
                return Err(Problem::invalid_part(part, format!("there are over {MOST}")));
            }
            if map.keys().any(|name| !(1..=LONGEST).contains(&name.len())) {
                return Err(Problem::invalid_part(part, "a name has 1 to 255 bytes"));
            }
            if map.values().any(|value| value.len() > 4_096) {
                return Err(Problem::invalid_part(part, "a value has at most 4,096 bytes"));
            }
        }
        for (name, value) in &self.headers {
            if name.starts_with("leveret-") || name.starts_with("x-") && name.contains("death") {
                return Err(Problem::invalid_part("/headers", format!("{name:?} is not for publishers to set here")));
            }
            message = message.header(name, value.as_str());
        }
        message = message.labels(&self.labels);
        Ok(if self.track { message.track() } else { message })
    }
}
