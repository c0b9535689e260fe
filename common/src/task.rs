//! A task: its name on the wire, its defaults, its id.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::wire::TooLong;

/// A typed task: the arguments of one kind of work, with the name that stands for it on the wire.
///
/// Derive it: `#[derive(Serialize, Deserialize, Task)] #[task(name = "email.send")]`.
pub trait Task: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name on the wire. It is never taken from a Rust path, so that moving a type renames nothing.
    const NAME: &'static str;
    /// What holds for this task unless a publish or the worker says otherwise.
    const DEFAULTS: TaskDefaults = TaskDefaults::new();
}

/// What holds for a task unless a publish or the worker says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskDefaults {
    /// The queue it is published to. Default: `default`.
    pub queue: &'static str,
    /// How long one attempt may run. Default: the worker's.
    pub timeout: Option<Duration>,
    /// How often a failed task is tried again after the first attempt. Default: the worker's.
    pub retries: Option<u32>,
}

impl TaskDefaults {
    /// The queue `default`; the worker decides on timeout and retries.
    pub const fn new() -> Self {
        Self { queue: "default", timeout: None, retries: None }
    }

    /// Sets the queue.
    #[must_use]
    pub const fn queue(mut self, queue: &'static str) -> Self {
        self.queue = queue;
        self
    }

    /// Sets how long one attempt may run.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how often a failed task is tried again after the first attempt.
    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }
}

impl Default for TaskDefaults {
    fn default() -> Self {
        Self::new()
    }
}

/// The id of a task, the AMQP `message_id`: the same through retries, dead-lettering and replay.
///
/// Any text of 1 to 255 bytes is taken from other clients; the ids that we make are UUIDs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(String);

impl TaskId {
    /// A new id, a UUID of version 7: sorted by the time it was made.
    #[allow(clippy::new_without_default, reason = "two calls give two ids; a default should not")]
    pub fn new() -> Self {
        Self(Uuid::now_v7().to_string())
    }

    /// An id that follows from its parts, a UUID of version 5: the same parts give the same id anywhere.
    pub fn derived(parts: &[&str]) -> Self {
        // The namespace is the UUID of version 5 of "leveret" in the RFC 9562 namespace for names.
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"leveret");
        // A length before each part keeps ["ab", "c"] apart from ["a", "bc"].
        let joined: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        Self(Uuid::new_v5(&namespace, joined.as_bytes()).to_string())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TaskId {
    type Error = TooLong;
    fn try_from(id: String) -> Result<Self, TooLong> {
        if id.is_empty() || id.len() > 255 {
            return Err(TooLong { what: "task id", bytes: id.len() });
        }
        Ok(Self(id))
    }
}

impl FromStr for TaskId {
    type Err = TooLong;
    fn from_str(id: &str) -> Result<Self, TooLong> {
        id.to_owned().try_into()
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_follow_from_their_parts_alone() {
        assert_eq!(TaskId::derived(&["nightly", "1"]), TaskId::derived(&["nightly", "1"]));
        assert_ne!(TaskId::derived(&["ab", "c"]), TaskId::derived(&["a", "bc"]));
    }

    #[test]
    fn ids_from_outside_are_measured() {
        assert!("".parse::<TaskId>().is_err());
        assert!("i".repeat(256).parse::<TaskId>().is_err());
        assert_eq!("order-17".parse::<TaskId>().unwrap().as_str(), "order-17");
    }
}
