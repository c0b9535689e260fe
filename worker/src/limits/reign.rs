//! What one keeper knows and decides, without a broker.
//!
//! Of every worker the keeper leaves the last message unacknowledged. So when it is gone, the next one finds a message
//! of each worker that could have a permit, and then the marker that it sent to itself: now it knows them all. It asks
//! each what it has, under an epoch of its own, and from its answer on a worker takes no permit of the keeper before.
//! Nothing is given out until all have told, or are gone: their queues go with their connections, and a letter to a
//! queue that is gone comes back.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use leveret_common::limit::{LimitName, Terms};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    bucket::{Moment, nanos},
    ledger::{Ledger, Ticket},
    protocol::{Answer, Override, Overrides, Report, Request, Spent},
};

/// Whether a worker that has something is still there is asked so often.
const PULSE: Duration = Duration::from_millis(250);
/// And one that has nothing, in pulses.
const IDLE_PULSES: u64 = 20;
/// What a worker that is gone had is kept for so long, so that one which lost nothing but its connection can learn of
/// it before others take its place.
const GRACE: Duration = Duration::from_millis(200);
/// A worker that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Reign {
    epoch: u64,
    began: Instant,
    patience: Duration,
    ledger: Ledger,
    workers: HashMap<u64, Worker>,
    numbers: HashMap<String, u64>,
    /// Of all workers that there were, so that a number is never used again.
    count: u64,
    marker_seen: bool,
    serving: bool,
    overrides: Overrides,
    changes: u64,
    known: BTreeSet<LimitName>,
    settled: Vec<u64>,
    next_pulse: Instant,
    pulses: u64,
}

#[derive(Debug)]
struct Worker {
    queue: String,
    /// Its last message, not acknowledged.
    tag: u64,
    /// It has reported to this keeper.
    told: bool,
    asked: Option<Instant>,
    /// Its last request.
    number: u64,
    /// A letter to it came back.
    gone: Option<Instant>,
    terms: BTreeMap<LimitName, Terms>,
    answer: Answer,
}

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// Letters to acknowledge.
    pub(super) settled: Vec<u64>,
    /// Answers, and the queues that they go to.
    pub(super) answers: Vec<(String, Answer)>,
}

impl Reign {
    pub(super) fn new(epoch: u64, patience: Duration, now: Instant) -> Self {
        Self {
            epoch,
            began: now,
            patience,
            ledger: Ledger::new(patience),
            workers: HashMap::new(),
            numbers: HashMap::new(),
            count: 0,
            marker_seen: false,
            serving: false,
            overrides: Overrides::new(),
            changes: 0,
            known: BTreeSet::new(),
            settled: Vec::new(),
            next_pulse: now + PULSE,
            pulses: 0,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    fn moment(&self, now: Instant) -> Moment {
        nanos(now.duration_since(self.began))
    }

    /// Its own marker came: every worker that the keeper before knew has been heard of.
    pub(super) fn marker(&mut self, tag: u64, epoch: u64) {
        self.settled.push(tag);
        self.marker_seen |= epoch == self.epoch;
    }

    /// A letter came back: that worker's connection is gone.
    pub(super) fn returned(&mut self, queue: &str, now: Instant) {
        if let Some(worker) = self.numbers.get(queue).and_then(|number| self.workers.get_mut(number)) {
            worker.gone.get_or_insert(now);
        }
    }

    /// A worker asks.
    pub(super) fn request(&mut self, tag: u64, request: Request, now: Instant) {
        if request.epoch > self.epoch {
            self.begin_again(request.epoch + 1, now);
        }
        let number = match self.numbers.get(&request.from) {
            Some(number) => *number,
            None => {
                self.count += 1;
                self.numbers.insert(request.from.clone(), self.count);
                self.count
            }
        };
        let worker = match self.workers.entry(number) {
            std::collections::hash_map::Entry::Occupied(known) => {
                let worker = known.into_mut();
                self.settled.push(std::mem::replace(&mut worker.tag, tag));
                worker
            }
            std::collections::hash_map::Entry::Vacant(new) => new.insert(Worker {
                queue: request.from.clone(),
                tag,
                told: false,
                asked: None,
                number: 0,
                gone: None,
                terms: BTreeMap::new(),
                answer: Answer::default(),
            }),
        };
        if worker.gone.take().is_some() {
            // It says that it is there. If it is not, this is an old message, and the question comes back as well.
            (worker.told, worker.asked) = (false, None);
        }
        if request.epoch != self.epoch || (!worker.told && request.report.is_none()) {
            worker.told = false;
            if worker.asked.is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN) {
                worker.ask(now);
            }
            return;
        }
        worker.answer.done = Some(worker.answer.done.unwrap_or(0).max(request.number));
        if worker.told && request.number <= worker.number {
            return;
        }
        worker.number = request.number;
        let moment = nanos(now.duration_since(self.began));
        let Request { report, release, mut acquire, set, .. } = request;
        if let Some(report) = report {
            (worker.told, worker.asked) = (true, None);
            // A worker that is new has to hear of the changes as well.
            worker.answer.overrides = Some(Overrides::new());
            acquire = self.adopt(number, report, acquire, moment);
        }
        for id in release {
            self.ledger.release(Ticket { session: number, id }, moment);
        }
        for wanted in acquire {
            self.ledger.wait(number, wanted, moment);
        }
        for (limit, terms) in set {
            self.change(limit, terms, moment);
        }
    }

    /// Takes over what a worker has. Gives what it waits for and what is not known of yet.
    fn adopt(
        &mut self,
        session: u64,
        report: Report,
        acquire: Vec<super::protocol::Wanted>,
        now: Moment,
    ) -> Vec<super::protocol::Wanted> {
        let Report { held, terms, overrides, spent, patient } = report;
        let mut held: HashMap<u64, _> = held.into_iter().map(|held| (held.id, held.claims)).collect();
        let mut acquire: BTreeMap<u64, _> = acquire.into_iter().map(|wanted| (wanted.id, wanted)).collect();
        for (id, is_held) in self.ledger.of(session).collect::<Vec<_>>() {
            let ticket = Ticket { session, id };
            match (is_held, held.contains_key(&id), acquire.contains_key(&id)) {
                (true, true, _) => drop(held.remove(&id)),
                (true, false, true) => {
                    // It was given and is on its way: it counts, and is given once more.
                    acquire.remove(&id);
                    if let Some(worker) = self.workers.get_mut(&session) {
                        worker.answer.granted.push(id);
                    }
                }
                (false, false, true) => drop(acquire.remove(&id)),
                _ => self.ledger.release(ticket, now),
            }
        }
        for (id, claims) in held {
            self.ledger.hold(Ticket { session, id }, claims, now);
        }
        for Spent { claim, for_ms } in spent {
            self.ledger.spend(&claim, now.saturating_add(nanos(Duration::from_millis(for_ms))));
        }
        self.ledger.set_patient(session, patient);
        for (limit, told) in overrides {
            let known = self.overrides.get(&limit).map(|known| known.version);
            if known.is_none_or(|version| version < told.version) {
                self.overrides.insert(limit, told);
                self.tell_overrides();
            }
        }
        if let Some(worker) = self.workers.get_mut(&session) {
            worker.terms = terms;
        }
        self.refresh(now);
        acquire.into_values().collect()
    }

    fn change(&mut self, limit: LimitName, terms: Option<Terms>, now: Moment) {
        if terms.is_some_and(|terms| terms.check().is_err()) {
            warn!(%limit, "a worker asks to change a limit to what admits nothing, or everything: not changed");
            return;
        }
        self.changes += 1;
        info!(%limit, ?terms, "a limit is changed");
        self.overrides.insert(limit, Override { version: (self.epoch, self.changes), terms });
        self.tell_overrides();
        self.refresh(now);
    }

    /// All workers are to know of all changes, so that they survive the keeper.
    fn tell_overrides(&mut self) {
        for worker in self.workers.values_mut() {
            worker.answer.overrides = Some(Overrides::new());
        }
    }

    /// What holds: a change, or else the strictest of what the living workers' configurations say.
    fn refresh(&mut self, now: Moment) {
        let mut configured: BTreeMap<&LimitName, Terms> = BTreeMap::new();
        for (limit, terms) in self.workers.values().flat_map(|worker| &worker.terms) {
            configured.entry(limit).and_modify(|known| *known = known.min(*terms)).or_insert(*terms);
        }
        let mut forgotten = false;
        if self.serving {
            for (limit, changed) in &mut self.overrides {
                if changed.terms.is_some() && !configured.contains_key(limit) {
                    self.changes += 1;
                    *changed = Override { version: (self.epoch, self.changes), terms: None };
                    forgotten = true;
                }
            }
        }
        for limit in self.known.iter().filter(|limit| !configured.contains_key(limit)) {
            self.ledger.set_terms(limit, None, now);
        }
        for (limit, terms) in &configured {
            let changed = self.overrides.get(*limit).and_then(|changed| changed.terms);
            self.ledger.set_terms(limit, Some(changed.unwrap_or(*terms)), now);
        }
        self.known = configured.into_keys().cloned().collect();
        if forgotten {
            self.tell_overrides();
        }
    }

    /// A worker follows a keeper that came after this one: whatever was counted here does not hold.
    fn begin_again(&mut self, epoch: u64, now: Instant) {
        warn!(epoch, "another worker kept the limits in between, asking all once more");
        self.epoch = epoch;
        self.ledger = Ledger::new(self.patience);
        self.began = now;
        (self.marker_seen, self.serving) = (false, false);
        for worker in self.workers.values_mut() {
            worker.told = false;
            worker.ask(now);
        }
    }

    /// Decides what can be decided, and gives what is to be sent.
    pub(super) fn advance(&mut self, now: Instant) -> Out {
        let moment = self.moment(now);
        self.bury(now);
        if !self.serving && self.marker_seen && self.workers.values().all(|worker| worker.told) {
            self.serving = true;
            self.ledger.begin(moment);
            self.refresh(moment);
            let took_ms = u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
            info!(workers = self.workers.len(), took_ms, "all workers have told what they have: giving out permits");
        }
        if self.serving {
            let decisions = self.ledger.advance(moment);
            for Ticket { session, id } in decisions.granted {
                if let Some(worker) = self.workers.get_mut(&session) {
                    worker.answer.granted.push(id);
                }
            }
            for (Ticket { session, id }, wait) in decisions.later {
                if let Some(worker) = self.workers.get_mut(&session) {
                    worker.answer.later.push((id, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
                }
            }
        }
        let pulse = now >= self.next_pulse;
        if pulse {
            self.next_pulse = now + PULSE;
            self.pulse(now, moment);
        }
        self.out(pulse)
    }

    /// When there is something to do by the time alone.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        let moment = self.moment(now);
        let ledger = self.serving.then(|| self.ledger.next_wake(moment)).flatten();
        let ledger = ledger.map(|at| self.began + Duration::from_nanos(u64::try_from(at).unwrap_or(0)));
        let graves = self.workers.values().filter_map(|worker| worker.gone).map(|gone| gone + GRACE);
        ledger.into_iter().chain(graves).fold(self.next_pulse, Instant::min)
    }

    fn bury(&mut self, now: Instant) {
        let is_over = |gone: Instant| now.duration_since(gone) >= GRACE;
        let over = |(number, worker): (&u64, &Worker)| worker.gone.is_some_and(is_over).then_some(*number);
        let dead: Vec<u64> = self.workers.iter().filter_map(over).collect();
        for number in dead {
            let Some(worker) = self.workers.remove(&number) else { continue };
            let moment = self.moment(now);
            if self.ledger.is_busy(number) {
                info!(worker = worker.queue, "a worker is gone, what it had is given to others");
            }
            self.numbers.remove(&worker.queue);
            self.settled.push(worker.tag);
            self.ledger.leave(number, moment);
            self.refresh(moment);
        }
    }

    fn pulse(&mut self, now: Instant, moment: Moment) {
        self.pulses += 1;
        self.ledger.sweep(moment);
        // Whoever keeps the limits next has to know of slow rates; the others are as good as new by then.
        let spent: Vec<Spent> = self
            .ledger
            .take_used()
            .into_iter()
            .filter_map(|(claim, until)| {
                let for_ms = u64::try_from((until - moment) / 1_000_000).ok().filter(|left| *left > 0)?;
                Some(Spent { claim, for_ms })
            })
            .collect();
        let waited = now.duration_since(self.began);
        for worker in self.workers.values_mut().filter(|worker| worker.gone.is_none()) {
            if worker.told {
                worker.answer.spent.clone_from(&spent);
            } else if worker.asked.is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN) {
                worker.ask(now);
            }
            if !worker.told && waited > Duration::from_secs(5) && self.pulses.is_multiple_of(IDLE_PULSES) {
                warn!(
                    worker = worker.queue,
                    "a worker does not tell what it has: no permits until it does, or the broker finds it gone"
                );
            }
        }
    }

    fn out(&mut self, pulse: bool) -> Out {
        let mut out = Out { settled: std::mem::take(&mut self.settled), answers: Vec::new() };
        let all = pulse && self.pulses.is_multiple_of(IDLE_PULSES);
        for (number, worker) in self.workers.iter_mut().filter(|(_, worker)| worker.gone.is_none()) {
            if worker.answer.is_empty() && !(all || pulse && (!worker.told || self.ledger.is_busy(*number))) {
                continue;
            }
            let mut answer = std::mem::take(&mut worker.answer);
            answer.epoch = self.epoch;
            if answer.overrides.is_some() {
                answer.overrides = Some(self.overrides.clone());
            }
            out.answers.push((worker.queue.clone(), answer));
        }
        out
    }
}

impl Worker {
    /// Asks for a report; what else was to be said is said after it.
    fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
        self.answer = Answer { report: true, ..Answer::default() };
    }
}
