//! A time zone as stretches of time in which the clock on the wall runs evenly.

use std::fmt;

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};
use leveret_common::clock::UnixMillis;

use super::{Gap, calendar::DAY, error::UnknownZone};

/// The time zone of a schedule, by its IANA name.
///
/// The rules come from the system's time zone database; where there is none, from the one built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A stretch of time with one offset from UTC. All figures are seconds; moments are Unix time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// Its first second.
    pub(super) start: i64,
    /// The first second after it.
    pub(super) end: i64,
    /// Local time less UTC.
    pub(super) offset: i64,
    /// The offset of the stretch before.
    pub(super) offset_before: i64,
}

/// Stands for "since ever" and "for ever", far from any overflow.
const EVER: i64 = i64::MAX / 4;

impl Zone {
    /// The zone of that name, such as `Europe/Berlin`.
    ///
    /// # Errors
    /// [`UnknownZone`] when neither database knows the name.
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        match TimeZone::get(name) {
            Ok(zone) if !zone.is_unknown() => Ok(Self(zone)),
            _ => Err(UnknownZone { name: name.to_owned() }),
        }
    }

    /// Coordinated universal time, whose clocks never leap.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The local time at a moment in RFC 3339 with its offset, and the zone's abbreviation then; `None` beyond the year
    /// 9999.
    pub(crate) fn local(&self, at: UnixMillis) -> Option<(String, String)> {
        let moment = Timestamp::from_millisecond(at.0).ok()?;
        let info = self.0.to_offset_info(moment);
        let local = moment.display_with_offset(info.offset()).to_string();
        Some((local, info.abbreviation().to_owned()))
    }

    /// The moment at which the clock on the wall shows a local time, in seconds as if it were UTC: the first of two, and
    /// of a time that the clock leaps over the end of the leap, or `None` when that is to be skipped.
    pub(crate) fn moment(&self, local: DateTime, gap: Gap) -> Option<Timestamp> {
        let before = match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => return offset.to_timestamp(local).ok(),
            AmbiguousOffset::Fold { before, .. } => return before.to_timestamp(local).ok(),
            AmbiguousOffset::Gap { .. } if gap == Gap::Skip => return None,
            AmbiguousOffset::Gap { before, .. } => before,
        };
        // Read with the offset of before the leap, it lies within the stretch that the leap begins.
        let within = before.to_timestamp(local).ok()?.as_second();
        Timestamp::from_second(self.stretch_at(within)?.start).ok()
    }

    /// The local date at a second, in days since 1970-01-01.
    pub(super) fn day(&self, second: i64) -> Option<i64> {
        Some((second + self.stretch_at(second)?.offset).div_euclid(DAY))
    }

    /// The first second after `second` on a later local date.
    pub(crate) fn next_day(&self, second: i64) -> Option<i64> {
        let mut stretch = self.stretch_at(second)?;
        let midnight = ((second + stretch.offset).div_euclid(DAY) + 1) * DAY;
        loop {
            // A clock put forward may leap over midnight, one put back may show it twice.
            let at = (midnight - stretch.offset).max(stretch.start);
            if at < stretch.end {
                return Some(at);
            }
            stretch = self.stretch_at(stretch.end)?;
        }
    }

    /// The stretch that a second falls into; `None` beyond the year 9999.
    pub(super) fn stretch_at(&self, second: i64) -> Option<Stretch> {
        let moment = Timestamp::from_second(second).ok()?;
        let offset = self.offset_at(moment);
        let end = self.0.following(moment).next().map_or(EVER, |next| next.timestamp().as_second());
        // `preceding` leaves out a change at the very second, which is the start of this stretch.
        let start = Timestamp::from_second(second + 1)
            .ok()
            .and_then(|later| self.0.preceding(later).next())
            .map(|change| change.timestamp().as_second());
        let offset_before = start
            .and_then(|start| Timestamp::from_second(start - 1).ok())
            .map_or(offset, |moment| self.offset_at(moment));
        Some(Stretch { start: start.unwrap_or(-EVER), end, offset, offset_before })
    }

    fn offset_at(&self, moment: Timestamp) -> i64 {
        self.0.to_offset(moment).seconds().into()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
