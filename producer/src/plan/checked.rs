//! A definition that was checked.

use std::time::Duration;

use leveret_common::{
    clock::UnixMillis,
    message::{InvalidMessage, Message},
};

use super::{Calendar, Definition, Facts, ScheduleName, Tick, when};
use crate::schedule::{FireTime, Timetable, spread};

/// A definition that was checked, with its calendars: it names the next tick after any other, the same on every centre.
#[derive(Clone, Debug)]
pub struct Plan {
    name: ScheduleName,
    definition: Definition,
    timetable: Timetable,
    /// How far a tick may be due later than its time.
    jitter_ms: u64,
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

impl InvalidDefinition {
    pub(super) fn new(key: &'static str, fix: impl ToString) -> Self {
        Self { key, fix: fix.to_string() }
    }
}

impl Plan {
    /// Checks a definition. Of `calendars` those that it names must be there; others may.
    ///
    /// # Errors
    /// [`InvalidDefinition`] with the key and the fix.
    pub fn new(name: ScheduleName, definition: Definition, calendars: &[Calendar]) -> Result<Self, InvalidDefinition> {
        let timetable = when::timetable(&name.to_string(), &definition, calendars)?;
        let jitter_ms = when::jitter_ms(&definition)?;
        Ok(Self { name, definition, timetable, jitter_ms })
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
        self.timetable.next_after(after).map(|at| self.tick(at))
    }

    /// Of a fixed delay, the tick that follows a run which ended at `ended`, or the first when the schedule was made then.
    /// `None` for all others.
    pub fn after_end(&self, ended: UnixMillis) -> Option<Tick> {
        self.timetable.after_end(ended).map(|at| self.tick(at))
    }

    /// The tick of a time, with the moment at which it is due. It follows from name and time, and is before the next
    /// tick's time and before the schedule's end, so that ticks are due in their order.
    pub fn tick(&self, scheduled_at: UnixMillis) -> Tick {
        let mut due_at = scheduled_at;
        if self.jitter_ms > 0 {
            let next = self.timetable.next_after(scheduled_at).unwrap_or_else(|| self.timetable.ends_at());
            let room = u64::try_from(next.0.saturating_sub(scheduled_at.0)).unwrap_or(0);
            let hash = spread::hash(&["jitter", &self.name.to_string(), &scheduled_at.to_string()]);
            // Up to the whole jitter, but not as far as the next tick.
            let late = spread::below(hash, room.min(self.jitter_ms.saturating_add(1)));
            due_at = due_at + Duration::from_millis(late);
        }
        Tick { scheduled_at, due_at }
    }

    /// Its timetable.
    pub fn timetable(&self) -> &Timetable {
        &self.timetable
    }

    /// The last tick whose time is after `after` and up to `until`. It does not go through those in between.
    pub fn last_within(&self, after: UnixMillis, until: UnixMillis) -> Option<Tick> {
        self.timetable.last_within(after, until).map(|at| self.tick(at))
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

    /// The next `count` ticks after `after`, for people to check. Of a fixed delay it is the one that follows a run which
    /// ended at `after`.
    pub fn preview(&self, count: usize, after: UnixMillis) -> Vec<FireTime> {
        let first = self.next_after(after).or_else(|| self.after_end(after));
        let ticks = std::iter::successors(first, |tick| self.next_after(tick.scheduled_at)).take(count);
        let moments: Vec<_> = ticks.map(|tick| (tick.scheduled_at, tick.due_at)).collect();
        self.timetable.zone().fire_times(after, &moments)
    }

    /// What is not wrong but should be known: a calendar that ends soon, for one.
    pub fn warnings(&self, _now: UnixMillis) -> Vec<String> {
        Vec::new()
    }
}
