//! Moments as a person wants to see them.

use leveret_common::clock::UnixMillis;
use serde::Serialize;

use super::{ClockMark, Zone, zone::Stretch};

/// A moment at which a schedule runs, as a person wants to see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FireTime {
    /// The moment, in Unix milliseconds.
    pub at: UnixMillis,
    /// The local time in RFC 3339 with its offset from UTC: `2026-11-01T01:30:00-04:00`.
    pub local: String,
    /// The zone's abbreviation at that moment: `EDT`.
    pub zone: String,
    /// What is to be known about the clock there; `None` when nothing is.
    pub clock: Option<ClockMark>,
    /// When it is due: the same moment, or later by its jitter.
    pub due_at: UnixMillis,
}

impl Zone {
    /// Moments after `after`, each with the one at which it is due.
    pub(crate) fn fire_times(&self, after: UnixMillis, moments: &[(UnixMillis, UnixMillis)]) -> Vec<FireTime> {
        let mut before = after;
        let mut fire_times = Vec::with_capacity(moments.len());
        for (at, due_at) in moments.iter().copied() {
            let Some((local, zone)) = self.local(at) else { continue };
            fire_times.push(FireTime { at, local, zone, clock: self.mark(before, at), due_at });
            before = at;
        }
        fire_times
    }

    fn mark(&self, before: UnixMillis, at: UnixMillis) -> Option<ClockMark> {
        let second = at.0.div_euclid(1_000);
        let stretch = self.stretch_at(second)?;
        if second < stretch.start + (stretch.offset_before - stretch.offset) {
            return Some(ClockMark::SecondPass);
        }
        let next: Option<Stretch> = self.stretch_at(stretch.end);
        if next.is_some_and(|next| second >= stretch.end - (stretch.offset - next.offset)) {
            return Some(ClockMark::FirstPass);
        }
        let before = self.stretch_at(before.0.div_euclid(1_000))?;
        match stretch.offset - before.offset {
            0 => None,
            1.. => Some(ClockMark::PutForward),
            _ => Some(ClockMark::PutBack),
        }
    }
}
