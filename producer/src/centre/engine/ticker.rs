//! The loop: looks what is due, takes turns, and collects what the broker has confirmed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use leveret_common::{clock::UnixMillis, link::PublishError, retry::Backoff, task::TaskId};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{
    agenda::Agenda,
    cancel::Canceller,
    declare::Declarer,
    dispatch::{Dispatcher, Outcome, is_passing},
    lease::Lease,
    plans::Plans,
    record::Teller,
    settle::Settled,
    stats::{Counters, End},
};
use crate::centre::{
    database::DatabaseError,
    store::{
        Store,
        lanes::LaneKey,
        tasks::{RecordedState, TaskRecord},
    },
};

/// The database is looked at this often: what others have changed is noticed by it.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// Though it is told of changes all the time, it does not look more often than this.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What the broker has confirmed is written down after this at the latest.
const SETTLE: Duration = Duration::from_millis(50);
/// Turns are at least so far apart, so that what is due at about the same time shares a transaction.
const TURN: Duration = Duration::from_millis(8);
/// After a failure of the database.
const BREATH: Duration = Duration::from_millis(250);
/// A clock put back by more than this was wrong before, and schedules start over from the new time.
const CLOCK_WAS_WRONG: Duration = Duration::from_secs(3 * 3_600);
/// The same trouble with a queue is logged this often.
const LOG: Duration = Duration::from_secs(30);

pub(super) struct Ticker {
    pub(super) store: Store,
    pub(super) lease: Arc<Lease>,
    pub(super) id: String,
    pub(super) counters: Arc<Counters>,
    pub(super) dispatcher: Dispatcher,
    outcomes: mpsc::UnboundedReceiver<Vec<Outcome>>,
    declarer: Declarer,
    pub(super) canceller: Canceller,
    pub(super) teller: Teller,
    records: mpsc::UnboundedSender<Vec<TaskRecord>>,
    pub(super) agenda: Agenda,
    pub(super) plans: Plans,
    /// Messages on their way to the broker, or back and not written down yet.
    pub(super) in_flight: HashSet<TaskId>,
    pub(super) settled: Settled,
    /// Lanes in which somebody waits.
    pub(super) waiting: HashSet<LaneKey>,
    /// Whether the last look did not see everything.
    pub(super) sees_part: bool,
    pub(super) look_at: Instant,
    pub(super) looked_at: Instant,
    turn_at: Instant,
    pub(super) lost_at: Instant,
    /// The latest moment that the clock has shown.
    seen: UnixMillis,
    /// Where the restart after a wrong clock is.
    pub(super) restart: Option<(String, String)>,
    backoff: Backoff,
    logged: HashMap<String, Instant>,
}

impl Ticker {
    pub(super) fn new(
        store: Store,
        lease: Arc<Lease>,
        id: String,
        counters: Arc<Counters>,
        (dispatcher, outcomes): (Dispatcher, mpsc::UnboundedReceiver<Vec<Outcome>>),
        (declarer, canceller): (Declarer, Canceller),
        (teller, records): (Teller, mpsc::UnboundedSender<Vec<TaskRecord>>),
    ) -> Self {
        let now = Instant::now();
        Self {
            seen: store.clock().now(),
            store,
            lease,
            id,
            counters,
            dispatcher,
            outcomes,
            declarer,
            canceller,
            teller,
            records,
            agenda: Agenda::new(),
            plans: Plans::default(),
            in_flight: HashSet::new(),
            settled: Settled::default(),
            waiting: HashSet::new(),
            sees_part: false,
            look_at: now,
            looked_at: now,
            turn_at: now,
            lost_at: now,
            restart: None,
            backoff: Backoff::exponential(Duration::from_millis(200), Duration::from_secs(30)),
            logged: HashMap::new(),
        }
    }

    /// Decides and publishes until it is told to stop, and then waits for confirms for as long as `grace`.
    pub(super) async fn run(mut self, stop: CancellationToken, grace: Duration) {
        while !stop.is_cancelled() {
            let step = self.step().await;
            if let Err(error) = step {
                self.failed(&error);
            }
            self.rest(&stop).await;
        }
        let deadline = Instant::now() + grace;
        while !self.in_flight.is_empty() && Instant::now() < deadline {
            if let Ok(Some(outcomes)) = tokio::time::timeout_at(deadline, self.outcomes.recv()).await {
                self.collect(outcomes);
            }
            while let Ok(outcomes) = self.outcomes.try_recv() {
                self.collect(outcomes);
            }
            if let Err(error) = self.settle().await {
                self.failed(&error);
                tokio::time::sleep(BREATH).await;
            }
        }
        if !self.in_flight.is_empty() {
            warn!(
                messages = self.in_flight.len(),
                "stopped before the broker has confirmed: others publish them again"
            );
        }
    }

    /// Everything that there is to do now.
    async fn step(&mut self) -> Result<(), DatabaseError> {
        let now = self.watch_clock();
        if Instant::now() >= self.look_at {
            self.look(now).await?;
        }
        if let Some(cursor) = self.restart.take() {
            self.restart(cursor, now).await?;
        }
        let is_due = self.agenda.next().is_some_and(|at| at <= now) || !self.waiting.is_empty();
        if (is_due || self.has_to_settle()) && Instant::now() >= self.turn_at {
            let begun = Instant::now();
            self.turn_at = begun + TURN;
            self.turn(self.store.clock().now()).await?;
            self.counters.turn(begun.elapsed());
            if self.sees_part && self.agenda.next().is_none_or(|at| at > now) {
                self.look_at = Instant::now();
            }
        }
        self.counters.waiting(self.in_flight.len());
        self.tidy().await
    }

    /// Waits until there is something to do.
    async fn rest(&mut self, stop: &CancellationToken) {
        let due = self.agenda.next();
        let turn_at = self.turn_at;
        let mut wake = self.look_at;
        if let Some(since) = self.settled.since {
            wake = wake.min(turn_at.max(since + SETTLE));
        }
        if !self.waiting.is_empty() {
            wake = wake.min(turn_at);
        }
        let clock = self.store.clock().clone();
        let next_item = async move {
            match due {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
            tokio::time::sleep_until(turn_at).await;
        };
        if self.restart.is_some() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(outcomes) = self.outcomes.recv() => {
                self.collect(outcomes);
                while let Ok(outcomes) = self.outcomes.try_recv() {
                    self.collect(outcomes);
                }
            }
            () = self.store.changed() => self.look_soon(),
            () = self.lease.changed() => self.look_soon(),
            () = next_item => {}
            () = tokio::time::sleep_until(wake) => {}
        }
    }

    /// Looks again, though not more often than is worth it.
    pub(super) fn look_soon(&mut self) {
        self.look_at = self.look_at.min(self.looked_at + LOOK_AGAIN);
    }

    fn has_to_settle(&self) -> bool {
        self.settled.len() >= 1_000 || self.settled.since.is_some_and(|since| since.elapsed() >= SETTLE)
    }

    /// What came of publishes.
    fn collect(&mut self, outcomes: Vec<Outcome>) {
        let now = self.store.clock().now();
        let mut records = Vec::with_capacity(outcomes.len());
        for Outcome { parcel, result, at, took } in outcomes {
            self.settled.since.get_or_insert_with(Instant::now);
            let error = match result {
                Ok(()) => {
                    self.counters.published_within(took);
                    match &parcel.schedule {
                        Some(schedule) => {
                            self.counters.ended(schedule, End::Published, 1);
                            self.counters.lateness(schedule, at.since(parcel.due_at));
                        }
                        None => self.counters.delayed(),
                    }
                    self.settled.published.push((parcel.record.id.clone(), at));
                    records.push(parcel.record.became(RecordedState::Published, at));
                    continue;
                }
                Err(error) => error,
            };
            self.counters.failed();
            self.log(&parcel.record.queue, &error);
            if parcel.give_up_at.is_some_and(|end| end <= now) {
                if let Some(schedule) = &parcel.schedule {
                    self.counters.ended(schedule, End::GivenUp, 1);
                }
                let reason = format!("it could not be published within its catch-up window: {error}");
                self.settled.given_up.push((parcel.record.id, reason));
                continue;
            }
            let delay = if is_passing(&error) {
                Duration::from_millis(500)
            } else {
                self.backoff.delay_after(u32::try_from(parcel.tries).unwrap_or(u32::MAX).saturating_add(1))
            };
            if matches!(error, PublishError::Unroutable { .. }) {
                self.declarer.declare(&parcel.record.queue);
            }
            self.settled.retried.push((parcel.record.id.clone(), now + delay));
            if parcel.tries == 0 {
                records.push(parcel.record);
            }
        }
        // The recorder outlives the loop.
        drop(self.records.send(records));
    }

    /// Says what is wrong with a queue, but not with each message.
    fn log(&mut self, queue: &str, error: &PublishError) {
        let now = Instant::now();
        let key = format!("{queue} {:?}", std::mem::discriminant(error));
        if self.logged.get(&key).is_some_and(|logged| now < *logged + LOG) {
            debug!(queue, %error, "could not be published and is tried again");
            return;
        }
        self.logged.insert(key, now);
        match error {
            PublishError::Invalid(_) | PublishError::Unacceptable { .. } => {
                error!(queue, %error, "a message cannot be published");
            }
            error => warn!(queue, %error, "a message could not be published and is tried again"),
        }
    }

    /// The time, and what there is to do if the clock was put back.
    fn watch_clock(&mut self) -> UnixMillis {
        let now = self.store.clock().now();
        if self.seen.since(now) > CLOCK_WAS_WRONG {
            warn!(from = %self.seen.to_rfc3339(), to = %now.to_rfc3339(), "the clock was put back: schedules start over");
            self.restart = Some((String::new(), String::new()));
            self.look_at = Instant::now();
            self.seen = now;
        }
        self.seen = self.seen.max(now);
        now
    }

    fn failed(&mut self, error: &DatabaseError) {
        let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        warn!(error = text, "the database did not do what was asked; trying again");
        self.counters.database(Some(text));
        self.plans.clear();
        // What was taken from the agenda and not decided is still in the database.
        self.look_at = Instant::now() + BREATH;
        self.turn_at = self.look_at;
    }
}
