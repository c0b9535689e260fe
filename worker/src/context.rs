//! What a handler knows of the task that it runs.

use std::{sync::Arc, time::Duration};

use leveret_common::{
    clock::{Clock, UnixMillis},
    headers::Headers,
    task::TaskId,
    trace_context::TraceContext,
    wire::{Envelope, Facts},
};
use tokio_util::sync::CancellationToken;

/// The task that a handler runs: its id, its attempt, and when it must be finished. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) worker: Arc<Surroundings>,
    pub(crate) max_attempts: u32,
    pub(crate) timeout: Duration,
}

/// What all tasks of a queue share.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) queue: String,
    pub(crate) worker: String,
    pub(crate) clock: Clock,
    pub(crate) stopping: CancellationToken,
}

impl Context {
    fn facts(&self) -> &Facts {
        &self.envelope.facts
    }

    /// The task's id: the same through retries, dead-lettering and replay.
    pub fn id(&self) -> &TaskId {
        &self.facts().id
    }

    /// The task's name.
    pub fn task(&self) -> &str {
        &self.facts().task
    }

    /// The queue that it came from.
    pub fn queue(&self) -> &str {
        &self.worker.queue
    }

    /// The name of this worker.
    pub fn worker(&self) -> &str {
        &self.worker.worker
    }

    /// Number of this attempt, from 1. A worker that is killed, and a snooze, do not raise it.
    pub fn attempt(&self) -> u32 {
        self.facts().attempt
    }

    /// How many attempts there may be.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// How long this attempt may run.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the broker has given this message out before, to a worker that did not settle it: the task may
    /// have run already, in part or in full.
    pub fn is_redelivered(&self) -> bool {
        self.facts().redelivered
    }

    /// The affinity key.
    pub fn key(&self) -> Option<&str> {
        self.facts().key.as_deref()
    }

    /// The schedule that made the task and the time of its tick.
    pub fn schedule(&self) -> Option<(&str, UnixMillis)> {
        self.facts().schedule.as_ref().map(|(name, tick)| (name.as_str(), *tick))
    }

    /// The media type of the body.
    pub fn content_type(&self) -> &str {
        &self.facts().content_type
    }

    /// The message's headers.
    pub fn headers(&self) -> &Headers {
        &self.envelope.headers
    }

    /// The trace context that the message brought.
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::read(&self.envelope.headers)
    }

    /// The worker's clock.
    pub fn clock(&self) -> &Clock {
        &self.worker.clock
    }

    /// Cancelled when the worker's grace is over and it stops now: what still runs is dropped at the next
    /// `await`, and its task goes back to the queue.
    pub fn stopping(&self) -> CancellationToken {
        self.worker.stopping.clone()
    }
}
