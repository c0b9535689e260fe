//! The `[schedules.<name>]` tables of `leveret.toml`: a [`Definition`](crate::plan::Definition) each.
//!
//! The scheduling centre carries out all that a definition can say. The cron producer, which keeps nothing, carries out
//! what needs no memory, and refuses the rest.

use std::{collections::BTreeMap, fmt};

use crate::{
    plan::{Calendar, DEFAULT_NAMESPACE, InvalidDefinition, Missed, Overlap, Plan, ScheduleName},
    schedule::Schedule,
};

pub use crate::plan::Definition as ScheduleSettings;

impl ScheduleSettings {
    /// Checks the settings and makes the schedule of them that the cron producer runs.
    ///
    /// # Errors
    /// [`InvalidSchedule`] with the key and the fix; also for what only the centre can carry out.
    pub fn schedule(&self, name: &str) -> Result<Schedule, InvalidSchedule> {
        let refused = |(key, why)| {
            let fix = format!("{why}: run `leveret centre`, or take it out");
            InvalidSchedule::new(name, key, fix)
        };
        if let Some(needed) = self.needs_centre() {
            return Err(refused(needed));
        }
        if [self.cron.is_some(), self.quartz.is_some(), self.every.is_some()].iter().filter(|set| **set).count() != 1 {
            return Err(InvalidSchedule::new(name, "", "set one of `cron`, `quartz` and `every`, and only one"));
        }
        let plan = self.plan(name, &[])?;
        if let Some(key) = plan.templated() {
            return Err(refused((key, "the cron producer publishes the same each time, without placeholders")));
        }
        let message = plan.plain_message().map_err(|error| InvalidSchedule::new(name, "payload", error))?;
        Schedule::new(name, plan.timetable().clone(), message)
            .map(|schedule| schedule.catch_up(self.catch_up))
            .map_err(|error| InvalidSchedule::new(name, "", error))
    }

    /// Checks the settings as the centre does, but for the calendars, which it alone knows.
    ///
    /// # Errors
    /// [`InvalidSchedule`] with the key and the fix.
    pub fn check(&self, name: &str) -> Result<(), InvalidSchedule> {
        let calendars = self.calendars.iter().map(|name| Calendar { name: name.clone(), ..Calendar::default() });
        self.plan(name, &calendars.collect::<Vec<_>>()).map(drop)
    }

    fn plan(&self, name: &str, calendars: &[Calendar]) -> Result<Plan, InvalidSchedule> {
        let full = ScheduleName::new(DEFAULT_NAMESPACE, name).map_err(|error| InvalidSchedule::new(name, "", error))?;
        Plan::new(full, self.clone(), calendars).map_err(|InvalidDefinition { key, fix }| {
            // Nothing says when: then the table as a whole is wrong.
            let key = if key == "cron" && self.cron.is_none() { "" } else { key };
            InvalidSchedule::new(name, key, fix)
        })
    }

    /// The first key that takes a memory to carry out, and why.
    fn needs_centre(&self) -> Option<(&'static str, &'static str)> {
        let keys = [
            ("after", self.after.is_some(), "the cron producer does not know when a run has ended"),
            ("at", self.at.is_some(), "the cron producer does not know whether it has run"),
            ("calendars", !self.calendars.is_empty(), "the cron producer has no calendars"),
            ("jitter", self.jitter.is_some(), "the cron producer publishes each tick at its time"),
            ("runs", self.runs.is_some(), "the cron producer does not count runs"),
            ("missed", self.missed != Missed::Latest, "the cron producer does not know which ticks were missed"),
            ("overlap", self.overlap != Overlap::Allow, "the cron producer does not know when a run has ended"),
            ("group", self.group.is_some(), "the cron producer does not know when a run has ended"),
            ("pause_after", self.pause_after.is_some(), "the cron producer does not know which runs failed"),
        ];
        keys.into_iter().find(|(_, set, _)| *set).map(|(key, _, why)| (key, why))
    }
}

/// Checks all schedules and makes those that are enabled.
///
/// # Errors
/// Every [`InvalidSchedule`], one for each schedule that cannot work.
pub fn enabled_schedules(settings: &BTreeMap<String, ScheduleSettings>) -> Result<Vec<Schedule>, Vec<InvalidSchedule>> {
    let (mut schedules, mut errors) = (Vec::new(), Vec::new());
    for (name, settings) in settings {
        match settings.schedule(name) {
            Ok(schedule) if settings.enabled => schedules.push(schedule),
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(schedules) } else { Err(errors) }
}

/// A schedule has a setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fix}")]
pub struct InvalidSchedule {
    /// The key in `leveret.toml`, such as `schedules.nightly.cron`.
    pub key: String,
    /// What is wrong and what to write instead.
    pub fix: String,
}

impl InvalidSchedule {
    fn new(name: &str, key: &str, fix: impl fmt::Display) -> Self {
        let key = if key.is_empty() { format!("schedules.{name}") } else { format!("schedules.{name}.{key}") };
        Self { key, fix: fix.to_string() }
    }
}
