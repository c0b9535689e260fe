//! What a ticker reads in the database, and what it tidies there.

use std::time::Duration;

use leveret_common::clock::UnixMillis;
use tokio::time::Instant;
use tracing::warn;

use super::{
    agenda::Item,
    decide::LATE,
    ticker::{LOOK, Ticker},
};
use crate::centre::{database::DatabaseError, store::turns::Advance};

/// How far a look sees.
const HORIZON: Duration = Duration::from_millis(750);
/// How much a look reads. When there is more, the next look follows as soon as this is done.
const MOST_SEEN: i64 = 5_000;
/// Runs that nothing has been heard of, and schedules that are overdue, are looked for this often.
const LOST: Duration = Duration::from_secs(5);
/// A schedule that is due for longer than this is counted as overdue: nobody decides about it.
const OVERDUE: Duration = LATE;
/// Schedules whose next tick is computed anew at once.
const MOST_RESTARTED: i64 = 500;

impl Ticker {
    /// Reads what is due soon.
    pub(super) async fn look(&mut self, now: UnixMillis) -> Result<(), DatabaseError> {
        self.looked_at = Instant::now();
        self.look_at = self.looked_at + LOOK;
        let held = self.lease.held();
        let shards: Vec<_> = held.keys().copied().collect();
        self.sees_part = false;
        if shards.is_empty() {
            self.agenda.reset(now);
            return Ok(());
        }
        let until = now + HORIZON;
        let schedules = self.store.due_schedules(&shards, until, MOST_SEEN).await?;
        let messages = self.store.due_messages(&shards, until, MOST_SEEN).await?;
        self.waiting = self.store.waiting_lanes(&shards).await?.into_iter().collect();
        let is_full = |count: usize| i64::try_from(count).unwrap_or(MOST_SEEN) >= MOST_SEEN;
        let mut horizon = until;
        if let Some(last) = schedules.last().filter(|_| is_full(schedules.len())) {
            horizon = horizon.min(last.tick.due_at);
        }
        if let Some((_, _, last)) = messages.last().filter(|_| is_full(messages.len())) {
            horizon = horizon.min(*last);
        }
        self.sees_part = horizon < until;
        self.agenda.reset(horizon);
        for schedule in schedules {
            self.agenda.add(schedule.tick.due_at, Item::Schedule(Box::new(schedule)));
        }
        for (id, shard, at) in messages {
            if !self.in_flight.contains(&id) {
                self.agenda.add(at, Item::Message(id, shard));
            }
        }
        self.counters.database(None);
        Ok(())
    }

    /// Computes the next tick of a part of the schedules from now on, for a clock that was far ahead and was put right.
    pub(super) async fn restart(&mut self, cursor: (String, String), now: UnixMillis) -> Result<(), DatabaseError> {
        let shards: Vec<_> = self.lease.held().keys().copied().collect();
        let page = self.store.schedules_ahead(&shards, now, (&cursor.0, &cursor.1), MOST_RESTARTED).await?;
        let Some(last) = page.last() else { return Ok(()) };
        let next = (last.name.namespace().to_owned(), last.name.name().to_owned());
        self.plans.load(&self.store, &page).await?;
        let anew = page.iter().filter_map(|schedule| {
            let plan = self.plans.get(schedule)?;
            let next = plan.next_after(now).or_else(|| plan.after_end(now));
            let (name, revision, from) = (schedule.name.clone(), schedule.revision, schedule.tick.scheduled_at);
            (next != Some(schedule.tick)).then_some(Advance { name, revision, from, next, runs: 0, last_tick_at: None })
        });
        let anew: Vec<_> = anew.collect();
        self.store.advance_only(&anew).await?;
        self.restart = Some(next);
        self.look_at = Instant::now();
        Ok(())
    }

    /// Ends what has been lost, and counts what nobody decides about.
    pub(super) async fn tidy(&mut self) -> Result<(), DatabaseError> {
        let now = Instant::now();
        if now >= self.lost_at {
            self.lost_at = now + LOST;
            let shards: Vec<_> = self.lease.held().keys().copied().collect();
            let lost = self.store.end_lost_runs(&shards).await?;
            if lost > 0 {
                warn!(runs = lost, "nothing was heard of runs for too long: they count as ended");
                self.look_at = now;
            }
            let moment = self.store.clock().now();
            let (schedules, since) = self.store.overdue(moment - OVERDUE).await?;
            self.counters.overdue(schedules, since.map_or(Duration::ZERO, |since| moment.since(since)));
        }
        Ok(())
    }
}
