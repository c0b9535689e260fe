//! A turn: everything that is due becomes decisions and messages, in one transaction.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use leveret_common::{clock::UnixMillis, message::Message, task::TaskId};
use tracing::{error, warn};

use super::{
    agenda::Item,
    decide::{Decision, decide},
    dispatch::Parcel,
    overlap::{self, Verdict},
    stats::End,
    ticker::Ticker,
};
use crate::{
    centre::{
        database::{DatabaseError, Transaction},
        store::{
            TickState,
            lanes::{self, Lane, LaneKey, OpenTick},
            rows::{self, NewMessage, NewTick},
            shards,
            tasks::TaskRecord,
            turns::{self, Advance, ClaimedMessage, DueSchedule},
        },
    },
    plan::{Facts, Overlap, Plan, TickKind},
};

/// How much of what is due goes into one transaction.
const MOST_TOGETHER: usize = 1_000;
/// With so many messages on their way the others wait in the outbox.
const MOST_IN_FLIGHT: usize = 20_000;
/// What has been given out to be published, and not been heard of, is given out again after that.
const CLAIM: Duration = Duration::from_secs(10);

/// A schedule that is due, and what was decided.
struct Due {
    schedule: DueSchedule,
    plan: Arc<Plan>,
    decision: Decision,
}

/// What goes into the tables, and what follows once it is there.
#[derive(Default)]
struct Writes {
    ticks: Vec<NewTick>,
    /// Tasks of which it is told that they are held. Most are published at once, and told of then alone.
    held: Vec<TaskRecord>,
    messages: Vec<(NewMessage, Message)>,
    skipped: Vec<(TaskId, String)>,
    let_go: Vec<TaskId>,
    cancelled: Vec<OpenTick>,
}

impl Ticker {
    /// Decides about all that is due at `now`, and publishes it once that is written down.
    pub(super) async fn turn(&mut self, now: UnixMillis) -> Result<(), DatabaseError> {
        let held = self.lease.held();
        let items = self.agenda.take(now, MOST_TOGETHER);
        let (mut schedules, mut claims) = (Vec::new(), Vec::new());
        let room = MOST_IN_FLIGHT.saturating_sub(self.in_flight.len());
        for item in items {
            match item {
                Item::Schedule(schedule) if held.contains_key(&schedule.shard) => schedules.push(*schedule),
                Item::Message(id, shard) if claims.len() < room && !self.in_flight.contains(&id) => {
                    claims.push((id, shard));
                }
                _ => {}
            }
        }
        self.plans.load(&self.store, &schedules).await?;
        let due: Vec<_> = schedules.into_iter().filter_map(|schedule| self.decided(schedule, now)).collect();
        let waiting = std::mem::take(&mut self.waiting);

        let mut transaction = self.store.database().begin().await?;
        let fences = shards::lock_held(&mut transaction, &self.id).await?;
        let is_own = |shard: i64| held.get(&shard).is_some() && held.get(&shard) == fences.get(&shard);
        let mut told = self.write_settled(&mut transaction).await?;
        let due = advance(&mut transaction, due, &is_own).await?;
        let open = open_lanes(&mut transaction, &due, waiting.into_iter().filter(|key| is_own(key.0))).await?;
        let mut writes = self.judge(&due, open, now)?;
        let new = rows::insert_ticks(&mut transaction, &writes.ticks).await?;
        writes.messages.retain(|(message, _)| new.contains(message.task_id.as_str()));
        let mut room = room.saturating_sub(claims.len());
        for (message, _) in &mut writes.messages {
            if message.try_at.is_some() && room > 0 {
                room -= 1;
                (message.claimed, message.try_at) = (true, Some(now + CLAIM));
            }
        }
        rows::insert_messages(&mut transaction, writes.messages.iter().map(|(message, _)| message)).await?;
        let is_open = self.dispatcher.is_open();
        let kept = writes.messages.iter().filter(|(message, _)| !(message.claimed && is_open));
        writes.held = kept.map(|(message, _)| message.record()).collect();
        if !writes.skipped.is_empty() {
            writes.held.extend(lanes::skip(&mut transaction, &writes.skipped, now).await?);
        }
        told.extend(self.store.record_tasks(&mut transaction, &writes.held).await?.changed);
        if !writes.let_go.is_empty() {
            lanes::let_go(&mut transaction, &writes.let_go, now).await?;
        }
        let claims: Vec<_> = claims.into_iter().filter(|(_, shard)| is_own(*shard)).map(|(id, _)| id).collect();
        let claimed = claim(&mut transaction, &claims, now).await?;
        transaction.commit().await?;

        self.settled_is_written();
        self.teller.tell(told);
        self.count(&writes, &new);
        self.publish(writes.messages, claimed, now);
        self.canceller.cancel(&writes.cancelled);
        if !writes.let_go.is_empty() {
            self.look_soon();
        }
        for Due { mut schedule, decision, .. } in due {
            if let Some(next) = decision.next {
                schedule.tick = next;
                let runs = i64::try_from(decision.runs.len()).unwrap_or_default();
                schedule.number += runs;
                schedule.runs_left = schedule.runs_left.map(|left| left - runs);
                self.agenda.add(next.due_at, Item::Schedule(Box::new(schedule)));
            }
        }
        Ok(())
    }

    fn decided(&self, schedule: DueSchedule, now: UnixMillis) -> Option<Due> {
        let plan = self.plans.get(&schedule)?;
        let decision = decide(&plan, schedule.tick, schedule.runs_left, now);
        Some(Due { schedule, plan, decision })
    }

    /// What becomes of each tick, with regard to those of its lane.
    fn judge(
        &self,
        due: &[Due],
        mut lanes: HashMap<(String, String), Lane>,
        now: UnixMillis,
    ) -> Result<Writes, DatabaseError> {
        let mut writes = Writes::default();
        for Due { schedule, plan, decision } in due {
            let definition = plan.definition();
            let facts = |scheduled_at, number| Facts {
                schedule: schedule.name.clone(),
                scheduled_at,
                kind: TickKind::Tick,
                number,
                last_success: schedule.last_success,
                payload: None,
            };
            for missed in &decision.missed {
                let mut tick = rows::new_tick(plan, &facts(missed.first, schedule.number), schedule.shard, now);
                (tick.state, tick.reason) = (TickState::Missed, Some(missed.reason.clone()));
                tick.count = i64::try_from(missed.count).unwrap_or(i64::MAX);
                writes.ticks.push(tick);
            }
            let mut number = schedule.number;
            for run in &decision.runs {
                number += 1;
                let facts = facts(run.scheduled_at, number);
                let mut tick = rows::new_tick(plan, &facts, schedule.shard, now);
                let stored = plan
                    .message(&facts)
                    .and_then(|message| message.to_stored(self.store.clock()).map(|stored| (message, stored)));
                let (message, stored) = match stored {
                    Ok(both) => both,
                    Err(error) => {
                        error!(schedule = %schedule.name, %error, "a tick has a message that cannot be published");
                        (tick.state, tick.reason) = (TickState::Missed, Some(error.to_string()));
                        writes.ticks.push(tick);
                        continue;
                    }
                };
                if let Some(name) = &tick.lane {
                    let lane = lanes.entry((schedule.name.namespace().to_owned(), name.clone())).or_default();
                    let open = OpenTick {
                        schedule: schedule.name.name().to_owned(),
                        scheduled_at: tick.scheduled_at,
                        kind: tick.kind,
                        cancels: tick.cancels,
                        task_id: tick.task_id.clone(),
                        queue: tick.queue.clone(),
                    };
                    if definition.overlap == Overlap::TerminateRunning {
                        writes.cancelled.extend(lane.running.iter().cloned());
                    }
                    match overlap::judge(lane, definition.overlap, open, &mut writes.skipped) {
                        Verdict::Run => {}
                        Verdict::Wait => tick.state = TickState::Buffered,
                        Verdict::Skip(reason) => (tick.state, tick.reason) = (TickState::Skipped, Some(reason)),
                    }
                }
                if !tick.state.is_end() {
                    writes.messages.push((NewMessage::of_tick(&tick, run.due_at, plan, &stored)?, message));
                }
                writes.ticks.push(tick);
            }
        }
        for lane in lanes.values_mut() {
            writes.let_go.extend(overlap::let_go(lane));
            writes.cancelled.extend_from_slice(overlap::to_cancel(lane));
        }
        Ok(writes)
    }

    /// Sends on its way what has been written down.
    fn publish(&mut self, new: Vec<(NewMessage, Message)>, claimed: Vec<(ClaimedMessage, Message)>, now: UnixMillis) {
        let mut parcels = Vec::with_capacity(new.len() + claimed.len());
        for (new, message) in new.into_iter().filter(|(new, _)| new.claimed) {
            let NewMessage { due_at, give_up_at, .. } = new;
            let (record, schedule) = (new.record(), new.schedule());
            parcels.push((Parcel { record, due_at, tries: 0, give_up_at, schedule }, message));
        }
        for (claimed, message) in claimed {
            let ClaimedMessage { record, due_at, tries, give_up_at, schedule, .. } = claimed;
            if give_up_at.is_some_and(|end| end <= now) {
                warn!(task.id = %record.id, "a tick was not published within its catch-up window");
                if let Some(schedule) = &schedule {
                    self.counters.ended(schedule, End::GivenUp, 1);
                }
                self.in_flight.insert(record.id.clone());
                let reason = "it could not be published within its catch-up window".to_owned();
                self.settled.give_up(record.id, reason);
                continue;
            }
            parcels.push((Parcel { record, due_at, tries, give_up_at, schedule }, message));
        }
        self.in_flight.extend(parcels.iter().map(|(parcel, _)| parcel.record.id.clone()));
        self.dispatcher.send(parcels);
    }

    fn count(&self, writes: &Writes, new: &HashSet<String>) {
        for tick in writes.ticks.iter().filter(|tick| new.contains(tick.task_id.as_str())) {
            let ticks = u64::try_from(tick.count).unwrap_or_default();
            match tick.state {
                TickState::Missed => self.counters.ended(&tick.schedule, End::Missed, ticks),
                TickState::Skipped => self.counters.ended(&tick.schedule, End::Skipped, ticks),
                _ => self.counters.decided(1),
            }
        }
    }
}

/// Moves the schedules on that are this centre's. Those that have moved: of the others nothing may be written.
async fn advance(
    transaction: &mut Transaction,
    mut due: Vec<Due>,
    is_own: &impl Fn(i64) -> bool,
) -> Result<Vec<Due>, DatabaseError> {
    due.retain(|due| is_own(due.schedule.shard));
    if due.is_empty() {
        return Ok(due);
    }
    let advances = due.iter().map(|Due { schedule, decision, .. }| Advance {
        name: schedule.name.clone(),
        revision: schedule.revision,
        from: schedule.tick.scheduled_at,
        next: decision.next,
        runs: i64::try_from(decision.runs.len()).unwrap_or_default(),
        last_tick_at: Some(decision.runs.last().map_or(schedule.tick.scheduled_at, |run| run.scheduled_at)),
    });
    let moved = turns::advance(transaction, &advances.collect::<Vec<_>>()).await?;
    due.retain(|due| moved.contains(&(due.schedule.name.namespace().to_owned(), due.schedule.name.name().to_owned())));
    Ok(due)
}

/// What is open in the lanes of these schedules, and in those in which somebody waits.
async fn open_lanes(
    transaction: &mut Transaction,
    due: &[Due],
    waiting: impl Iterator<Item = LaneKey>,
) -> Result<HashMap<(String, String), Lane>, DatabaseError> {
    let mut keys: HashSet<LaneKey> = waiting.collect();
    keys.extend(due.iter().filter(|due| !due.decision.runs.is_empty()).filter_map(|due| {
        let lane = crate::centre::store::lane(due.plan.name(), due.plan.definition())?;
        Some((due.schedule.shard, due.schedule.name.namespace().to_owned(), lane))
    }));
    if keys.is_empty() { Ok(HashMap::new()) } else { lanes::open(transaction, &keys).await }
}

/// Gives out messages of the outbox.
async fn claim(
    transaction: &mut Transaction,
    ids: &[TaskId],
    now: UnixMillis,
) -> Result<Vec<(ClaimedMessage, Message)>, DatabaseError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut messages = Vec::with_capacity(ids.len());
    for claimed in turns::claim(transaction, ids, now, now + CLAIM).await? {
        match Message::try_from(claimed.message.clone()) {
            Ok(message) => messages.push((claimed, message)),
            Err(error) => error!(task.id = %claimed.record.id, %error, "a message of the outbox cannot be published"),
        }
    }
    Ok(messages)
}
