//! Days on which schedules do not run, and days on which they run out of turn.

use std::collections::BTreeMap;

use jiff::{Timestamp, Unit, civil::Date, tz::TimeZone};
use leveret_common::clock::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{DayKind, InvalidCalendar};
use crate::schedule::SpecialDays;

/// How many days ahead a calendar should reach.
const REACH: i32 = 60;

/// Days with a meaning, by their dates: holidays, and the workdays that make up for them. Which day is which is
/// decreed, not computed: so it is data, and it ends somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Its name, as schedules refer to it: 1 to 100 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The days, by their dates in ISO 8601: `2027-02-06`.
    pub days: BTreeMap<String, CalendarDay>,
}

/// What a day is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "centre", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CalendarDay {
    /// Whether schedules run on it.
    pub kind: DayKind,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Calendar {
    /// Checks its name and its dates.
    ///
    /// # Errors
    /// [`InvalidCalendar`] with the fix.
    pub fn check(&self) -> Result<(), InvalidCalendar> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > 100 || !self.name.chars().all(allowed) {
            let name: String = self.name.chars().take(120).collect();
            let fix = format!("{name:?} cannot name a calendar: use 1 to 100 letters, digits, `-`, `_` and `.`");
            return Err(InvalidCalendar::new(None, fix));
        }
        let days = self.days.iter().map(|(date, day)| (date.as_str(), day.kind));
        SpecialDays::new(days).map(drop).map_err(|error| InvalidCalendar::new(None, error))
    }

    /// The last day that it knows, such as `2027-10-10`.
    pub fn last_day(&self) -> Option<&str> {
        // ISO dates sort as texts.
        self.days.keys().next_back().map(String::as_str)
    }

    /// What is not wrong but should be known: that it ends within sixty days, or has ended. The days after it are
    /// perhaps decreed already, and not loaded.
    pub fn warning(&self, now: UnixMillis) -> Option<String> {
        ends_soon(&self.name, self.last_day(), now)
    }
}

/// See [`Calendar::warning`].
pub(super) fn ends_soon(name: &str, last_day: Option<&str>, now: UnixMillis) -> Option<String> {
    let Some(last_day) = last_day else { return Some(format!("calendar {name:?} knows no day: load its days")) };
    let last: Date = last_day.parse().ok()?;
    let today = Timestamp::from_millisecond(now.0).ok()?.to_zoned(TimeZone::UTC).date();
    let left = today.until((Unit::Day, last)).ok()?.get_days();
    match left {
        ..0 => {
            Some(format!("calendar {name:?} knows no day after {last_day}, which is over: load the days that follow"))
        }
        0..=REACH => {
            Some(format!("calendar {name:?} knows no day after {last_day}, in {left} days: load the days that follow"))
        }
        _ => None,
    }
}
