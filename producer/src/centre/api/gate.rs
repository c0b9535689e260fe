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
    pub(super) fn wait(&self, address: IpAddr) -> Option<Duration> {
        let mut wrong = self.wrong.lock();
        let (count, since) = *wrong.get(&address)?;
        let left = WINDOW.saturating_sub(since.elapsed());
        if left.is_zero() {
            wrong.remove(&address);
            return None;
        }
        (count >= self.limit).then_some(left)
    }

    /// This address has sent a wrong token.
    pub(super) fn wrong(&self, address: IpAddr) {
        let mut wrong = self.wrong.lock();
        if wrong.len() >= MOST {
            wrong.retain(|_, (_, since)| since.elapsed() < WINDOW);
        }
        if wrong.len() < MOST {
            wrong.entry(address).or_insert_with(|| (0, Instant::now())).0 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_with_too_many_wrong_tokens_waits_out_its_minute() {
        let (gate, address, other) = (Gate::new(2), [127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        for _ in 0..2 {
            assert_eq!(gate.wait(address), None);
            gate.wrong(address);
        }
        assert_eq!((gate.wait(address), gate.wait(other)), (Some(WINDOW), None));
        tokio::time::advance(WINDOW).await;
        assert_eq!(gate.wait(address), None);
    }
}
