//! Holds back whoever tries one wrong token after the other.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; beyond that, those whose time is over are forgotten first.
const MOST: usize = 10_000;

/// Counts wrong tokens by address. No token can be guessed; this only keeps the database from being asked about them.
#[derive(Debug)]
pub(super) struct Gate {
    limit: u32,
    wrong: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl Gate {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, wrong: Mutex::default() }
    }

    /// How long this address has to wait, if it has to.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let mut wrong = self.wrong.lock();
        let (count, since) = *wrong.get(&address)?;
        let left = WINDOW.saturating_sub(now.duration_since(since));
        if left.is_zero() {
            wrong.remove(&address);
            return None;
        }
        (count >= self.limit).then_some(left)
    }

    /// This address has sent a wrong token.
    pub(super) fn wrong(&self, address: IpAddr, now: Instant) {
        let mut wrong = self.wrong.lock();
        if wrong.len() >= MOST {
            wrong.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
        }
        if wrong.len() < MOST {
            wrong.entry(address).or_insert_with(|| (0, now)).0 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_too_many_wrong_tokens_waits_out_its_minute() {
        let (gate, now) = (Gate::new(2), Instant::now());
        let (address, other) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        for _ in 0..2 {
            assert_eq!(gate.wait(address, now), None);
            gate.wrong(address, now);
        }
        assert_eq!((gate.wait(address, now), gate.wait(other, now)), (Some(WINDOW), None));
        assert_eq!(gate.wait(address, now + WINDOW), None);
    }
}
