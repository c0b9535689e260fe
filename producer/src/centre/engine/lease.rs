//! The shards that are this centre's, for as long as it beats.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::stats::Counters;
use crate::centre::{
    database::DatabaseError,
    store::{Centre, SHARDS, Shard, Store, turns::Fences},
};

/// A clock that differs from the database's by more than this is worth a warning.
const SKEW: i64 = 2_000;
/// Shards that nobody has, but somebody has locked, are asked for again after this.
const AGAIN: Duration = Duration::from_millis(50);

/// What is held, and until when. Both are judged by a clock that nobody can put forward or back, and that goes on while
/// this process is stopped.
#[derive(Debug)]
pub(crate) struct Lease {
    held: Mutex<Held>,
    /// Told when there are shards that were not held before.
    changed: Notify,
}

#[derive(Debug)]
struct Held {
    shards: Arc<Fences>,
    until: Instant,
}

impl Lease {
    pub(crate) fn new() -> Self {
        Self { held: Mutex::new(Held { shards: Arc::default(), until: Instant::now() }), changed: Notify::new() }
    }

    /// The shards and their fences; none once the lease is over.
    pub(crate) fn held(&self) -> Arc<Fences> {
        let held = self.held.lock();
        if Instant::now() < held.until { held.shards.clone() } else { Arc::default() }
    }

    /// Whether it may decide at all.
    pub(crate) fn is_valid(&self) -> bool {
        Instant::now() < self.held.lock().until
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn renew(&self, until: Instant) {
        self.held.lock().until = until;
    }

    fn set(&self, shards: Fences) {
        let mut held = self.held.lock();
        if *held.shards != shards {
            let grew = shards.iter().any(|(shard, fence)| held.shards.get(shard) != Some(fence));
            held.shards = Arc::new(shards);
            if grew {
                self.changed.notify_one();
            }
        }
    }
}

/// Beats, and takes and gives shards so that each centre that is alive has a fair part.
pub(crate) struct Keeper {
    pub(crate) store: Store,
    pub(crate) lease: Arc<Lease>,
    pub(crate) centre: Centre,
    pub(crate) length: Duration,
    pub(crate) beat: Duration,
    pub(crate) counters: Arc<Counters>,
    /// Shards that are to be given away: nothing new is decided for them, and at the next beat they go.
    pub(crate) leaving: Vec<i64>,
}

impl Keeper {
    /// Beats until it is told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let begun = Instant::now();
            let mut pause = self.beat;
            match tokio::time::timeout(self.length, self.beat()).await {
                Ok(Ok(has_its_share)) => {
                    failing = false;
                    if !has_its_share {
                        pause = pause.min(AGAIN);
                    }
                }
                failed => {
                    let error = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "it does not answer in time".to_owned(),
                    };
                    if !failing {
                        warn!(%error, "the lease of this centre cannot be renewed; trying again");
                    }
                    failing = true;
                    self.counters.database(Some(error));
                }
            }
            tokio::select! {
                () = tokio::time::sleep_until(begun + pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One beat: renews, looks who is alive, and takes or gives shards. `false` when some that nobody has could not be taken.
    pub(crate) async fn beat(&mut self) -> Result<bool, DatabaseError> {
        // From before the database was asked: others count from after.
        let begun = Instant::now();
        let was_over = !self.lease.is_valid();
        let theirs = self.store.beat(&self.centre, self.length).await?;
        if was_over {
            // Others may have taken shards: which are left is to be seen first.
            self.lease.set(Fences::new());
        }
        self.lease.renew(begun + self.length);
        self.counters.database(None);
        self.compare_clocks(theirs.0);
        if !self.leaving.is_empty() {
            let leaving = std::mem::take(&mut self.leaving);
            debug!(shards = leaving.len(), "gives shards to another centre");
            self.store.release_shards(&self.centre.id, &leaving).await?;
        }
        let shards = self.store.shards().await?;
        let own = shards.iter().filter(|shard| shard.holder.as_deref() == Some(self.centre.id.as_str()));
        let mut held: Fences = own.map(|shard| (shard.shard, shard.fence)).collect();
        let living = self.store.centres().await?;
        let is_free = |shard: &&Shard| !living.iter().any(|centre| shard.holder.as_ref() == Some(&centre.id));
        let free = i64::try_from(shards.iter().filter(is_free).count()).unwrap_or(SHARDS);
        let share = self.share(living);
        let have = i64::try_from(held.len()).unwrap_or(SHARDS);
        if have > share {
            let given = held.keys().rev().take(usize::try_from(have - share).unwrap_or_default());
            self.leaving = given.copied().collect();
            held.retain(|shard, _| !self.leaving.contains(shard));
        }
        self.lease.set(held.clone());
        let mut has_its_share = true;
        if have < share {
            let taken: BTreeMap<_, _> = self.store.take_shards(&self.centre.id, share - have).await?;
            has_its_share = i64::try_from(taken.len()).unwrap_or(SHARDS) >= free.min(share - have);
            if !taken.is_empty() {
                debug!(shards = taken.len(), "takes shards that nobody has");
                held.extend(taken);
                self.lease.set(held.clone());
            }
        }
        self.counters.shards(held.len());
        Ok(has_its_share)
    }

    /// How many shards are this centre's part. What is left over goes to those that have the most already.
    fn share(&self, mut living: Vec<Centre>) -> i64 {
        living.sort_by(|a, b| b.shards.cmp(&a.shards).then_with(|| a.id.cmp(&b.id)));
        let count = i64::try_from(living.len()).unwrap_or(SHARDS).max(1);
        let place = living.iter().position(|centre| centre.id == self.centre.id).unwrap_or_default();
        let place = i64::try_from(place).unwrap_or(SHARDS);
        SHARDS / count + i64::from(place < SHARDS % count)
    }

    fn compare_clocks(&self, theirs: i64) {
        let ahead = self.store.clock().now().0.saturating_sub(theirs);
        let before = self.counters.health(true, 0).clock_ahead_ms;
        self.counters.clock_ahead(ahead);
        if ahead.abs() > SKEW && before.abs() <= SKEW {
            warn!(
                ahead_ms = ahead,
                "the clock of this machine and that of the database differ: ticks come by this one"
            );
        }
    }

    /// Gives everything up at once.
    pub(crate) async fn end(store: &Store, lease: &Lease, id: &str) {
        let held = lease.held();
        lease.set(Fences::new());
        let shards: Vec<_> = held.keys().copied().collect();
        let left = async {
            store.release_shards(id, &shards).await?;
            store.leave(id).await
        };
        match left.await {
            Ok(()) => info!(shards = shards.len(), "others take over"),
            Err(error) => warn!(%error, "others can take over only once the lease is over"),
        }
    }
}
