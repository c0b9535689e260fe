//! A definition that was checked.

use std::{borrow::Cow, fmt, time::Duration};

use leveret_common::{
    clock::UnixMillis,
    message::{InvalidMessage, Message},
};
use serde_json::Value;

use super::{Calendar, Definition, Facts, ScheduleName, Tick, TickKind, calendar::ends_soon, check, template, when};
use crate::schedule::{FireTime, Timetable, spread};

/// A definition that was checked, with its calendars: it names the next tick after any other, the same on every centre.
#[derive(Clone, Debug)]
pub struct Plan {
    name: ScheduleName,
    definition: Definition,
    timetable: Timetable,
    /// How far a tick may be due later than its time.
    jitter_ms: u64,
    /// The last day that each of its calendars knows, in the order of the definition.
    known_until: Box<[Option<Box<str>>]>,
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
    pub(super) fn new(key: &'static str, fix: impl fmt::Display) -> Self {
        Self { key, fix: format!("{fix}") }
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
        check::check(&definition)?;
        let named = |name: &String| calendars.iter().find(|calendar| calendar.name == *name);
        let last_day = |name| named(name).and_then(Calendar::last_day).map(Box::from);
        let known_until = definition.calendars.iter().map(last_day).collect();
        let plan = Self { name, definition, timetable, jitter_ms, known_until };
        check::check_size(&plan)?;
        Ok(plan)
    }

    /// The schedule's name.
    pub fn name(&self) -> &ScheduleName {
        &self.name
    }

    /// As it was written.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The first tick whose time is after `after`; `None` when there is none any more, or the schedule is not enabled. Of
    /// a fixed delay there is one only after its last run has ended: see [`Plan::after_end`].
    pub fn next_after(&self, after: UnixMillis) -> Option<Tick> {
        self.upcoming(after).filter(|_| self.definition.enabled)
    }

    /// The same, whether it is enabled or not.
    fn upcoming(&self, after: UnixMillis) -> Option<Tick> {
        self.timetable.next_after(after).map(|at| self.tick(at))
    }

    /// Of a fixed delay, the tick that follows a run which ended at `ended`, or the first when the schedule was made then.
    /// `None` for all others.
    pub fn after_end(&self, ended: UnixMillis) -> Option<Tick> {
        self.timetable.after_end(ended).filter(|_| self.definition.enabled).map(|at| self.tick(at))
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
        let last = self.timetable.last_within(after, until).filter(|_| self.definition.enabled);
        last.map(|at| self.tick(at))
    }

    /// The message of a tick, with the labels of its schedule. It asks for events, so that the centre learns what becomes
    /// of the task.
    ///
    /// # Errors
    /// [`InvalidMessage`] when it is too large.
    pub fn message(&self, facts: &Facts) -> Result<Message, InvalidMessage> {
        let message = self.rendered(facts)?;
        let message = message.id(facts.task_id()).schedule(&facts.schedule.to_string(), facts.scheduled_at);
        Ok(message.labels(&self.definition.labels).track())
    }

    /// The arguments of a tick's task: the definition's or those that the facts have, with the facts in place of their
    /// placeholders.
    pub fn arguments<'a>(&'a self, facts: &'a Facts) -> Cow<'a, Value> {
        template::render(facts.payload.as_ref().unwrap_or(&self.definition.payload), facts, self.timetable.zone())
    }

    /// The message with the facts in place of its placeholders.
    fn rendered(&self, facts: &Facts) -> Result<Message, InvalidMessage> {
        let (payload, zone) = (self.arguments(facts), self.timetable.zone());
        let key = self.definition.key.as_deref().map(|key| template::render_text(key, facts, zone));
        self.definition.message(&payload, key.as_deref())
    }

    /// The key whose texts have placeholders, if one has.
    pub(crate) fn templated(&self) -> Option<&'static str> {
        let key = self.definition.key.as_deref().unwrap_or_default();
        if template::has(&self.definition.payload, &template::NAMES) {
            return Some("payload");
        }
        template::text_has(key, &template::NAMES).then_some("key")
    }

    /// The message of a plan without placeholders, the same for each tick but for its id.
    pub(crate) fn plain_message(&self) -> Result<Message, InvalidMessage> {
        self.rendered(&Facts {
            schedule: self.name.clone(),
            scheduled_at: UnixMillis(0),
            kind: TickKind::Tick,
            number: 0,
            last_success: None,
            payload: None,
        })
    }

    /// Checks arguments that are to go in place of the definition's.
    ///
    /// # Errors
    /// [`InvalidDefinition`] for a placeholder that is not known.
    pub fn check_payload(payload: &Value) -> Result<(), InvalidDefinition> {
        template::check(payload).map_err(|fix| InvalidDefinition::new("payload", fix))
    }

    /// The next `count` ticks after `after`, for people to check. Of a fixed delay it is the one that follows a run which
    /// ended at `after`.
    pub fn preview(&self, count: usize, after: UnixMillis) -> Vec<FireTime> {
        let first = self.upcoming(after).or_else(|| self.timetable.after_end(after).map(|at| self.tick(at)));
        let ticks = std::iter::successors(first, |tick| self.upcoming(tick.scheduled_at)).take(count);
        let moments: Vec<_> = ticks.map(|tick| (tick.scheduled_at, tick.due_at)).collect();
        self.timetable.zone().fire_times(after, &moments)
    }

    /// What is not wrong but should be known: a calendar that has ended or ends within sixty days, and that there is no
    /// tick any more.
    pub fn warnings(&self, now: UnixMillis) -> Vec<String> {
        let calendars = self.definition.calendars.iter().zip(&self.known_until);
        let mut warnings: Vec<_> =
            calendars.filter_map(|(name, last_day)| ends_soon(name, last_day.as_deref(), now)).collect();
        if self.preview(1, now).is_empty() {
            warnings.push("it does not run any more: all its times are over".to_owned());
        }
        warnings
    }
}
