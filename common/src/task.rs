//! A task: its name on the wire, its defaults, its id.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    retry::{Backoff, RetryPolicy},
    wire::TooLong,
};

/// A typed task: the arguments of one kind of work, with the name that stands for it on the wire.
///
/// Derive it: `#[derive(Serialize, Deserialize, Task)] #[task(name = "email.send")]`.
pub trait Task: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name on the wire. It is never taken from a Rust path, so that moving a type renames nothing.
    const NAME: &'static str;
    /// What holds for this task unless a publish or the worker says otherwise.
    const DEFAULTS: TaskDefaults = TaskDefaults::new();

    /// The affinity key that a publish sets unless it says otherwise: tasks with the same key belong together.
    /// Default: none.
    fn key(&self) -> Option<String> {
        None
    }

    /// What makes this task the same as another one, and for how long, unless a publish says otherwise: of several
    /// only the first is run. Default: nothing.
    fn unique(&self) -> Option<Unique> {
        None
    }

    /// The JSON Schema of the arguments, which a worker announces. `#[derive(Task)]` takes it from
    /// `schemars::JsonSchema` where the type has that and Leveret its feature `schema`. Default: none.
    fn schema() -> Option<serde_json::Value> {
        None
    }
}

/// What makes a task the same as others of its name, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Unique {
    /// Tasks of one name with the same key are the same: 1 to 255 bytes.
    pub key: String,
    /// How long after the first of them the others are not run.
    pub window: Duration,
}

impl Unique {
    /// The window where a message has a key alone: an hour.
    pub const DEFAULT_WINDOW: Duration = Duration::from_secs(3_600);

    /// Tasks with this key are the same for so long. In place of a key that is empty or over 255 bytes its digest is
    /// used.
    pub fn new(key: &str, window: Duration) -> Self {
        let key = if (1..=255).contains(&key.len()) { key.to_owned() } else { digest(key.as_bytes()) };
        Self { key, window }
    }

    /// Tasks with the same arguments are the same for so long; the key is a digest of them as JSON, in which the order
    /// of an object's members counts for nothing. `None` when they cannot be written as JSON, and so not published.
    pub fn of(arguments: &impl Serialize, window: Duration) -> Option<Self> {
        let json = match serde_json::to_value(arguments) {
            Ok(mut value) => {
                // A `HashMap` has another order each time.
                value.sort_all_objects();
                serde_json::to_vec(&value)
            }
            // What only a text can hold, such as a number of 128 bits.
            Err(_) => serde_json::to_vec(arguments),
        };
        Some(Self { key: digest(&json.ok()?), window })
    }
}

/// A text that stands for these bytes: a UUID of version 5.
fn digest(bytes: &[u8]) -> String {
    Uuid::new_v5(&namespace(), bytes).to_string()
}

/// The UUID of version 5 of "leveret" in the RFC 9562 namespace for names.
fn namespace() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, b"leveret")
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
    /// The delays between attempts. Default: the worker's.
    pub backoff: Option<Backoff>,
    /// How long after its first failure a task may still be tried. Default: the worker's.
    pub give_up_after: Option<Duration>,
    /// The AMQP priority it is published with, 0 to 9. Default: none.
    pub priority: Option<u8>,
    /// Whether an attempt may take longer than the broker waits for an acknowledgement. Default: no.
    pub long: bool,
}

impl TaskDefaults {
    /// The queue `default`; the worker decides on timeout and retries.
    pub const fn new() -> Self {
        Self {
            queue: "default",
            timeout: None,
            retries: None,
            backoff: None,
            give_up_after: None,
            priority: None,
            long: false,
        }
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

    /// Sets the delays between attempts.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Sets how long after its first failure a task may still be tried.
    #[must_use]
    pub const fn give_up_after(mut self, limit: Duration) -> Self {
        self.give_up_after = Some(limit);
        self
    }

    /// Sets the AMQP priority it is published with, 0 to 9.
    #[must_use]
    pub const fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets whether an attempt may take longer than the broker waits for an acknowledgement.
    #[must_use]
    pub const fn long(mut self, long: bool) -> Self {
        self.long = long;
        self
    }

    /// The policy of a worker, with what the task says itself.
    pub fn retry_policy(&self, worker: &RetryPolicy) -> RetryPolicy {
        let mut policy = worker.clone();
        if let Some(retries) = self.retries {
            policy.max_attempts = retries.saturating_add(1);
        }
        policy.backoff = self.backoff.unwrap_or(policy.backoff);
        policy.give_up_after = self.give_up_after.or(policy.give_up_after);
        policy
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
        // A length before each part keeps ["ab", "c"] apart from ["a", "bc"].
        let joined: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        Self(digest(joined.as_bytes()))
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

/// What `#[derive(Task)]` names in the code that it makes.
#[doc(hidden)]
pub mod __private {
    pub use serde_json::Value;

    pub use super::Unique;
    pub use crate::{
        retry::{Backoff, Jitter},
        schema::{Probe, WithoutSchema},
    };
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn the_same_arguments_make_the_same_unique_key() {
        // Each map has an order of its own.
        let map = || (0..50).map(|n| (n.to_string(), n)).collect::<HashMap<_, _>>();
        assert_eq!(Unique::of(&map(), HOUR), Unique::of(&map(), HOUR));
        assert_ne!(Unique::of(&(1, 2), HOUR), Unique::of(&(2, 1), HOUR));
        // The key is part of the contract between versions: it must never change.
        assert_eq!(Unique::of(&("a", 1), HOUR).unwrap().key, "197a6d70-a6b3-5d98-8fa2-05402ad63f8c");
        assert!(Unique::of(&u128::MAX, HOUR).is_some());
    }

    #[test]
    fn a_unique_key_always_fits() {
        assert_eq!(Unique::new("invoice-17", HOUR).key, "invoice-17");
        let long = |letter: &str| Unique::new(&letter.repeat(256), HOUR).key;
        assert_eq!((long("a").len(), long("a") == long("b")), (36, false));
        assert_eq!(Unique::new("", HOUR).key.len(), 36);
    }

    #[test]
    fn a_task_goes_before_its_worker() {
        let worker = RetryPolicy::default().retries(2).give_up_after(HOUR).fatal_kinds(["panic"]);
        assert_eq!(TaskDefaults::new().retry_policy(&worker), worker);
        let task = TaskDefaults::new().retries(9).backoff(Backoff::constant(HOUR)).give_up_after(2 * HOUR);
        let expected = worker.clone().retries(9).backoff(Backoff::constant(HOUR)).give_up_after(2 * HOUR);
        assert_eq!(task.retry_policy(&worker), expected);
    }

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
