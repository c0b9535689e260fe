//! The names of exchanges and queues, and the rules for names from outside.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a work queue: 1 to 100 letters, digits, `-` and `_`.
///
/// Dots are kept for Leveret: a queue is bound with the pattern `<queue>.#`, so that a queue `mail.bulk`
/// would give each of its tasks to a queue `mail` as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueName(String);

impl QueueName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] when it breaks the rules.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        check("queue", name).map(Self)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for QueueName {
    type Error = InvalidName;
    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(&name)
    }
}

impl std::str::FromStr for QueueName {
    type Err = InvalidName;
    fn from_str(name: &str) -> Result<Self, InvalidName> {
        Self::new(name)
    }
}

impl From<QueueName> for String {
    fn from(name: QueueName) -> Self {
        name.0
    }
}

/// The names of the exchanges of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    tasks: String,
    publish: String,
    retry_return: String,
    dead: String,
    lost: String,
    limits: String,
    control: String,
    events: String,
    centre: String,
    deaths: String,
    worker: String,
    registry: String,
}

impl Names {
    /// The names for a namespace, by default `leveret`.
    ///
    /// # Errors
    /// [`InvalidName`] when the namespace breaks the rules of names.
    pub fn new(namespace: &str) -> Result<Self, InvalidName> {
        let namespace = check("namespace", namespace)?;
        let name = |end: &str| format!("{namespace}.{end}");
        Ok(Self {
            tasks: name("tasks"),
            publish: name("publish"),
            retry_return: name("return"),
            dead: name("dead"),
            lost: name("lost"),
            limits: name("limits"),
            control: name("control"),
            events: name("events"),
            centre: name("centre"),
            deaths: name("centre.deaths"),
            worker: name("worker"),
            registry: name("registry"),
        })
    }

    /// Where everyone publishes. What no queue takes goes to [`lost`](Self::lost).
    pub fn tasks(&self) -> &str {
        &self.tasks
    }

    /// Where our own clients publish: the same bindings, but what no queue takes is returned.
    pub fn publish(&self) -> &str {
        &self.publish
    }

    /// Brings a task from a tier, or from the dead, back to its queue.
    pub fn retry_return(&self) -> &str {
        &self.retry_return
    }

    /// Takes a dead task to its queue's dead-letter queue.
    pub fn dead(&self) -> &str {
        &self.dead
    }

    /// Keeps what no queue took: the name of both the exchange and its queue.
    pub fn lost(&self) -> &str {
        &self.lost
    }

    /// Where workers ask whoever keeps the limits that they share.
    pub fn limits(&self) -> &str {
        &self.limits
    }

    /// Where a worker gets the answers; `id` tells it from all others.
    pub fn limits_of(&self, id: &str) -> String {
        format!("{}.{id}", self.limits)
    }

    /// Takes commands to workers. Whoever may write to it may steer them.
    pub fn control(&self) -> &str {
        &self.control
    }

    /// Takes what workers say about themselves and their tasks to whoever has bound a queue.
    pub fn events(&self) -> &str {
        &self.events
    }

    /// Keeps the events of tasks until a centre has read them.
    pub fn centre(&self) -> &str {
        &self.centre
    }

    /// Keeps copies of dead letters until a centre has read them: the name of both the exchange and its queue.
    pub fn deaths(&self) -> &str {
        &self.deaths
    }

    /// Takes copies of the dead letters of one work queue to [`deaths`](Self::deaths).
    pub fn deaths_of(&self, queue: &QueueName) -> String {
        format!("{}.{queue}", self.deaths)
    }

    /// The queue that one worker hears commands from, by its instance.
    pub fn worker(&self, instance: &str) -> String {
        format!("{}.{instance}", self.worker)
    }

    /// The queue through which one who follows the workers hears them.
    pub fn registry(&self, id: &str) -> String {
        format!("{}.{id}", self.registry)
    }
}

/// Whether a name has 1 to 100 letters, digits, `-` and `_`.
pub(crate) fn check(what: &'static str, name: &str) -> Result<String, InvalidName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
        return Err(InvalidName { what, name: name.chars().take(120).collect() });
    }
    Ok(name.to_owned())
}

/// A name breaks the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot name a {what}: use 1 to 100 letters, digits, `-` and `_`")]
pub struct InvalidName {
    /// What it was to name.
    pub what: &'static str,
    /// The name, cut if it is very long.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dots_or_wildcards_are_refused() {
        for name in ["", "mail.bulk", "a#", "*", "mäil", &"q".repeat(101)] {
            assert!(QueueName::new(name).is_err(), "{name}");
        }
        assert_eq!(QueueName::new("mail-bulk_2").unwrap().dead(), "mail-bulk_2.dead");
    }
}
