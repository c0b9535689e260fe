//! What a schedule of the centre is made of, and what follows from it: when it runs, and what each run publishes.
//!
//! | type | what it is |
//! |---|---|
//! | [`Definition`] | a schedule as a person writes it, as JSON or in a `[schedules.<name>]` table |
//! | [`Calendar`] | days on which schedules do not run, or run out of turn: holidays and their make-up workdays |
//! | [`Plan`] | a definition that was checked, with its calendars: it names the next tick after any other |
//! | [`Tick`] | one run: the time that the expression names, and when it is due |
//! | [`Facts`] | what the message of a tick is made of besides |

mod calendar;
mod check;
mod checked;
mod definition;
mod import;
mod name;
mod policy;
mod template;
mod tick;
mod toml_dates;
mod when;

pub use crate::schedule::{DayKind, Fold, Gap};
pub use calendar::{Calendar, CalendarDay};
pub use checked::{InvalidDefinition, Plan};
pub use definition::Definition;
pub use import::InvalidCalendar;
pub use name::{DEFAULT_NAMESPACE, InvalidScheduleName, ScheduleName};
pub use policy::{Missed, Overlap};
pub use tick::{Facts, Tick, TickKind};
