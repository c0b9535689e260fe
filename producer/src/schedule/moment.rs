//! Moments as people write them.

use jiff::{Timestamp, civil::DateTime};
use leveret_common::clock::UnixMillis;

use super::{Gap, Zone};

/// A text is no moment that a schedule could run at; it says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMoment {
    /// It is neither a local time nor one with an offset.
    #[error(
        "{text:?} is no moment: write a local time such as \"2027-01-01T09:00\", or one with an offset such as \
         \"2027-01-01T09:00:00Z\""
    )]
    Text {
        /// The text, cut if it is very long.
        text: String,
    },
    /// The clock leaps over the local time.
    #[error("the clocks of {zone} leap over {text}: write a time that exists, or gap = \"run-after\"")]
    LeaptOver {
        /// The text.
        text: String,
        /// The time zone.
        zone: String,
    },
    /// No schedule runs before 1970.
    #[error("{text} is before 1970: write a later one")]
    TooEarly {
        /// The text.
        text: String,
    },
}

impl Zone {
    /// The moment of a text: RFC 3339 such as `2027-01-01T09:00:00+01:00`, or a local time in the zone such as
    /// `2027-01-01T09:00` or `2027-01-01`, which is its midnight. Of a local time that comes twice it is the first; one
    /// that the clock leaps over is right after the leap, unless that is to be skipped.
    ///
    /// # Errors
    /// [`InvalidMoment`] says what to write instead.
    pub fn read(&self, text: &str, gap: Gap) -> Result<UnixMillis, InvalidMoment> {
        let text = text.trim();
        let shown = || text.chars().take(60).collect();
        let moment = match text.parse::<Timestamp>() {
            Ok(moment) => moment,
            Err(_) => {
                let local: DateTime = text.parse().map_err(|_| InvalidMoment::Text { text: shown() })?;
                let zone = self.name().to_owned();
                self.moment(local, gap).ok_or_else(|| InvalidMoment::LeaptOver { text: shown(), zone })?
            }
        };
        let moment = UnixMillis(moment.as_millisecond());
        if moment < UnixMillis(0) { Err(InvalidMoment::TooEarly { text: shown() }) } else { Ok(moment) }
    }
}

/// Whether the text says a moment without a zone.
pub(crate) fn is_absolute(text: &str) -> bool {
    text.trim().parse::<Timestamp>().is_ok()
}
