//! The limits of one worker by itself: the ledger without anybody to ask.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use leveret_common::limit::{LimitName, Terms};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    bucket::{Moment, nanos},
    desk::{Desk, Question, Verdict},
    ledger::{Ledger, Ticket},
    protocol::Wanted,
};

/// There is one worker.
const SELF: u64 = 0;

#[derive(Debug)]
pub(super) struct Local {
    began: Instant,
    state: Mutex<State>,
    wake: Notify,
    lost: CancellationToken,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Verdict>>,
    closed: bool,
}

impl Local {
    pub(super) fn new(terms: impl Iterator<Item = (LimitName, Terms)>, patience: Duration, patient: u32) -> Arc<Self> {
        let mut ledger = Ledger::new(patience);
        for (limit, terms) in terms {
            ledger.set_terms(&limit, Some(terms), 0);
        }
        ledger.set_patient(SELF, patient);
        let local = Arc::new(Self {
            began: Instant::now(),
            state: Mutex::new(State { ledger, next: 0, waiting: HashMap::new(), closed: false }),
            wake: Notify::new(),
            lost: CancellationToken::new(),
        });
        tokio::spawn(keep_time(Arc::downgrade(&local)));
        local
    }

    pub(super) fn set(&self, limit: &LimitName, terms: Terms) {
        let now = self.now();
        let mut state = self.state.lock();
        state.ledger.set_terms(limit, Some(terms), now);
        self.changed(state, now);
    }

    /// How many have a permit, and how many wait for one.
    pub(super) fn count(&self, limit: &LimitName) -> (usize, usize) {
        self.state.lock().ledger.count(limit)
    }

    fn now(&self) -> Moment {
        nanos(self.began.elapsed())
    }

    fn advance(&self, state: &mut State, now: Moment) {
        let decisions = state.ledger.advance(now);
        for Ticket { id, .. } in decisions.granted {
            if let Some(answer) = state.waiting.remove(&id) {
                // Who waits no more gives it back by itself.
                let _ = answer.send(Verdict::Granted(self.lost.clone()));
            }
        }
        for (Ticket { id, .. }, wait) in decisions.later {
            if let Some(answer) = state.waiting.remove(&id) {
                let _ = answer.send(Verdict::Later(wait));
            }
        }
    }

    /// What was done may have changed when there is something to do by the time alone.
    fn changed(&self, mut state: MutexGuard<'_, State>, now: Moment) {
        self.advance(&mut state, now);
        let is_somebody_waiting = !state.waiting.is_empty();
        drop(state);
        if is_somebody_waiting {
            self.wake.notify_one();
        }
    }
}

impl Desk for Local {
    fn close(&self) {
        let now = self.now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.closed = true;
        for (id, _) in state.waiting.drain() {
            state.ledger.release(Ticket { session: SELF, id }, now);
        }
    }

    fn ask(&self, question: Question) -> (u64, oneshot::Receiver<Verdict>) {
        let now = self.now();
        let (answer, verdict) = oneshot::channel();
        let mut state = self.state.lock();
        state.next += 1;
        let id = state.next;
        if state.closed {
            return (id, verdict);
        }
        state.waiting.insert(id, answer);
        let age_ms = u64::try_from(question.age.as_millis()).unwrap_or(u64::MAX);
        state.ledger.wait(SELF, Wanted { id, claims: question.claims, age_ms, back: question.back }, now);
        self.changed(state, now);
        (id, verdict)
    }

    fn give_back(&self, id: u64) {
        let now = self.now();
        let mut state = self.state.lock();
        state.waiting.remove(&id);
        state.ledger.release(Ticket { session: SELF, id }, now);
        self.changed(state, now);
    }
}

/// Does what is to be done by the time alone.
async fn keep_time(local: Weak<Local>) {
    loop {
        let Some(here) = local.upgrade() else { return };
        let now = here.now();
        let next = {
            let mut state = here.state.lock();
            here.advance(&mut state, now);
            state.ledger.sweep(now);
            state.ledger.next_wake(now)
        };
        let at = next.map(|at| here.began + Duration::from_nanos(u64::try_from(at).unwrap_or(0)));
        tokio::select! {
            () = here.wake.notified() => {}
            // Looks now and then whether anybody is left.
            () = tokio::time::sleep_until(at.unwrap_or_else(|| Instant::now() + Duration::from_secs(5))) => {}
        }
    }
}
