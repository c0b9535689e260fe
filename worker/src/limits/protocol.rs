//! What workers and the keeper of the limits say to each other, as JSON. A worker has one request on its way at a time.

use std::collections::BTreeMap;

use leveret_common::limit::{LimitName, Terms};
use serde::{Deserialize, Serialize};

/// One thing that is counted: a limit, or one key of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The limit.
    pub(crate) limit: LimitName,
    /// The key, where each key is counted by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

/// What is in the queue of the limits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToKeeper {
    /// A worker asks.
    Request(Box<Request>),
    /// A new keeper to itself: all that lay in the queue when it began came before.
    Marker {
        /// The keeper's.
        epoch: u64,
    },
}

/// A worker's message to the keeper: everything since its last one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The worker's own queue, which is gone when the worker is: so it also names the worker.
    pub(crate) from: String,
    /// Counts the requests of a worker, so that one that comes twice counts once.
    pub(crate) number: u64,
    /// The keeper that the worker follows; 0 for none yet.
    pub(crate) epoch: u64,
    /// Everything the worker has, instead of what has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) report: Option<Report>,
    /// Permits that are given back, or no longer waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) release: Vec<u64>,
    /// Permits that are wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) acquire: Vec<Wanted>,
    /// Limits to be changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) set: Vec<(LimitName, Option<Terms>)>,
}

/// A permit that is wanted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// The worker's number for it.
    pub(crate) id: u64,
    /// All that it counts against, at once or not at all.
    pub(crate) claims: Vec<Claim>,
    /// How long it has been waited for, in milliseconds, turns in a tier included.
    #[serde(default)]
    pub(crate) age_ms: u64,
    /// Whether it was sent away before, so that a turn is kept for it.
    #[serde(default)]
    pub(crate) back: bool,
}

/// A permit that a worker has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The worker's number for it.
    pub(crate) id: u64,
    /// All that it counts against.
    pub(crate) claims: Vec<Claim>,
}

/// A rate that is used up for a while.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spent {
    /// The limit, or one key of it.
    pub(crate) claim: Claim,
    /// When it is as good as new, in milliseconds from now.
    pub(crate) for_ms: u64,
}

/// A limit that was changed while workers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Override {
    /// The epoch of the keeper that changed it, and how many it had changed: the highest holds.
    pub(crate) version: (u64, u64),
    /// What it admits now; nothing means what the workers' configuration says.
    pub(crate) terms: Option<Terms>,
}

/// The limits that were changed.
pub(crate) type Overrides = BTreeMap<LimitName, Override>;

/// Everything that a worker has; what is not in it, the worker has not. What it waits for is in the request.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The permits that it has.
    pub(crate) held: Vec<Held>,
    /// The limits as its configuration has them.
    pub(crate) terms: BTreeMap<LimitName, Terms>,
    /// The changes that it knows of.
    pub(crate) overrides: Overrides,
    /// Rates that it knows to be used up.
    pub(crate) spent: Vec<Spent>,
    /// How many of its runners may wait for longer than the patience.
    pub(crate) patient: u32,
}

/// The keeper's message to a worker.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The keeper.
    pub(crate) epoch: u64,
    /// A new keeper asks for a report.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) report: bool,
    /// The request that has been dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) done: Option<u64>,
    /// Permits that are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) granted: Vec<u64>,
    /// Permits that take longer than anyone should wait for, and when to ask again, in milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) later: Vec<(u64, u64)>,
    /// The limits that were changed, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) overrides: Option<Overrides>,
    /// Rates that are used up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) spent: Vec<Spent>,
}

impl Answer {
    /// Whether it says nothing but who the keeper is.
    pub(crate) fn is_empty(&self) -> bool {
        !self.report
            && self.done.is_none()
            && self.granted.is_empty()
            && self.later.is_empty()
            && self.overrides.is_none()
            && self.spent.is_empty()
    }
}
