//! A worker's side of the limits that all workers share: what it has, what it wants, and one request on its way.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use leveret_common::limit::{LimitName, Terms};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    desk::{Desk, Question, Verdict},
    protocol::{Answer, Claim, Held, Overrides, Report, Request, Spent, Wanted},
};

#[derive(Debug)]
pub(super) struct Share {
    /// The limits as this worker's configuration has them.
    terms: BTreeMap<LimitName, Terms>,
    patient: u32,
    state: Mutex<State>,
    /// There is something to say.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The last number given to a permit; numbers outlive connections.
    last_id: u64,
    /// The last number given to a request.
    last_request: u64,
    /// The keeper that is followed; grants of earlier ones do not count.
    epoch: u64,
    waiting: HashMap<u64, Waiting>,
    held: HashMap<u64, Vec<Claim>>,
    /// Asked for or given back since the last request.
    acquire: Vec<u64>,
    release: Vec<u64>,
    spent: HashMap<Claim, Instant>,
    overrides: Overrides,
    set: Vec<Setting>,
    lost: CancellationToken,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    claims: Vec<Claim>,
    since: Instant,
    age: Duration,
    back: bool,
    answer: oneshot::Sender<Verdict>,
}

#[derive(Debug)]
struct Setting {
    limit: LimitName,
    terms: Option<Terms>,
    /// The request that it went out with.
    request: Option<u64>,
    done: oneshot::Sender<()>,
}

/// What an answer asks of the worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It was from a keeper that is no more.
    Outdated,
    /// To tell everything.
    Report,
    /// Nothing; the request of this number is dealt with.
    Done(Option<u64>),
}

impl Share {
    pub(super) fn new(terms: BTreeMap<LimitName, Terms>, patient: u32) -> Self {
        Self { terms, patient, state: Mutex::default(), wake: Notify::new() }
    }

    /// The keeper that this worker follows.
    pub(super) fn epoch(&self) -> u64 {
        self.state.lock().epoch
    }

    /// How many permits it has, and how many it waits for.
    pub(super) fn count(&self, limit: &LimitName) -> (usize, usize) {
        let state = self.state.lock();
        let of = |claims: &[Claim]| claims.iter().any(|claim| claim.limit == *limit);
        let held = state.held.values().filter(|claims| of(claims)).count();
        (held, state.waiting.values().filter(|waiting| of(&waiting.claims)).count())
    }

    /// What a limit was changed to, as far as this worker knows.
    pub(super) fn changed(&self, limit: &LimitName) -> Option<Terms> {
        self.state.lock().overrides.get(limit).and_then(|changed| changed.terms)
    }

    /// Asks the keeper to change a limit. The receiver hears when it is done.
    pub(super) fn set(&self, limit: LimitName, terms: Option<Terms>) -> oneshot::Receiver<()> {
        let (done, heard) = oneshot::channel();
        self.state.lock().set.push(Setting { limit, terms, request: None, done });
        self.wake.notify_one();
        heard
    }

    /// The next request, if there is anything to say. With `report` it says everything; what was on its way before is
    /// in it once more.
    pub(super) fn compose(&self, from: &str, report: bool, always: bool) -> Option<Request> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = Instant::now();
        let unsent = state.set.iter().any(|setting| report || setting.request.is_none());
        if !report && !always && state.acquire.is_empty() && state.release.is_empty() && !unsent {
            return None;
        }
        state.last_request += 1;
        let number = state.last_request;
        let mut acquire = std::mem::take(&mut state.acquire);
        let mut release = std::mem::take(&mut state.release);
        let report = report.then(|| {
            acquire = state.waiting.keys().copied().collect();
            acquire.sort_unstable();
            release = Vec::new();
            self.report(state, now)
        });
        let wanted = |id: u64| {
            let waiting = state.waiting.get(&id)?;
            let age = waiting.age + now.duration_since(waiting.since);
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            Some(Wanted { id, claims: waiting.claims.clone(), age_ms, back: waiting.back })
        };
        let acquire = acquire.into_iter().filter_map(wanted).collect();
        let mut set = Vec::new();
        for setting in &mut state.set {
            if report.is_some() || setting.request.is_none() {
                setting.request = Some(number);
                set.push((setting.limit.clone(), setting.terms));
            }
        }
        Some(Request { from: from.to_owned(), number, epoch: state.epoch, report, release, acquire, set })
    }

    fn report(&self, state: &mut State, now: Instant) -> Report {
        let held = state.held.iter().map(|(id, claims)| Held { id: *id, claims: claims.clone() }).collect();
        state.spent.retain(|_, until| *until > now);
        let spent = state.spent.iter().map(|(claim, until)| {
            let left = until.duration_since(now).as_millis();
            Spent { claim: claim.clone(), for_ms: u64::try_from(left).unwrap_or(u64::MAX) }
        });
        Report {
            held,
            terms: self.terms.clone(),
            overrides: state.overrides.clone(),
            spent: spent.collect(),
            patient: self.patient,
        }
    }

    /// Takes an answer in.
    pub(super) fn hear(&self, answer: Answer) -> Heard {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if answer.report && answer.epoch >= state.epoch {
            // From here on, what an earlier keeper granted does not count.
            state.epoch = answer.epoch;
            return Heard::Report;
        }
        if answer.epoch != state.epoch {
            return Heard::Outdated;
        }
        for id in answer.granted {
            if let Some(waiting) = state.waiting.remove(&id) {
                state.held.insert(id, waiting.claims);
                let _ = waiting.answer.send(Verdict::Granted(state.lost.clone()));
            } else if !state.held.contains_key(&id) {
                // Whoever wanted it waits no more.
                state.release.push(id);
            }
        }
        for (id, wait_ms) in answer.later {
            if let Some(waiting) = state.waiting.remove(&id) {
                let _ = waiting.answer.send(Verdict::Later(Duration::from_millis(wait_ms)));
            }
        }
        for (limit, told) in answer.overrides.unwrap_or_default() {
            let known = state.overrides.entry(limit).or_insert(told);
            if told.version > known.version {
                *known = told;
            }
        }
        let now = Instant::now();
        for Spent { claim, for_ms } in answer.spent {
            if let Some(until) = now.checked_add(Duration::from_millis(for_ms)) {
                state.spent.insert(claim, until);
            }
        }
        if state.spent.len() > 1_024 {
            state.spent.retain(|_, until| *until > now);
        }
        if let Some(done) = answer.done {
            let (finished, open) = std::mem::take(&mut state.set)
                .into_iter()
                .partition(|setting| setting.request.is_some_and(|request| request <= done));
            state.set = open;
            let finished: Vec<Setting> = finished;
            for setting in finished {
                let _ = setting.done.send(());
            }
        }
        Heard::Done(answer.done)
    }

    /// There is a connection. What is granted from here on counts until it is lost; what was granted on another still
    /// runs, and is reported to the keeper until it has ended.
    pub(super) fn connected(&self, lost: CancellationToken) {
        self.state.lock().lost = lost;
    }
}

impl Desk for Share {
    fn close(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.closed = true;
        state.release.extend(state.waiting.drain().map(|(id, _)| id));
        state.set.clear();
        drop(guard);
        self.wake.notify_one();
    }

    fn ask(&self, question: Question) -> (u64, oneshot::Receiver<Verdict>) {
        let (answer, verdict) = oneshot::channel();
        let mut state = self.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        if !state.closed {
            let Question { claims, age, back } = question;
            state.waiting.insert(id, Waiting { claims, since: Instant::now(), age, back, answer });
            state.acquire.push(id);
        }
        drop(state);
        self.wake.notify_one();
        (id, verdict)
    }

    fn give_back(&self, id: u64) {
        let mut state = self.state.lock();
        if state.held.remove(&id).is_some() || state.waiting.remove(&id).is_some() {
            state.release.push(id);
            drop(state);
            self.wake.notify_one();
        }
    }
}
