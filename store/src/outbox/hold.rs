//! Queues that take nothing for the time being.

use std::{collections::HashMap, time::Duration};

use leveret_common::clock::UnixMillis;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The queues whose messages are held back, each until its next try.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<String, Pause>);

#[derive(Debug)]
struct Pause {
    length: Duration,
    until: UnixMillis,
}

impl Held {
    /// The queues that are not to be tried yet.
    pub(super) fn names(&self, now: UnixMillis) -> Vec<&str> {
        self.0.iter().filter(|(_, pause)| pause.until > now).map(|(queue, _)| queue.as_str()).collect()
    }

    /// Whether no queue has refused anything since it last took a message.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next one is to be tried.
    pub(super) fn next_try(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.0.values().map(|pause| pause.until).filter(|&until| until > now).min()
    }

    /// The queue took nothing: each time the pause is twice as long. Returns it, unless the queue is held already, as
    /// it is for all but the first message of a batch.
    pub(super) fn hold(&mut self, queue: &str, now: UnixMillis) -> Option<Duration> {
        let length = match self.0.get(queue) {
            Some(pause) if pause.until > now => return None,
            Some(pause) => (pause.length * 2).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        self.0.insert(queue.to_owned(), Pause { length, until: now + length });
        Some(length)
    }

    /// The queue took a message.
    pub(super) fn free(&mut self, queue: &str) {
        self.0.remove(queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_begin_anew_after_a_success() {
        let (mut held, mut now, mut pauses) = (Held::default(), UnixMillis(0), Vec::new());
        for _ in 0..7 {
            let pause = held.hold("a", now).unwrap();
            assert_eq!(held.hold("a", now), None);
            assert_eq!(held.names(now), ["a"]);
            assert_eq!(held.next_try(now), Some(now + pause));
            now = now + pause;
            assert!(held.names(now).is_empty());
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        held.free("a");
        assert_eq!(held.hold("a", now), Some(FIRST_PAUSE));
    }
}
