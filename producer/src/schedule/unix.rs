//! Unix cron: five fields with the meaning of Vixie cron and cronie.

use super::{
    calendar::{Calendar, Days},
    error::{ExpressionError, Field},
    expression::{Cron, Pace},
    special::SpecialDays,
};

const MACROS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

pub(super) fn parse(text: &str) -> Result<Cron, ExpressionError> {
    let text = text.trim();
    let fields = match text.chars().next() {
        Some('@') => MACROS
            .iter()
            .find_map(|(name, fields)| (*name == text).then_some(*fields))
            .ok_or_else(|| ExpressionError::Macro { text: text.to_owned() })?,
        _ if text.starts_with("CRON_TZ=") || text.starts_with("TZ=") => {
            return Err(ExpressionError::ZonePrefix { text: text.to_owned() });
        }
        _ => text,
    };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let &[minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err(field_count(text, fields.len()));
    };

    // Both 0 and 7 are Sunday, and the calendar knows it as 0.
    let weekdays = parse_field(Field::DayOfWeek, weekday)?;
    let weekdays = (weekdays | weekdays >> 7) & 0x7f;
    // It is the first character that counts, as in cronie: `*/2` is a star, `1-31` is not.
    let star = |field: &str| field.starts_with('*');
    let calendar = Calendar {
        seconds: 1,
        minutes: parse_field(Field::Minute, minute)?,
        hours: parse_field(Field::Hour, hour)?,
        days: parse_field(Field::DayOfMonth, day)?,
        months: parse_field(Field::Month, month)?,
        weekdays,
        combine: if star(day) || star(weekday) { Days::Both } else { Days::Either },
        years: None,
    };
    if calendar.next(0, &SpecialDays::default()).is_none() {
        return Err(ExpressionError::Never { text: text.to_owned() });
    }
    let pace = if star(minute) || star(hour) { Pace::Interval } else { Pace::FixedTimes };
    Ok(Cron { text: text.into(), calendar, pace })
}

fn field_count(text: &str, found: usize) -> ExpressionError {
    let fix = match found {
        6 | 7 => format!("; if it starts with seconds, write quartz = {text:?}"),
        _ => String::new(),
    };
    let takes = "Unix cron has 5: minute, hour, day of month, month, day of week";
    ExpressionError::FieldCount { text: text.to_owned(), found, takes, fix }
}

/// The set of values that a field names.
fn parse_field(field: Field, text: &str) -> Result<u64, ExpressionError> {
    text.split(',').try_fold(0, |bits, part| Ok(bits | parse_part(field, part)?))
}

/// Reads one part of a list: `*`, `7`, `1-5`, each of them but the single number with a step.
fn parse_part(field: Field, part: &str) -> Result<u64, ExpressionError> {
    let (lowest, highest) = field.range();
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let (from, to) = if range == "*" {
        (lowest, highest)
    } else if let Some((from, to)) = range.split_once('-') {
        (parse_value(field, from)?, parse_value(field, to)?)
    } else {
        let value = parse_value(field, range)?;
        if step.is_some() {
            let instead = format!("{value}-{}/{}", last_value(field), step.unwrap_or_default());
            return Err(ExpressionError::StepWithoutRange { field, value: part.to_owned(), instead });
        }
        (value, value)
    };
    if from > to {
        let (last, step) = (last_value(field), step.map(|step| format!("/{step}")).unwrap_or_default());
        let instead = format!("{from}-{last}{step},{lowest}-{to}{step}");
        return Err(ExpressionError::Backwards { field, value: part.to_owned(), instead });
    }
    let step = match step.map(str::parse) {
        None => 1,
        Some(Ok(step)) if step > 0 => step,
        Some(_) => return Err(ExpressionError::Step { field, value: part.to_owned() }),
    };
    Ok((from..=to).step_by(step).fold(0, |bits, value| bits | 1 << value))
}

fn parse_value(field: Field, text: &str) -> Result<u32, ExpressionError> {
    let (lowest, highest) = field.range();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(value) if (lowest..=highest).contains(&value) => Ok(value),
            _ => Err(ExpressionError::OutOfRange { field, value: text.to_owned() }),
        };
    }
    (lowest..)
        .zip(field.names())
        .find_map(|(value, name)| name.eq_ignore_ascii_case(text).then_some(value))
        .ok_or_else(|| ExpressionError::Meaningless { field, value: text.to_owned() })
}

/// The highest value for a suggestion: Saturday is the last day of the week, Sunday being 0.
fn last_value(field: Field) -> u32 {
    match field {
        Field::DayOfWeek => 6,
        _ => field.range().1,
    }
}
