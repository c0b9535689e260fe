//! A definition that was checked.

use leveret_common::{
    clock::UnixMillis,
    message::{InvalidMessage, Message},
};

use super::{Calendar, Definition, Facts, ScheduleName, Tick};
use crate::schedule::{Expression, FireTime, Timetable, Zone};

/// A definition that was checked, with its calendars: it names the next tick after any other, the same on every centre.
#[derive(Clone, Debug)]
pub struct Plan {
    name: ScheduleName,
    definition: Definition,
    timetable: Timetable,
}

/// A definition cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fix}")]
pub struct InvalidDefinition {
    /// The key that is wrong, such as `cron`.
    pub key: &'static str,
    /// What is wrong and what to write instead.
    pub fix: String,
}

impl Plan {
    /// Checks a definition. Of `calendars` those that it names must be there; others may.
    ///
    /// # Errors
    /// [`InvalidDefinition`] with the key and the fix.
    pub fn new(name: ScheduleName, definition: Definition, _calendars: &[Calendar]) -> Result<Self, InvalidDefinition> {
        let wrong = |key: &'static str, fix: String| InvalidDefinition { key, fix };
        let expression = match (&definition.cron, &definition.quartz, definition.every) {
            (Some(text), None, None) => Expression::unix(text).map_err(|error| wrong("cron", error.to_string()))?,
            (None, Some(text), None) => Expression::quartz(text).map_err(|error| wrong("quartz", error.to_string()))?,
            (None, None, Some(period)) => {
                Expression::every(period).map_err(|error| wrong("every", error.to_string()))?
            }
            _ => return Err(wrong("cron", "set one of `cron`, `quartz`, `every`, `after` and `at`".to_owned())),
        };
        let zone = definition.timezone.as_deref().map_or_else(|| Ok(Zone::utc()), Zone::named);
        let timetable = Timetable::new(expression, zone.map_err(|error| wrong("timezone", error.to_string()))?);
        Ok(Self { name, definition, timetable })
    }

    /// The schedule's name.
    pub fn name(&self) -> &ScheduleName {
        &self.name
    }

    /// As it was written.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The first tick whose time is after `after`; `None` when there is none any more. Of a fixed delay there is one only
    /// after its last run has ended: see [`Plan::after_end`].
    pub fn next_after(&self, after: UnixMillis) -> Option<Tick> {
        self.timetable.next_after(after).map(|at| Tick { scheduled_at: at, due_at: at })
    }

    /// Of a fixed delay, the tick that follows a run which ended at `ended`, or the first when the schedule was made then.
    /// `None` for all others.
    pub fn after_end(&self, _ended: UnixMillis) -> Option<Tick> {
        None
    }

    /// The last tick whose time is after `after` and up to `until`. It does not go through those in between.
    pub fn last_within(&self, after: UnixMillis, until: UnixMillis) -> Option<Tick> {
        self.timetable.last_within(after, until).map(|at| Tick { scheduled_at: at, due_at: at })
    }

    /// The message of a tick.
    ///
    /// # Errors
    /// [`InvalidMessage`] when it is too large.
    pub fn message(&self, facts: &Facts) -> Result<Message, InvalidMessage> {
        let payload = facts.payload.as_ref().unwrap_or(&self.definition.payload);
        let message = Message::json(&self.definition.task, payload)?.queue(&self.definition.queue);
        Ok(message.id(facts.task_id()).schedule(&facts.schedule.to_string(), facts.scheduled_at))
    }

    /// The next `count` ticks after `after`, for people to check.
    pub fn preview(&self, count: usize, after: UnixMillis) -> Vec<FireTime> {
        self.timetable.preview(count, after)
    }

    /// What is not wrong but should be known: a calendar that ends soon, for one.
    pub fn warnings(&self, _now: UnixMillis) -> Vec<String> {
        Vec::new()
    }
}
