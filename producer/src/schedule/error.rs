//! Why an expression or a time zone cannot be used, and what to write instead.

use std::{fmt, time::Duration};

use super::Every;

/// A field of a Unix cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31.
    DayOfMonth,
    /// 1 to 12 or `jan` to `dec`.
    Month,
    /// 0 to 7, both ends being Sunday, or `sun` to `sat`.
    DayOfWeek,
}

/// An expression cannot be used; the text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpressionError {
    /// The number of fields is wrong for the dialect.
    #[error("{text:?} has {found} fields where {takes}{fix}")]
    FieldCount {
        /// The whole expression.
        text: String,
        /// How many fields it has.
        found: usize,
        /// What the dialect has.
        takes: &'static str,
        /// What to do about it; may be empty.
        fix: String,
    },
    /// A number is outside of its field.
    #[error("{value} is out of range in the {field} field, which takes {}", field.takes())]
    OutOfRange {
        /// The field.
        field: Field,
        /// The number as written.
        value: String,
    },
    /// A part of a field is neither a number nor a name that the field knows.
    #[error("{value:?} means nothing in the {field} field, which takes `*` or {}", field.takes())]
    Meaningless {
        /// The field.
        field: Field,
        /// The part as written.
        value: String,
    },
    /// A range ends before it starts.
    #[error("the range {value:?} in the {field} field runs backwards: write \"{instead}\"")]
    Backwards {
        /// The field.
        field: Field,
        /// The range as written.
        value: String,
        /// The two ranges that were probably meant.
        instead: String,
    },
    /// A step is not a number from 1 on.
    #[error("{value:?} in the {field} field has no usable step: write a number from 1 on after the slash")]
    Step {
        /// The field.
        field: Field,
        /// The part as written.
        value: String,
    },
    /// A step follows a single number.
    #[error("{value:?} in the {field} field has a step without a range: write \"{instead}\"")]
    StepWithoutRange {
        /// The field.
        field: Field,
        /// The part as written.
        value: String,
        /// The range that was probably meant.
        instead: String,
    },
    /// An `H` that cannot be made a number.
    #[error(
        "{value:?} in the {field} field is no spread: write H, H/15, H(0-29) or H(0-29)/10 with numbers from {lowest} to \
         {highest}"
    )]
    Spread {
        /// The part as written.
        value: String,
        /// What the field is called.
        field: &'static str,
        /// The lowest number of the field.
        lowest: u32,
        /// The highest number that `H` stands for.
        highest: u32,
    },
    /// An `H` where there is no name that its number could follow from.
    #[error("{text:?} has an H, a number that follows from a schedule's name: give the name as well")]
    Nameless {
        /// The whole expression.
        text: String,
    },
    /// An `@` word that is not known, or that names no time.
    #[error(
        "{text:?} is no macro that names a time: use @hourly, @daily, @midnight, @weekly, @monthly, @yearly or \
         @annually under `cron`"
    )]
    Macro {
        /// The whole expression.
        text: String,
    },
    /// A time zone stands in front of the expression.
    #[error("{text:?} starts with a time zone: take it out and set `timezone` instead")]
    ZonePrefix {
        /// The whole expression.
        text: String,
    },
    /// No date matches.
    #[error("{text:?} never runs: no date matches its days, months and years")]
    Never {
        /// The whole expression.
        text: String,
    },
    /// The `cron` crate does not accept a Quartz expression.
    #[error(
        "{text:?} cannot be read ({reason}): the fields are second 0-59, minute 0-59, hour 0-23, day of month 1-31, \
         month 1-12 or JAN-DEC, day of week 1-7 from Sunday or SUN-SAT, year 1970-2100; L, W and # are not understood"
    )]
    Quartz {
        /// The whole expression.
        text: String,
        /// What the crate says.
        reason: String,
    },
    /// The period of a fixed rate cannot be used.
    #[error(
        "a period of {period:?} cannot be used: write whole milliseconds from {:?} to {} days",
        Every::SHORTEST,
        Every::LONGEST.as_secs() / 86_400
    )]
    Period {
        /// The period.
        period: Duration,
    },
}

/// No time zone has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone {name:?}: write a name of the IANA database, such as \"Europe/Berlin\" or \"UTC\"")]
pub struct UnknownZone {
    /// The name as written.
    pub name: String,
}

impl Field {
    /// The lowest and the highest number.
    pub(super) fn range(self) -> (u32, u32) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
        }
    }

    /// The names, from the lowest number on.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
            Self::DayOfWeek => &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
            Self::Minute | Self::Hour | Self::DayOfMonth => &[],
        }
    }

    fn takes(self) -> &'static str {
        match self {
            Self::Minute => "0 to 59",
            Self::Hour => "0 to 23",
            Self::DayOfMonth => "1 to 31",
            Self::Month => "1 to 12 or jan to dec",
            Self::DayOfWeek => "0 to 7 (0 and 7 are Sunday) or sun to sat",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day-of-month",
            Self::Month => "month",
            Self::DayOfWeek => "day-of-week",
        })
    }
}
