//! A schedule: a name, a timetable, and the message that each tick publishes.

use std::time::Duration;

use leveret_common::{clock::UnixMillis, message::Message, task::TaskId};

use super::Timetable;

/// A schedule: at each moment of its timetable, a tick, a task is published.
#[derive(Clone, Debug)]
pub struct Schedule {
    name: String,
    timetable: Timetable,
    message: Message,
    catch_up: Duration,
}

impl Schedule {
    /// How long a tick stays worth publishing unless said otherwise: one day, so that a nightly task survives an
    /// outage of the whole night.
    pub const CATCH_UP: Duration = Duration::from_secs(86_400);

    /// A schedule that publishes copies of `message`, each under the id of its tick.
    ///
    /// # Errors
    /// [`InvalidName`] when the name breaks the rules.
    pub fn new(name: &str, timetable: Timetable, message: Message) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
            return Err(InvalidName { name: name.chars().take(120).collect() });
        }
        Ok(Self { name: name.to_owned(), timetable, message, catch_up: Self::CATCH_UP })
    }

    /// Sets how long a tick stays worth publishing. One that the broker has not confirmed by then is given up.
    /// Default: [`Schedule::CATCH_UP`].
    #[must_use]
    pub fn catch_up(mut self, window: Duration) -> Self {
        self.catch_up = window;
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it runs.
    pub fn timetable(&self) -> &Timetable {
        &self.timetable
    }

    /// How long a tick stays worth publishing.
    pub fn catch_up_window(&self) -> Duration {
        self.catch_up
    }

    /// The id of the task that the tick at `at` publishes. It follows from the schedule's name and the time, so that
    /// a tick that is published twice, by one producer or by two, can be told.
    pub fn tick_id(&self, at: UnixMillis) -> TaskId {
        TaskId::derived(&["schedule", &self.name, &at.to_string()])
    }

    /// The message of the tick at `at`.
    pub fn tick(&self, at: UnixMillis) -> Message {
        self.message.clone().id(self.tick_id(at)).schedule(&self.name, at)
    }
}

/// The name of a schedule breaks the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot name a schedule: use 1 to 100 letters, digits, `-`, `_` and `.`")]
pub struct InvalidName {
    /// The name, cut if it is very long.
    pub name: String,
}
