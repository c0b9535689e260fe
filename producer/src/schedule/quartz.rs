//! Quartz cron: six or seven fields, read by the `cron` crate.
//!
//! The crate says which values each field has, and no more: its own search knows no policy for local times that do
//! not exist or exist twice, and inside a repeated hour it answers with moments in the past.

use std::str::FromStr as _;

use cron::TimeUnitSpec;

use super::{
    calendar::{Calendar, Days, FIRST_YEAR},
    error::ExpressionError,
    expression::{Cron, Pace},
    special::SpecialDays,
};

pub(super) fn parse(text: &str) -> Result<Cron, ExpressionError> {
    let text = text.trim();
    if text.starts_with('@') {
        return Err(ExpressionError::Macro { text: text.to_owned() });
    }
    // The crate takes fields that run into each other; we want to count them.
    let fields: Vec<&str> = text.split_whitespace().collect();
    if !(6..=7).contains(&fields.len()) {
        return Err(field_count(text, fields.len()));
    }
    let schedule = cron::Schedule::from_str(&fields.join(" "))
        .map_err(|error| ExpressionError::Quartz { text: text.to_owned(), reason: error.to_string() })?;
    let calendar = Calendar {
        seconds: bits(schedule.seconds()),
        minutes: bits(schedule.minutes()),
        hours: bits(schedule.hours()),
        days: bits(schedule.days_of_month()),
        months: bits(schedule.months()),
        // The crate counts from 1, Sunday.
        weekdays: bits(schedule.days_of_week()) >> 1,
        combine: Days::Both,
        years: (!schedule.years().is_all()).then(|| year_bits(schedule.years())),
    };
    if calendar.next(0, &SpecialDays::default()).is_none() {
        return Err(ExpressionError::Never { text: text.to_owned() });
    }
    // `0/5` and `*/5` are the same times, so they are the same pace.
    let interval = fields.iter().take(3).any(|field| field.starts_with('*') || field.starts_with("0/"));
    let pace = if interval { Pace::Interval } else { Pace::FixedTimes };
    Ok(Cron { text: text.into(), calendar, pace })
}

fn field_count(text: &str, found: usize) -> ExpressionError {
    let fix = match found {
        5 => format!("; if it starts with minutes, write cron = {text:?}"),
        _ => String::new(),
    };
    let takes = "Quartz cron has 6 or 7: second, minute, hour, day of month, month, day of week and perhaps year";
    ExpressionError::FieldCount { text: text.to_owned(), found, takes, fix }
}

fn bits(values: &impl TimeUnitSpec) -> u64 {
    values.iter().fold(0, |bits, value| bits | 1 << value)
}

fn year_bits(years: &impl TimeUnitSpec) -> [u64; 3] {
    let mut bits = [0; 3];
    for year in years.iter() {
        let bit = i64::from(year) - FIRST_YEAR;
        if let Some(word) = usize::try_from(bit / 64).ok().and_then(|word| bits.get_mut(word)) {
            *word |= 1 << (bit % 64);
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    use super::*;

    fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
        let value = min..=max;
        prop_oneof![
            4 => Just("*".to_owned()),
            2 => value.clone().prop_map(|value| value.to_string()),
            1 => (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            1 => (value.clone(), 1..=max).prop_map(|(a, step)| format!("{a}/{step}")),
            1 => proptest::collection::vec(value, 2..4)
                .prop_map(|values| values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        ]
    }

    proptest! {
        /// On a clock without leaps the crate's own search is right, and ours agrees with it.
        #[test]
        fn our_calendar_is_the_crates(
            fields in (field(0, 59), field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(1, 7)),
            years in proptest::option::of(field(2020, 2035)),
            from in 1_500_000_000_i64..2_200_000_000,
        ) {
            let (second, minute, hour, day, month, weekday) = fields;
            let text = format!("{second} {minute} {hour} {day} {month} {weekday} {}", years.unwrap_or("*".into()));
            let theirs = cron::Schedule::from_str(&text).unwrap();
            let after = DateTime::<Utc>::from_timestamp(from - 1, 0).unwrap();
            let expected = theirs.after(&after).next().map(|at| at.timestamp());
            match parse(&text) {
                Ok(cron) => prop_assert_eq!(cron.calendar.next(from, &SpecialDays::default()), expected, "{}", text),
                Err(_) => prop_assert_eq!(expected, None, "{}", text),
            }
        }
    }
}
