//! What a handler knows of the task that it runs, and what it can do about it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use leveret_common::event::Progress;
use leveret_common::{
    clock::{Clock, UnixMillis},
    event::{Events, Happening, Tracking},
    headers::Headers,
    message::Message,
    metrics::TaskEnd,
    once::Mark,
    task::{Task, TaskId},
    trace_context::TraceContext,
    wire::{Envelope, Facts},
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{
    handler::Kind,
    layer::Claimed,
    outcome::{Ended, Error, ErrorKind},
    revocations::Revocations,
    state::State,
};

/// The task that a handler runs: its id, its attempt, when it must be finished. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Attempt>);

/// One attempt at a task.
struct Attempt {
    envelope: Envelope,
    kind: Arc<Kind>,
    lane: Arc<Surroundings>,
    max_attempts: u32,
    timeout: Duration,
    started: Instant,
    started_at: UnixMillis,
    /// Whether it is reported on.
    tracked: bool,
    /// Made when somebody asks for it: most tasks are done before anyone does.
    cancellation: OnceLock<CancellationToken>,
    span: OnceLock<Span>,
    notes: Mutex<Notes>,
}

/// What came up while it ran.
#[derive(Debug, Default)]
struct Notes {
    cancelled: Option<Cancelled>,
    progress: Option<Progress>,
    heard: Option<Instant>,
    follow_ups: Vec<Message>,
    fields: String,
    claimed: Option<Claimed>,
}

/// What all tasks of a queue share.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) queue: String,
    pub(crate) worker: String,
    pub(crate) instance: Arc<str>,
    pub(crate) clock: Clock,
    pub(crate) state: Arc<State>,
    /// Cancelled when the worker is told to stop.
    pub(crate) stopping: CancellationToken,
    /// Which tasks are reported on, and to where.
    pub(crate) tracking: Tracking,
    pub(crate) events: Events,
    /// Attempts that have ended, by how they did.
    pub(crate) tally: Tally,
    /// Tasks that are not to begin.
    pub(crate) revocations: Arc<Revocations>,
}

/// Counts by [`TaskEnd`].
#[derive(Debug, Default)]
pub(crate) struct Tally([AtomicU64; TaskEnd::ALL.len()]);

impl Tally {
    pub(crate) fn count(&self, end: TaskEnd) {
        self.0[end as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn of(&self, end: TaskEnd) -> u64 {
        self.0[end as usize].load(Ordering::Relaxed)
    }
}

/// Why an attempt is to come to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// Somebody called the task off, for this reason. A handler that does not end within five seconds is dropped.
    Requested(String),
    /// Its soft timeout is over.
    OutOfTime,
    /// The worker's grace is over and it stops now: the task goes back to its queue.
    Stopping,
}

impl Context {
    pub(crate) fn new(envelope: Envelope, kind: Arc<Kind>, lane: Arc<Surroundings>) -> Self {
        let facts = &envelope.facts;
        Self(Arc::new(Attempt {
            max_attempts: facts.max_attempts.unwrap_or(kind.policy.retry.max_attempts),
            timeout: facts.timeout.unwrap_or(kind.policy.timeout),
            started: Instant::now(),
            started_at: lane.clock.now(),
            tracked: lane.follows(&envelope),
            envelope,
            kind,
            lane,
            cancellation: OnceLock::new(),
            span: OnceLock::new(),
            notes: Mutex::default(),
        }))
    }

    pub(crate) fn envelope(&self) -> &Envelope {
        &self.0.envelope
    }

    pub(crate) fn kind(&self) -> &Arc<Kind> {
        &self.0.kind
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.0.envelope.facts
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
        &self.0.lane.queue
    }

    /// The name of this worker. Replicas may share it.
    pub fn worker(&self) -> &str {
        &self.0.lane.worker
    }

    /// The id of this worker's process, which no other has.
    pub fn instance(&self) -> &str {
        &self.0.lane.instance
    }

    pub(crate) fn shared_instance(&self) -> Arc<str> {
        self.0.lane.instance.clone()
    }

    /// Number of this attempt, from 1. A worker that is killed, and a snooze, do not raise it.
    pub fn attempt(&self) -> u32 {
        self.facts().attempt
    }

    /// How many attempts there may be.
    pub fn max_attempts(&self) -> u32 {
        self.0.max_attempts
    }

    /// How long this attempt may run.
    pub fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// When this attempt began, by the worker's clock.
    pub fn started_at(&self) -> UnixMillis {
        self.0.started_at
    }

    /// When this attempt must be finished.
    pub fn deadline(&self) -> Instant {
        self.at(self.0.timeout)
    }

    /// The moment so long after its start; never so far off that no clock can show it.
    pub(crate) fn at(&self, since_start: Duration) -> Instant {
        self.0.started + since_start.min(Duration::from_secs(10 * 365 * 86_400))
    }

    /// How long this attempt may still run.
    pub fn time_left(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
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

    /// Which share of a broadcast this is, from 0, and how many there are.
    pub fn share(&self) -> Option<(u32, u32)> {
        self.facts().share
    }

    /// The schedule that made the task and the time of its tick.
    pub fn schedule(&self) -> Option<(&str, UnixMillis)> {
        self.facts().schedule.as_ref().map(|(name, tick)| (name.as_str(), *tick))
    }

    /// The media type of the body.
    pub fn content_type(&self) -> &str {
        &self.facts().content_type
    }

    /// The body, decompressed.
    pub fn body(&self) -> &bytes::Bytes {
        &self.0.envelope.body
    }

    /// The message's headers.
    pub fn headers(&self) -> &Headers {
        &self.0.envelope.headers
    }

    /// The trace context that the message brought.
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::read(&self.0.envelope.headers)
    }

    /// The worker's clock.
    pub fn clock(&self) -> &Clock {
        &self.0.lane.clock
    }

    /// What the worker was given with `.state(..)`, by its type.
    ///
    /// # Errors
    /// [`Error`] when it was given nothing of this type; `?` passes it on, and the task is tried again.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<&T, Error> {
        self.0.lane.state.get()
    }

    /// A token that is cancelled when the attempt is to come to an end; [`why_cancelled`](Self::why_cancelled) says why.
    pub fn cancellation(&self) -> CancellationToken {
        self.0.cancellation.get_or_init(CancellationToken::new).clone()
    }

    /// Waits until the attempt is to come to an end: it was called off, its soft timeout is over, or the worker stops.
    pub async fn cancelled(&self) {
        self.cancellation().cancelled().await;
    }

    /// Whether the attempt is to come to an end, and why.
    pub fn why_cancelled(&self) -> Option<Cancelled> {
        self.0.notes.lock().cancelled.clone()
    }

    /// Why it is not to begin, if it was called off before.
    pub(crate) fn revoked(&self) -> Option<String> {
        self.0.lane.revocations.of(self.id(), self.facts().replays)
    }

    /// Tells the handler to come to an end. Whoever calls a task off has the last word.
    pub(crate) fn cancel(&self, why: Cancelled) {
        {
            let mut notes = self.0.notes.lock();
            if matches!(notes.cancelled, None | Some(Cancelled::OutOfTime)) {
                notes.cancelled = Some(why);
            }
        }
        self.cancellation().cancel();
    }

    /// The error of a handler that ends because it was told to: called off, out of time or to run again elsewhere,
    /// as the case may be. For `return Err(context.cancelled_error())`.
    pub fn cancelled_error(&self) -> Error {
        match self.why_cancelled() {
            Some(Cancelled::Requested(reason)) => Error::of(ErrorKind::Cancelled, reason),
            Some(Cancelled::OutOfTime) => Error::of(ErrorKind::TimedOut, "it ended when its soft timeout was over"),
            Some(Cancelled::Stopping) | None => Error::of(ErrorKind::Stopped, "the worker stops"),
        }
    }

    /// Says how far it has come: `cursor` of `total` (`None` if nobody knows), and what is being done, for people. Seen
    /// by `leveret workers running` and by whoever follows events. Also a [`heartbeat`](Self::heartbeat).
    pub fn progress(&self, cursor: u64, total: impl Into<Option<u64>>, note: impl Into<String>) {
        let note = Some(note.into()).filter(|note| !note.is_empty());
        let progress = Progress { cursor, total: total.into(), note };
        self.report(|| Happening::Progress(progress.clone()));
        let mut notes = self.0.notes.lock();
        notes.progress = Some(progress);
        notes.heard = Some(Instant::now());
    }

    /// How far it has come, as it last said.
    pub fn last_progress(&self) -> Option<Progress> {
        self.0.notes.lock().progress.clone()
    }

    /// Says that the handler is alive, where the task's policy asks for that within a time.
    pub fn heartbeat(&self) {
        self.0.notes.lock().heard = Some(Instant::now());
    }

    /// When the handler was last heard of; at its start, if it has said nothing.
    pub(crate) fn last_heard(&self) -> Instant {
        self.0.notes.lock().heard.unwrap_or(self.0.started)
    }

    /// Publishes a task once, and only if, this one succeeds: it is confirmed by the broker before this task is
    /// acknowledged. Its id follows from this task's, unless it was given one, so that a repeat makes no other task.
    pub fn follow_up(&self, message: Message) {
        let mut notes = self.0.notes.lock();
        let number = notes.follow_ups.len().to_string();
        let message = message.default_id(|| TaskId::derived(&["follow-up", self.id().as_str(), &number]));
        notes.follow_ups.push(message.in_current_trace());
    }

    /// [`follow_up`](Self::follow_up) with a typed task.
    ///
    /// # Errors
    /// [`Error`] when the task cannot be written as JSON.
    pub fn follow_up_task<T: Task>(&self, task: &T) -> Result<(), Error> {
        self.follow_up(Message::of(task)?);
        Ok(())
    }

    /// Changes the tasks that are to follow.
    pub(crate) fn change_follow_ups(&self, change: impl Fn(Message) -> Message) {
        let follow_ups = self.take_follow_ups();
        if !follow_ups.is_empty() {
            // Not while the lock is held: it may take its time.
            let changed = follow_ups.into_iter().map(change).collect();
            self.0.notes.lock().follow_ups = changed;
        }
    }

    /// The mark by which the layer [`Once`](crate::layer::Once) tells that this task's work is done: for a handler that
    /// commits it together with its own work. `None` without that layer.
    pub fn once_mark(&self) -> Option<Mark> {
        self.0.notes.lock().claimed.as_ref().map(|claimed| Mark::clone(claimed.mark()))
    }

    pub(crate) fn set_claimed(&self, claimed: Claimed) {
        self.0.notes.lock().claimed = Some(claimed);
    }

    pub(crate) fn take_claimed(&self) -> Option<Claimed> {
        self.0.notes.lock().claimed.take()
    }

    /// Takes out the tasks that are to follow.
    pub(crate) fn take_follow_ups(&self) -> Vec<Message> {
        std::mem::take(&mut self.0.notes.lock().follow_ups)
    }

    /// Puts `name=value` on every log line of this attempt from here on, as part of the field `fields`.
    pub fn log_field(&self, name: &str, value: impl fmt::Display) {
        let mut notes = self.0.notes.lock();
        if !notes.fields.is_empty() {
            notes.fields.push(' ');
        }
        // Writing into a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut notes.fields, format_args!("{name}={value}"));
        self.span().record("fields", notes.fields.as_str());
    }

    /// The span of this attempt, for fields and events of one's own. A span that records nothing while nobody listens.
    pub fn span(&self) -> Span {
        self.0.span.get().cloned().unwrap_or_else(Span::none)
    }

    pub(crate) fn set_span(&self, span: Span) {
        // There is one attempt, and so one span.
        let _ = self.0.span.set(span);
    }

    /// Whether it is reported on.
    pub(crate) fn is_tracked(&self) -> bool {
        self.0.tracked
    }

    /// Reports what happened to it, if it is reported on.
    pub(crate) fn report(&self, what: impl FnOnce() -> Happening) {
        if !self.0.tracked {
            return;
        }
        self.0.lane.report(&self.0.envelope, what());
    }

    /// How long it has run, in milliseconds.
    pub(crate) fn ran_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long it had waited when it began, as far as its publisher's clock can tell.
    pub(crate) fn waited(&self) -> Option<Duration> {
        let published = i64::try_from(self.facts().timestamp?).ok()?.checked_mul(1000)?;
        Some(self.started_at().since(UnixMillis(published)))
    }

    /// What follows from an end, as the metrics and the log call it.
    pub(crate) fn fate(&self, ended: &Ended) -> crate::fate::Fate {
        crate::fate::Fate::of(self, ended)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", self.id())
            .field("task", &self.task())
            .field("queue", &self.queue())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
