//! Days on which schedules do not run, and days on which they run out of turn.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DayKind;

/// Days with a meaning, by their dates: holidays, and the workdays that make up for them. Which day is which is
/// decreed, not computed: so it is data, and it ends somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Its name, as schedules refer to it.
    pub name: String,
    /// The days, by their dates in ISO 8601: `2027-02-06`.
    pub days: BTreeMap<String, CalendarDay>,
}

/// What a day is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalendarDay {
    /// Whether schedules run on it.
    pub kind: DayKind,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
