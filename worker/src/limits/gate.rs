//! What tasks of one name from one queue have to pass before they begin.

use std::{sync::Arc, time::Duration};

use leveret_common::{clock::UnixMillis, limit::LimitName};
use tokio_util::sync::CancellationToken;

use super::{
    Inner,
    desk::{Desk, Part, Question, Refused},
    protocol::Claim,
};

/// The limits for tasks of one name from one queue.
#[derive(Clone, Debug)]
pub struct Gate {
    inner: Arc<Inner>,
    local: Vec<Rule>,
    shared: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    limit: LimitName,
    by_key: bool,
}

/// Whether a task may begin.
#[derive(Debug)]
pub enum Admission {
    /// It may, and counts until the permit is dropped.
    Now(Permit),
    /// Not before this time has gone by, which is longer than a runner should wait: it is to be moved to a tier, which
    /// is no attempt, and to come with the time it was first sent away.
    Later(Duration),
    /// The worker is stopping: the task goes back to its queue.
    Closed,
}

impl From<Refused> for Admission {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Later(wait) => Self::Later(wait),
            Refused::Closed => Self::Closed,
        }
    }
}

/// The right of one task to run. Dropped, it is given back.
#[derive(Debug)]
pub struct Permit {
    local: Option<Part>,
    shared: Option<Part>,
}

impl Permit {
    pub(super) fn free() -> Self {
        Self { local: None, shared: None }
    }

    /// Waits until the permit counts no more, because the connection was lost that the task came by: the broker gives
    /// the task to others as well, and what this attempt comes to will not count. An attempt should end then, or more
    /// tasks run than the limit admits. Never ends for limits of this worker alone.
    pub async fn lost(&self) {
        match self.token() {
            Some(lost) => lost.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// A token that is cancelled when the permit counts no more; see [`lost`](Self::lost).
    pub fn token(&self) -> Option<&CancellationToken> {
        self.shared.as_ref().or(self.local.as_ref()).and_then(Part::lost)
    }
}

impl Gate {
    pub(super) fn new(inner: &Arc<Inner>, queue: &str, task: &str) -> Option<Self> {
        let rules = |per_worker: bool| {
            let covering =
                inner.settings.iter().filter(|(_, limit)| limit.per_worker == per_worker && limit.covers(queue, task));
            covering.map(|(name, limit)| Rule { limit: name.clone(), by_key: limit.by_key }).collect::<Vec<_>>()
        };
        let (local, shared) = (rules(true), rules(false));
        let is_open = local.is_empty() && shared.is_empty();
        (!is_open).then(|| Self { inner: inner.clone(), local, shared })
    }

    /// Waits until a task with this key may begin: at most the patience, unless it is next in line. `sent_away` is
    /// when the task was first told [`Admission::Later`], so that it does not have to start its wait anew.
    pub async fn admit(&self, key: Option<&str>, sent_away: Option<UnixMillis>) -> Admission {
        let age = sent_away.map_or(Duration::ZERO, |since| self.inner.clock.now().since(since));
        let ask = async |desk: Option<Arc<dyn Desk>>, rules: &[Rule]| {
            let claims = claims(rules, key);
            match desk.filter(|_| !claims.is_empty()) {
                Some(desk) => {
                    let question = Question { claims, age, back: sent_away.is_some() };
                    Part::ask(desk, question).await.map(Some)
                }
                None => Ok(None),
            }
        };
        // First this worker's own, so that nothing that others could use is held while it is waited for.
        let local = self.inner.local.clone().map(|local| local as Arc<dyn Desk>);
        let local = match ask(local, &self.local).await {
            Ok(part) => part,
            Err(refused) => return refused.into(),
        };
        let shared = self.inner.share.clone().map(|share| share as Arc<dyn Desk>);
        match ask(shared, &self.shared).await {
            Ok(shared) => Admission::Now(Permit { local, shared }),
            Err(refused) => refused.into(),
        }
    }
}

fn claims(rules: &[Rule], key: Option<&str>) -> Vec<Claim> {
    let claim = |rule: &Rule| match (rule.by_key, key) {
        (false, _) => Some(Claim { limit: rule.limit.clone(), key: None }),
        (true, Some(key)) => Some(Claim { limit: rule.limit.clone(), key: Some(shortened(key)) }),
        // What has no key is nobody's.
        (true, None) => None,
    };
    rules.iter().filter_map(claim).collect()
}

/// A key of any length as one that fits into messages by the dozen.
fn shortened(key: &str) -> String {
    const LONGEST: usize = 100;
    if key.len() <= LONGEST {
        return key.to_owned();
    }
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, key.as_bytes()).to_string()
}
