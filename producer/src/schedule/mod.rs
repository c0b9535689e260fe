//! A schedule: when it runs and what it publishes.
//!
//! | type | what it is |
//! |---|---|
//! | [`Expression`] | what was written down, with its dialect: Unix cron, Quartz cron, a fixed rate or delay, or once |
//! | [`Zone`] | the time zone whose clocks a cron expression speaks of |
//! | [`Timetable`] | an expression in a zone: it names the next moment after any other |
//! | [`Schedule`] | a named timetable with the message that each tick publishes |
//!
//! # Clocks that are put forward and back
//!
//! A cron expression speaks of local times, and some local times do not exist or exist twice.
//! What happens then is, unless a timetable is told otherwise by [`Gap`] and [`Fold`], what cronie does, the cron of
//! most Linux systems:
//!
//! * An expression whose minute or hour (or, in Quartz, second) is written with a star, such as `*/15 * * * *`, is an
//!   *interval*. It runs whenever the clock on the wall shows a matching time: in both passes of an hour that comes
//!   twice, and not at all for times that the clock leaps over.
//! * Every other expression, such as `30 2 * * *`, names *fixed times*. Each runs once: in the first pass of an hour
//!   that comes twice, and right after the leap when the clock leaps over it. Several times within one leap
//!   are one run.
//!
//! So `*/15 2 * * *` does not run on the night when the clock leaps from two to three, and `0,15,30,45 2 * * *` runs
//! once that night, at three.

mod calendar;
mod civil;
mod definition;
mod error;
mod every;
mod expression;
mod leap;
mod moment;
mod preview;
mod quartz;
mod special;
pub(crate) mod spread;
mod timetable;
mod unix;
mod zone;

pub use definition::{InvalidName, Schedule};
pub use error::{ExpressionError, Field, UnknownZone};
pub use every::Every;
pub use expression::{Cron, Dialect, Expression};
pub use leap::{ClockMark, Fold, Gap};
pub use moment::InvalidMoment;
pub(crate) use moment::is_absolute;
pub use preview::FireTime;
pub use special::{DayKind, InvalidDate, SpecialDays};
pub use timetable::Timetable;
pub use zone::Zone;
