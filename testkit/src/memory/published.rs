//! What a test asks about: what was published, what waits, what is dead.

use leveret_common::{
    task::Task,
    wire::{Envelope, Limits},
};

use super::MemoryBroker;
use crate::Message;

impl MemoryBroker {
    /// All that was published as a task and stored, in its order, whatever has become of it since: neither what was
    /// refused, nor what workers move to a tier or to the dead.
    #[must_use]
    pub fn published(&self) -> Vec<Message> {
        self.shared.state().journal.published.clone()
    }

    /// The tasks of type `T` among [`published`](Self::published).
    ///
    /// # Panics
    /// If the arguments of one are not those of `T`.
    #[must_use]
    #[track_caller]
    pub fn published_of<T: Task>(&self) -> Vec<T> {
        let published = self.published();
        published.iter().filter(|message| message.task().as_deref() == Some(T::NAME)).map(arguments).collect()
    }

    /// The one task of type `T` that was published.
    ///
    /// # Panics
    /// If there is none, or more than one: with what was published instead.
    #[track_caller]
    pub fn require_published<T: Task>(&self) -> T {
        let mut tasks = self.published_of::<T>();
        match (tasks.pop(), tasks.is_empty()) {
            (Some(task), true) => task,
            (found, _) => {
                let count = tasks.len() + usize::from(found.is_some());
                panic!("one {} was to be published, there are {count}. {}", T::NAME, self.listed())
            }
        }
    }

    /// Makes sure that no task of type `T` was published.
    ///
    /// # Panics
    /// If one was: with all that was published.
    #[track_caller]
    pub fn require_none<T: Task>(&self) {
        let count = self.published_of::<T>().len();
        assert!(count == 0, "no {} was to be published, there are {count}. {}", T::NAME, self.listed());
    }

    /// Forgets what was published so far, for tests in several acts. The tasks themselves stay where they are.
    pub fn forget_published(&self) {
        self.shared.state().journal.published.clear();
    }

    /// The tasks of a work queue that are with no worker: those that are due, and those that come back later from a tier.
    ///
    /// # Panics
    /// If there is no such queue.
    #[must_use]
    #[track_caller]
    pub fn waiting(&self, queue: &str) -> Vec<Message> {
        let tiers: Vec<_> = {
            let state = self.shared.state();
            let start = format!("{queue}.retry.");
            state.queues.keys().filter(|name| name.starts_with(&start)).cloned().collect()
        };
        let mut waiting = self.messages(queue);
        waiting.extend(tiers.iter().flat_map(|tier| self.messages(tier)));
        waiting
    }

    /// What lies in a queue and is with nobody, the next one first. `mail` has what is due, `mail.retry.30s` and the
    /// other tiers what comes back later, `mail.dead` the dead letters.
    ///
    /// # Panics
    /// If there is no such queue, with those that there are.
    #[must_use]
    #[track_caller]
    pub fn messages(&self, queue: &str) -> Vec<Message> {
        let state = self.shared.state();
        let Some(found) = state.queues.get(queue) else {
            let queues: Vec<_> = state.queues.keys().map(String::as_str).collect();
            panic!("there is no queue {queue:?}, there are: {}", queues.join(", "))
        };
        let quorum = found.quorum;
        let message = |stored: &super::queue::Stored| Message {
            exchange: stored.exchange.as_str().to_owned(),
            routing_key: stored.routing_key.as_str().to_owned(),
            redelivered: stored.returns > 0,
            properties: stored.properties(quorum, true),
            body: stored.body.to_vec(),
        };
        found.iter().map(message).collect()
    }

    /// The dead letters of a work queue, the oldest first; see [`Message::dead_reason`].
    ///
    /// # Panics
    /// If there is no such queue.
    #[must_use]
    #[track_caller]
    pub fn dead(&self, queue: &str) -> Vec<Message> {
        self.messages(&format!("{queue}.dead"))
    }

    fn listed(&self) -> String {
        let published = self.published();
        if published.is_empty() {
            return "Nothing was published.".to_owned();
        }
        let line = |message: &Message| {
            let body = String::from_utf8_lossy(&message.body);
            let short: String = body.chars().take(200).collect();
            format!("\n  {} to {}: {short}", message.task().unwrap_or_default(), message.routing_key)
        };
        format!("Published were:{}", published.iter().map(line).collect::<String>())
    }
}

/// The arguments of a task, read as a worker reads them.
#[track_caller]
fn arguments<T: Task>(message: &Message) -> T {
    let (properties, body) = (message.properties.clone(), message.body.clone());
    let envelope = Envelope::decode(&message.routing_key, false, properties, body, &Limits::default());
    let envelope =
        envelope.unwrap_or_else(|error| panic!("a message that was published as {} is none: {error}", T::NAME));
    let body: &[u8] = if envelope.body.is_empty() { b"null" } else { &envelope.body };
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("the body is not what task {} takes: {error}", T::NAME))
}
