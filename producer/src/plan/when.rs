//! The part of a definition that is time: what it says of when, and when not.

use std::time::Duration;

use leveret_common::clock::UnixMillis;

use super::{Calendar, Definition, InvalidDefinition, template};
use crate::schedule::{Dialect, Expression, Fold, Gap, SpecialDays, Timetable, Zone, is_absolute};

/// Placeholders that are written in the zone.
const TIMES: [&str; 2] = ["scheduled_at", "last_success"];
/// The longest jitter.
const LONGEST_JITTER: Duration = Duration::from_secs(31 * 86_400);

/// Checks what a definition says of time, and makes its timetable.
pub(super) fn timetable(
    name: &str,
    definition: &Definition,
    calendars: &[Calendar],
) -> Result<Timetable, InvalidDefinition> {
    let key = pace_key(definition)?;
    let zone = match &definition.timezone {
        Some(text) => Zone::named(text).map_err(|error| InvalidDefinition::new("timezone", error))?,
        None => Zone::utc(),
    };
    let expression = expression(name, definition, &zone).map_err(|fix| InvalidDefinition::new(key, fix))?;
    check_keys(definition, expression.dialect())?;

    let mut timetable = Timetable::new(expression, zone);
    if let Some(gap) = definition.gap {
        timetable = timetable.gap(gap);
    }
    if let Some(fold) = definition.fold {
        timetable = timetable.fold(fold);
    }
    timetable = timetable.special_days(special_days(definition, calendars)?);
    let edge = |key: &'static str, text: &Option<String>, zone: &Zone| {
        let moment = text.as_deref().map(|text| zone.read(text, Gap::RunAfter));
        moment.transpose().map_err(|fix| InvalidDefinition::new(key, fix))
    };
    let starts_at = edge("starts_at", &definition.starts_at, timetable.zone())?;
    let ends_at = edge("ends_at", &definition.ends_at, timetable.zone())?;
    if let (Some(start), Some(end)) = (starts_at, ends_at)
        && start >= end
    {
        return Err(InvalidDefinition::new("ends_at", "it is not after `starts_at`: write a later one"));
    }
    check_runs(key, &timetable, starts_at, ends_at)?;
    timetable = starts_at.into_iter().fold(timetable, Timetable::starting);
    Ok(ends_at.into_iter().fold(timetable, Timetable::ending))
}

/// How far a tick may be due later than its time, in milliseconds.
pub(super) fn jitter_ms(definition: &Definition) -> Result<u64, InvalidDefinition> {
    match definition.jitter {
        None => Ok(0),
        Some(jitter) if jitter.is_zero() || jitter > LONGEST_JITTER || jitter.subsec_nanos() % 1_000_000 != 0 => {
            Err(InvalidDefinition::new("jitter", "write whole milliseconds from 1ms to 31days, or leave it out"))
        }
        Some(jitter) => Ok(u64::try_from(jitter.as_millis()).unwrap_or(0)),
    }
}

/// The key that says when; there has to be one, and only one.
fn pace_key(definition: &Definition) -> Result<&'static str, InvalidDefinition> {
    let keys = [
        ("cron", definition.cron.is_some()),
        ("quartz", definition.quartz.is_some()),
        ("every", definition.every.is_some()),
        ("after", definition.after.is_some()),
        ("at", definition.at.is_some()),
    ];
    let mut set = keys.iter().filter(|(_, set)| *set).map(|(key, _)| *key);
    match (set.next(), set.next()) {
        (Some(key), None) => Ok(key),
        (Some(first), Some(second)) => {
            Err(InvalidDefinition::new(second, format!("`{first}` says when already: keep one of the two")))
        }
        (None, _) => Err(InvalidDefinition::new(
            "cron",
            "set one of `cron`, `quartz` and `every`, or `after` or `at`, and only one",
        )),
    }
}

/// What is wrong comes back as text.
fn expression(name: &str, definition: &Definition, zone: &Zone) -> Result<Expression, String> {
    let expression = match (&definition.cron, &definition.quartz, definition.every, definition.after) {
        (Some(text), ..) => Expression::unix_of(name, text),
        (_, Some(text), ..) => Expression::quartz_of(name, text),
        (_, _, Some(period), _) => Expression::every(period),
        (.., Some(delay)) => Expression::after(delay),
        (None, None, None, None) => {
            let text = definition.at.as_deref().unwrap_or_default();
            let moment = zone.read(text, definition.gap.unwrap_or(Gap::RunAfter));
            return moment.map(Expression::at).map_err(|error| error.to_string());
        }
    };
    expression.map_err(|error| error.to_string())
}

/// Refuses what has no meaning for this kind of schedule.
fn check_keys(definition: &Definition, dialect: Dialect) -> Result<(), InvalidDefinition> {
    let wrong = |key, fix: String| Err(InvalidDefinition::new(key, fix));
    match dialect {
        Dialect::Every | Dialect::After => {
            let leaps = [("gap", definition.gap.is_some()), ("fold", definition.fold.is_some())];
            if let Some((key, _)) = leaps.iter().find(|(_, set)| *set) {
                return wrong(key, format!("`{dialect}` counts time and knows no leaps of the clock: take it out"));
            }
            if definition.timezone.is_some() && !needs_zone(definition) {
                let what = if dialect == Dialect::Every { "a fixed rate" } else { "a fixed delay" };
                return wrong("timezone", format!("{what} is the same in every zone: take it out, or use `cron`"));
            }
        }
        Dialect::At => {
            let reason = "`at` is one moment: take it out";
            if definition.fold == Some(Fold::Both) {
                return wrong("fold", reason.to_owned());
            }
            if !definition.calendars.is_empty() {
                return wrong("calendars", reason.to_owned());
            }
            if definition.runs.is_some() {
                return wrong("runs", reason.to_owned());
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether anything of a fixed rate or delay speaks of local time.
fn needs_zone(definition: &Definition) -> bool {
    let local = |text: &Option<String>| text.as_deref().is_some_and(|text| !is_absolute(text));
    !definition.calendars.is_empty()
        || local(&definition.starts_at)
        || local(&definition.ends_at)
        || template::has(&definition.payload, &TIMES)
        || definition.key.as_deref().is_some_and(|key| template::text_has(key, &TIMES))
}

fn special_days(definition: &Definition, calendars: &[Calendar]) -> Result<SpecialDays, InvalidDefinition> {
    let mut days = Vec::new();
    for (at, name) in definition.calendars.iter().enumerate() {
        if definition.calendars[..at].contains(name) {
            return Err(InvalidDefinition::new("calendars", format!("{name:?} is named twice: keep one")));
        }
        let Some(calendar) = calendars.iter().find(|calendar| calendar.name == *name) else {
            let known: Vec<_> = calendars.iter().map(|calendar| calendar.name.as_str()).collect();
            let fix = if known.is_empty() {
                format!("there is no calendar {name:?}: make it first")
            } else {
                format!("there is no calendar {name:?}: write one of {}, or make it first", known.join(", "))
            };
            return Err(InvalidDefinition::new("calendars", fix));
        };
        days.extend(calendar.days.iter().map(|(date, day)| (date.as_str(), day.kind)));
    }
    SpecialDays::new(days).map_err(|error| InvalidDefinition::new("calendars", error))
}

/// Refuses what never runs.
fn check_runs(
    key: &'static str,
    timetable: &Timetable,
    starts_at: Option<UnixMillis>,
    ends_at: Option<UnixMillis>,
) -> Result<(), InvalidDefinition> {
    if timetable.expression().dialect() == Dialect::After {
        return Ok(());
    }
    if timetable.next_after(UnixMillis(-1)).is_none() {
        return Err(if timetable.has_special_days() {
            InvalidDefinition::new("calendars", "it never runs: every day that it names is off")
        } else {
            InvalidDefinition::new("gap", "it never runs: the clock leaps over every time that it names")
        });
    }
    let first = timetable.next_after(UnixMillis(starts_at.map_or(-1, |start| start.0 - 1)));
    match (first, starts_at, ends_at) {
        (None, ..) => {
            let last = timetable.last_within(UnixMillis(-1), starts_at.unwrap_or_default());
            let last = last.and_then(|last| timetable.zone().local(last)).map_or(String::new(), |(at, _)| at);
            Err(InvalidDefinition::new("starts_at", format!("it never runs from then on: its last time is {last}")))
        }
        (Some(first), _, Some(end)) if first >= end => {
            let first = timetable.zone().local(first).map_or(String::new(), |(at, _)| at);
            let fix =
                format!("it never runs before then: its first time is {first}; write a later one, or change `{key}`");
            Err(InvalidDefinition::new("ends_at", fix))
        }
        _ => Ok(()),
    }
}
