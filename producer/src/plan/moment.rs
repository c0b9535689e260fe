//! Moments as people write them.

use jiff::{Timestamp, civil::DateTime};
use leveret_common::clock::UnixMillis;

use crate::schedule::{Gap, Zone};

/// The moment of a text: RFC 3339 such as `2027-01-01T09:00:00+01:00`, or a local time in the zone such as
/// `2027-01-01T09:00` or `2027-01-01`, which is its midnight. Of a local time that comes twice it is the first.
///
/// # Errors
/// What is wrong with it and what to write instead.
pub(super) fn moment(text: &str, zone: &Zone, gap: Gap) -> Result<UnixMillis, String> {
    let text = text.trim();
    let moment = match text.parse::<Timestamp>() {
        Ok(moment) => moment,
        Err(_) => {
            let local: DateTime = text.parse().map_err(|_| {
                let shown: String = text.chars().take(60).collect();
                format!(
                    "{shown:?} is no moment: write a local time such as \"2027-01-01T09:00\", or one with an offset such as \
                     \"2027-01-01T09:00:00Z\""
                )
            })?;
            zone.moment(local, gap).ok_or_else(|| {
                format!("the clocks of {zone} leap over {text}: write a time that exists, or gap = \"run-after\"")
            })?
        }
    };
    let moment = UnixMillis(moment.as_millisecond());
    if moment < UnixMillis(0) { Err(format!("{text} is before 1970: write a later one")) } else { Ok(moment) }
}

/// Whether the text says a moment without a zone.
pub(super) fn is_absolute(text: &str) -> bool {
    text.trim().parse::<Timestamp>().is_ok()
}
