//! How a worker is, for probes.

use std::sync::Arc;

use leveret_common::link::{Attachment, Link, LinkState};

use crate::{control::Liveness, pool::Pool, source::Source};

/// How a worker is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    consume: Link,
    publish: Link,
    pools: Arc<Vec<Arc<Pool>>>,
    liveness: Option<Liveness>,
}

impl Health {
    pub(crate) fn new(consume: Link, publish: Link, pools: Arc<Vec<Arc<Pool>>>, liveness: Option<Liveness>) -> Self {
        Self { consume, publish, pools, liveness }
    }

    /// Whether a new start would not help: no queue has been deaf for minutes while the connection is up, and the
    /// runtime of the link goes round. A broker that is away is no reason for a restart. Always so for a worker without
    /// remote control.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn live(&self) -> Result<(), String> {
        self.liveness.as_ref().map_or(Ok(()), Liveness::check)
    }

    /// Whether the broker delivers from every queue that is not paused, and takes what is published.
    ///
    /// # Errors
    /// What is missing, for people.
    pub fn ready(&self) -> Result<(), String> {
        for (role, link) in [("consuming", &self.consume), ("publishing", &self.publish)] {
            match link.state() {
                LinkState::Up(live) => {
                    if let Some(reason) = live.blocked.borrow().as_ref() {
                        return Err(format!("the broker has blocked the {role} connection: {reason}"));
                    }
                }
                LinkState::Down(Some(error)) | LinkState::Closed(error) => return Err(error.to_string()),
                LinkState::Down(None) => return Err(format!("the {role} connection is not up yet")),
            }
        }
        for source in self.sources().iter().filter(|source| source.paused().is_none()) {
            let queue = source.queue();
            match source.attachment() {
                Attachment::Attached => {}
                Attachment::Detached(Some(why)) | Attachment::Forbidden(why) => {
                    return Err(format!("not subscribed to queue {queue:?}: {why}"));
                }
                _ => return Err(format!("not subscribed to queue {queue:?}")),
            }
        }
        Ok(())
    }

    pub(crate) fn sources(&self) -> Vec<Arc<Source>> {
        self.pools.iter().flat_map(|pool| pool.sources()).collect()
    }
}
