//! What a user wrote down: an expression and the dialect it is written in.

use std::{fmt, time::Duration};

use leveret_common::{clock::UnixMillis, duration};

use super::{Every, calendar::Calendar, error::ExpressionError, quartz, spread, unix};

/// When a schedule runs, without the time zone. The dialect is always said, never guessed: `5-7` is Friday to Sunday
/// in one dialect and Thursday to Saturday in another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expression {
    /// Five fields with the meaning of Vixie cron and cronie, or a macro such as `@daily`.
    Unix(Cron),
    /// Six or seven fields that start with seconds; Sunday is 1.
    Quartz(Cron),
    /// A fixed rate.
    Every(Every),
    /// A fixed delay: so long after the last run has ended.
    After(Duration),
    /// Once, at this moment.
    At(UnixMillis),
}

/// The dialect of an [`Expression`]; it prints as its key in `leveret.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// `cron`
    Unix,
    /// `quartz`
    Quartz,
    /// `every`
    Every,
    /// `after`
    After,
    /// `at`
    At,
}

/// A cron expression that has been read, whichever its dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    pub(super) text: Box<str>,
    pub(super) calendar: Calendar,
    pub(super) pace: Pace,
}

/// What becomes of local times that do not exist or exist twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Runs once for each local time that it names.
    FixedTimes,
    /// Runs whenever the clock on the wall shows a matching time.
    Interval,
}

impl Expression {
    /// Reads a Unix cron expression: minute, hour, day of month, month, day of week.
    ///
    /// * `*`, numbers, ranges `1-5`, lists `1,15`, steps `*/10` and `8-18/2`; `jan`-`dec` and `sun`-`sat` in any case.
    /// * 0 and 7 are Sunday, so that `5-7` is Friday to Sunday.
    /// * When neither day field starts with `*`, a day matches when *one* of them does: `0 9 13 * fri` runs on every
    ///   13th and on every Friday. When one starts with `*`, a day has to match both.
    /// * `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` and `@annually`.
    ///
    /// # Errors
    /// [`ExpressionError`] says which field is wrong and what it takes. An expression that no date matches,
    /// such as `0 0 30 2 *`, is refused.
    pub fn unix(text: &str) -> Result<Self, ExpressionError> {
        refuse_h(text)?;
        unix::parse(text).map(Self::Unix)
    }

    /// The same for the schedule `name`, from which follow the numbers that an `H` stands for: `H` is one of the
    /// field's, `H/15` every 15 from one of the first 15 on, `H(0-29)` one of these, `H(0-29)/10` every 10 of them. Of
    /// the days of a month it is 1 to 28. The expression shows itself with the numbers.
    ///
    /// # Errors
    /// As [`Expression::unix`], with the numbers in place of each `H`.
    pub fn unix_of(name: &str, text: &str) -> Result<Self, ExpressionError> {
        if spread::has_h(text) { Self::unix(&spread::expand(text, &spread::UNIX, name)?) } else { Self::unix(text) }
    }

    /// Reads a Quartz cron expression as the `cron` crate does: second, minute, hour, day of month, month,
    /// day of week, and perhaps a year from 1970 to 2100.
    ///
    /// * Days of the week are 1 (Sunday) to 7 (Saturday), or names.
    /// * A day has to match both day fields; `?` is the same as `*`.
    /// * `5/15` is 5, 20, 35 and so on. `L`, `W` and `#` are not understood.
    ///
    /// # Errors
    /// [`ExpressionError`] says what is wrong. An expression that no date from 1970 on matches is refused.
    pub fn quartz(text: &str) -> Result<Self, ExpressionError> {
        refuse_h(text)?;
        quartz::parse(text).map(Self::Quartz)
    }

    /// The same for the schedule `name`, with `H` as in [`Expression::unix_of`].
    ///
    /// # Errors
    /// As [`Expression::quartz`], with the numbers in place of each `H`.
    pub fn quartz_of(name: &str, text: &str) -> Result<Self, ExpressionError> {
        if spread::has_h(text) {
            Self::quartz(&spread::expand(text, &spread::QUARTZ, name)?)
        } else {
            Self::quartz(text)
        }
    }

    /// A tick every `period`; see [`Every::new`].
    ///
    /// # Errors
    /// [`ExpressionError::Period`] when the period is too short, too long or not a whole number of milliseconds.
    pub fn every(period: Duration) -> Result<Self, ExpressionError> {
        Every::new(period).map(Self::Every)
    }

    /// A tick so long after each run has ended, within the same bounds as a fixed rate.
    ///
    /// # Errors
    /// [`ExpressionError::Period`] when the delay is too short, too long or not a whole number of milliseconds.
    pub fn after(delay: Duration) -> Result<Self, ExpressionError> {
        Every::new(delay).map(|every| Self::After(every.period()))
    }

    /// One tick, at this moment.
    pub fn at(moment: UnixMillis) -> Self {
        Self::At(moment)
    }

    /// The dialect.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Unix(_) => Dialect::Unix,
            Self::Quartz(_) => Dialect::Quartz,
            Self::Every(_) => Dialect::Every,
            Self::After(_) => Dialect::After,
            Self::At(_) => Dialect::At,
        }
    }
}

fn refuse_h(text: &str) -> Result<(), ExpressionError> {
    if spread::has_h(text) { Err(ExpressionError::Nameless { text: text.to_owned() }) } else { Ok(()) }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(cron) | Self::Quartz(cron) => f.write_str(&cron.text),
            Self::Every(every) => every.fmt(f),
            Self::After(delay) => f.write_str(&duration::format(*delay)),
            Self::At(moment) => f.write_str(&moment.to_rfc3339()),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unix => "cron",
            Self::Quartz => "quartz",
            Self::Every => "every",
            Self::After => "after",
            Self::At => "at",
        })
    }
}
