//! Keeping rows of the workers, so that one that died while no centre ran is known to be lost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leveret_common::{
    link::Attachment,
    registry::{Change, Peer, Registry},
};
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{events::chain, workers::ANSWERS};
use crate::centre::store::Store;

/// How often the rows of those that are there are written, so that they say when they were last heard.
pub(super) const WRITE_EVERY: Duration = Duration::from_secs(5);
/// After how long without a word from a worker, to any centre, its row says that it is lost. Longer than a registry takes
/// for a worker that beats every two seconds; one that beats more slowly is not lost before its own registry says so.
const SILENCE: Duration = Duration::from_secs(200);

pub(super) struct Keeper {
    pub(super) registry: Registry,
    pub(super) store: Store,
    pub(super) hears_since: watch::Sender<Option<Instant>>,
    pub(super) stop: CancellationToken,
}

impl Keeper {
    pub(super) async fn run(self) {
        let mut changes = self.registry.changes();
        let mut listening = self.registry.listening();
        listening.mark_changed();
        let mut regularly = interval(WRITE_EVERY);
        regularly.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What has changed and is not written yet. Only the last of a worker counts.
        let mut news: BTreeMap<_, Arc<Peer>> = BTreeMap::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                change = changes.recv() => match change {
                    Ok(Change::Online(peer) | Change::Lost(peer) | Change::Offline(peer)) => {
                        info!(worker = peer.beat.worker, instance = %peer.beat.instance, presence = peer.presence.as_str(), "a worker");
                        news.insert(peer.beat.instance, peer);
                    }
                    // Beats are written from time to time only.
                    Ok(_) => continue,
                    Err(RecvError::Lagged(_)) => {
                        for peer in self.registry.workers().iter() {
                            news.insert(peer.beat.instance, peer.clone());
                        }
                    }
                    Err(RecvError::Closed) => return,
                },
                changed = listening.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let hears = *listening.borrow_and_update() == Attachment::Attached;
                    self.hears_since.send_replace(hears.then(Instant::now));
                    continue;
                }
                _ = regularly.tick() => {
                    for peer in self.registry.workers().live() {
                        news.insert(peer.beat.instance, peer.clone());
                    }
                    self.lose().await;
                }
            }
            let peers: Vec<_> = news.values().map(AsRef::as_ref).collect();
            match self.store.save_workers(&peers).await {
                Ok(()) => news.clear(),
                Err(error) => warn!("the workers cannot be written down: {}", chain(&error)),
            }
        }
    }

    /// While this centre does not hear the workers, it does not say that they are lost.
    async fn lose(&self) {
        let hears = self.hears_since.borrow().is_some_and(|since| since.elapsed() >= ANSWERS);
        if hears && let Err(error) = self.store.lose_workers(self.store.clock().now() - SILENCE).await {
            warn!("the workers that are lost cannot be written down: {}", chain(&error));
        }
    }
}
