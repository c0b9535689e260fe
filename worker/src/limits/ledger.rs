//! Who holds and who waits: pure counting, told what time it is.
//!
//! A permit counts against all of its claims at once or against none. Of those who could have one, who has waited
//! longest is first; one who must wait for a claim that is used up holds up nobody else.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet},
    ops::Bound,
    time::Duration,
};

use leveret_common::limit::{LimitName, Rate, Terms};

use super::{
    bucket::{Bucket, MILLISECOND, Moment, SECOND, SETTLING, nanos},
    protocol::{Claim, Wanted},
};

/// A permit of a worker: the worker's number at the keeper, and the worker's own number for the permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket {
    pub(crate) session: u64,
    pub(crate) id: u64,
}

/// A place in line: since when it has been waited for, and a number that tells apart those of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    since: Moment,
    number: u64,
}

#[derive(Debug)]
struct Entry {
    claims: Vec<Claim>,
    place: Place,
    /// When it came to be what it is: when the wait began here, or when the permit was given.
    from: Moment,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting {
        /// When it is looked at again whether it has waited for too long.
        overdue: Moment,
        /// It was sent away before.
        back: bool,
        /// It waits for longer than the patience, because it is next in line.
        stays: bool,
    },
    Held,
}

#[derive(Debug, Default)]
struct Session {
    tickets: BTreeSet<u64>,
    /// How many of them may wait for longer than the patience, and how many do.
    patient: u32,
    staying: u32,
}

/// What has become of those who waited.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decisions {
    /// They have their permits.
    pub(crate) granted: Vec<Ticket>,
    /// They wait no longer, and are to ask again after this time.
    pub(crate) later: Vec<(Ticket, Duration)>,
}

/// The counts of all limits.
#[derive(Debug)]
pub(crate) struct Ledger {
    patience: Moment,
    /// When it began to give permits out.
    began: Moment,
    terms: HashMap<LimitName, Terms>,
    buckets: HashMap<Claim, Bucket>,
    entries: HashMap<Ticket, Entry>,
    sessions: HashMap<u64, Session>,
    arrivals: u64,
    /// Where room may have come to be, or a line.
    touched: HashSet<Claim>,
    /// Those with somebody in line.
    lines: HashSet<Claim>,
    /// Those who have just come.
    fresh: Vec<Ticket>,
    overdue: BTreeSet<(Moment, Ticket)>,
    /// Slow rates that were used since they were last told of.
    used: HashSet<Claim>,
}

impl Ledger {
    /// An empty one; nobody waits for longer than `patience` unless next in line. Time begins at 0.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience: nanos(patience),
            began: 0,
            terms: HashMap::new(),
            buckets: HashMap::new(),
            entries: HashMap::new(),
            sessions: HashMap::new(),
            arrivals: 0,
            touched: HashSet::new(),
            lines: HashSet::new(),
            fresh: Vec::new(),
            overdue: BTreeSet::new(),
            used: HashSet::new(),
        }
    }

    /// It begins to give permits out, not knowing in full what was given out before.
    pub(crate) fn begin(&mut self, now: Moment) {
        self.began = now;
    }

    /// Sets what a limit admits from now on.
    pub(crate) fn set_terms(&mut self, limit: &LimitName, terms: Option<Terms>, now: Moment) {
        if self.terms.get(limit).copied() == terms {
            return;
        }
        match terms {
            Some(terms) => self.terms.insert(limit.clone(), terms),
            None => self.terms.remove(limit),
        };
        let rate = terms.and_then(|terms| terms.rate);
        for (claim, bucket) in self.buckets.iter_mut().filter(|(claim, _)| claim.limit == *limit) {
            bucket.change_rate(rate, now);
            self.touched.insert(claim.clone());
        }
    }

    /// How many permits of a worker may wait for longer than the patience.
    pub(crate) fn set_patient(&mut self, session: u64, patient: u32) {
        self.sessions.entry(session).or_default().patient = patient;
    }

    /// Somebody wants a permit.
    pub(crate) fn wait(&mut self, session: u64, wanted: Wanted, now: Moment) {
        let ticket = Ticket { session, id: wanted.id };
        if self.entries.contains_key(&ticket) {
            return;
        }
        self.arrivals += 1;
        // An age from a message's header may be anything.
        let age = Duration::from_millis(wanted.age_ms).min(Duration::from_secs(86_400));
        let place = Place { since: now - nanos(age), number: self.arrivals };
        for claim in &wanted.claims {
            self.buckets.entry(claim.clone()).or_default().line.insert(place, ticket);
            self.touched.insert(claim.clone());
            self.lines.insert(claim.clone());
        }
        let overdue = now + self.patience;
        self.overdue.insert((overdue, ticket));
        self.fresh.push(ticket);
        let state = State::Waiting { overdue, back: wanted.back, stays: false };
        self.entries.insert(ticket, Entry { claims: wanted.claims, place, from: now, state });
        self.sessions.entry(session).or_default().tickets.insert(wanted.id);
    }

    /// Somebody has a permit already, from an earlier keeper: it counts even if it is one too many.
    pub(crate) fn hold(&mut self, ticket: Ticket, claims: Vec<Claim>, now: Moment) {
        self.release(ticket, now);
        for claim in &claims {
            self.buckets.entry(claim.clone()).or_default().held += 1;
        }
        self.arrivals += 1;
        let place = Place { since: now, number: self.arrivals };
        self.entries.insert(ticket, Entry { claims, place, from: now, state: State::Held });
        self.sessions.entry(ticket.session).or_default().tickets.insert(ticket.id);
    }

    /// A rate was used before this ledger began.
    pub(crate) fn spend(&mut self, claim: &Claim, until: Moment) {
        self.buckets.entry(claim.clone()).or_default().spend(until);
    }

    /// A permit is given back, or no longer waited for.
    pub(crate) fn release(&mut self, ticket: Ticket, now: Moment) {
        let Some(entry) = self.entries.remove(&ticket) else { return };
        if let Some(session) = self.sessions.get_mut(&ticket.session) {
            session.tickets.remove(&ticket.id);
        }
        if entry.state == State::Held {
            for claim in &entry.claims {
                if let Some(bucket) = self.buckets.get_mut(claim) {
                    bucket.give_back(now - entry.from);
                    self.touched.insert(claim.clone());
                }
            }
        } else {
            self.leave_lines(ticket, &entry);
        }
    }

    /// A worker is gone, with all that it had.
    pub(crate) fn leave(&mut self, session: u64, now: Moment) {
        let tickets = self.sessions.get(&session).map(|session| session.tickets.clone()).unwrap_or_default();
        for id in tickets {
            self.release(Ticket { session, id }, now);
        }
        self.sessions.remove(&session);
    }

    /// Whether a worker has or wants anything.
    pub(crate) fn is_busy(&self, session: u64) -> bool {
        self.sessions.get(&session).is_some_and(|session| !session.tickets.is_empty())
    }

    /// The permits that a worker has or wants.
    pub(crate) fn of(&self, session: u64) -> impl Iterator<Item = (u64, bool)> + '_ {
        let tickets = self.sessions.get(&session).into_iter().flat_map(|session| &session.tickets);
        tickets.map(move |id| {
            let held = |entry: &Entry| entry.state == State::Held;
            (*id, self.entries.get(&Ticket { session, id: *id }).is_some_and(held))
        })
    }

    /// How many have a permit of a limit, and how many wait for one.
    pub(crate) fn count(&self, limit: &LimitName) -> (usize, usize) {
        let buckets = self.buckets.iter().filter(|(claim, _)| claim.limit == *limit);
        buckets.fold((0, 0), |(held, waiting), (_, bucket)| (held + bucket.held as usize, waiting + bucket.line.len()))
    }

    /// Gives permits to whom there is room for, and sends away who would wait for too long.
    pub(crate) fn advance(&mut self, now: Moment) -> Decisions {
        let mut decisions = Decisions::default();
        self.grant(now, &mut decisions.granted);
        for ticket in std::mem::take(&mut self.fresh) {
            if let Some(wait) = self.turn_beyond_patience(ticket, now) {
                decisions.later.push((ticket, wait));
                self.release(ticket, now);
            }
        }
        while let Some((_, ticket)) = self.overdue.first().copied().filter(|(at, _)| *at <= now) {
            self.overdue.pop_first();
            if let Some(wait) = self.too_long(ticket, now) {
                decisions.later.push((ticket, wait));
                self.release(ticket, now);
            }
        }
        decisions
    }

    /// When `advance` may have something to do by the time alone.
    pub(crate) fn next_wake(&self, now: Moment) -> Option<Moment> {
        let rates = self.lines.iter().filter_map(|claim| {
            let (bucket, terms) = (self.buckets.get(claim)?, self.terms.get(&claim.limit)?);
            let at = bucket.next_begin(&terms.rate?, self.began);
            (at > now && bucket.has_place(terms)).then_some(at)
        });
        rates.chain(self.overdue.first().map(|(at, _)| *at)).min()
    }

    /// The slow rates that were used since the last call, and until when; others are as good as new within a second.
    pub(crate) fn take_used(&mut self) -> Vec<(Claim, Moment)> {
        let used = std::mem::take(&mut self.used);
        used.into_iter().filter_map(|claim| self.buckets.get(&claim).map(|bucket| (claim, bucket.spent()))).collect()
    }

    /// Forgets what is as good as new.
    pub(crate) fn sweep(&mut self, now: Moment) {
        self.buckets.retain(|_, bucket| bucket.is_of_use(now));
    }

    /// Lets those begin for whom there is room, longest wait first over all that have changed.
    fn grant(&mut self, now: Moment, granted: &mut Vec<Ticket>) {
        let rated = |claim: &&Claim| self.terms.get(&claim.limit).is_some_and(|terms| terms.rate.is_some());
        let timed: Vec<_> = self.lines.iter().filter(rated).cloned().collect();
        let mut claims: HashSet<Claim> = std::mem::take(&mut self.touched);
        claims.extend(timed);
        let claims: Vec<Claim> = claims.into_iter().collect();
        let mut heads = BinaryHeap::new();
        for (index, claim) in claims.iter().enumerate() {
            if let Some((place, ticket)) = self.buckets.get(claim).and_then(|bucket| bucket.line.first_key_value()) {
                heads.push(Reverse((*place, *ticket, index)));
            }
        }
        while let Some(Reverse((place, ticket, index))) = heads.pop() {
            let claim = &claims[index];
            if !self.has_room(claim, now) {
                continue;
            }
            if self.entries.get(&ticket).is_some_and(|entry| {
                entry.place == place
                    && entry.state != State::Held
                    && entry.claims.iter().all(|claim| self.has_room(claim, now))
            }) {
                self.admit(ticket, now);
                granted.push(ticket);
            }
            let behind = (Bound::Excluded(place), Bound::Unbounded);
            if let Some((place, ticket)) = self.buckets.get(claim).and_then(|bucket| bucket.line.range(behind).next()) {
                heads.push(Reverse((*place, *ticket, index)));
            }
        }
    }

    fn has_room(&self, claim: &Claim, now: Moment) -> bool {
        match (self.buckets.get(claim), self.terms.get(&claim.limit)) {
            (Some(bucket), Some(terms)) => bucket.has_room(terms, self.began, now),
            _ => true,
        }
    }

    fn admit(&mut self, ticket: Ticket, now: Moment) {
        let Some(mut entry) = self.entries.remove(&ticket) else { return };
        self.leave_lines(ticket, &entry);
        for claim in &entry.claims {
            let Some(bucket) = self.buckets.get_mut(claim) else { continue };
            bucket.held += 1;
            if let Some(rate) = self.terms.get(&claim.limit).and_then(|terms| terms.rate) {
                bucket.charge(&rate, self.began, now);
                if is_slow(&rate) {
                    self.used.insert(claim.clone());
                }
            }
        }
        (entry.from, entry.state) = (now, State::Held);
        self.entries.insert(ticket, entry);
    }

    fn leave_lines(&mut self, ticket: Ticket, entry: &Entry) {
        let State::Waiting { overdue, stays, .. } = entry.state else { return };
        self.overdue.remove(&(overdue, ticket));
        if stays && let Some(session) = self.sessions.get_mut(&ticket.session) {
            session.staying = session.staying.saturating_sub(1);
        }
        for claim in &entry.claims {
            if let Some(bucket) = self.buckets.get_mut(claim) {
                bucket.line.remove(&entry.place);
                if bucket.line.is_empty() {
                    self.lines.remove(claim);
                }
            }
        }
    }

    /// How long until a rate lets this one begin, if that is longer than anyone should wait; its turn is then kept.
    fn turn_beyond_patience(&mut self, ticket: Ticket, now: Moment) -> Option<Duration> {
        let entry = self.entries.get(&ticket)?;
        let State::Waiting { back, .. } = entry.state else { return None };
        let mut turn = None;
        for claim in &entry.claims {
            let Some((bucket, rate)) = self.rated(claim) else { continue };
            let interval = nanos(rate.interval());
            // Whoever has more ahead than begin within the patience is beyond it anyway.
            let enough = usize::try_from(self.patience / interval.max(1)).unwrap_or(usize::MAX).saturating_add(2);
            let ahead = count(bucket.ahead_of(entry.place, enough));
            let at = bucket.next_begin(&rate, self.began).max(now).saturating_add(interval.saturating_mul(ahead));
            // Who was sent away has a turn; who comes anew goes behind all of those.
            let at = if back { at } else { bucket.behind_booked(at, &rate, now) };
            if at - now > self.patience || (!back && bucket.is_booked(now)) {
                turn = turn.max(Some(at));
            }
        }
        let turn = turn?;
        for claim in entry.claims.clone() {
            if self.rated(&claim).is_some()
                && let Some(bucket) = self.buckets.get_mut(&claim)
            {
                bucket.book(turn);
            }
        }
        Some(duration(turn - now))
    }

    /// Whether one who has waited for the whole of the patience is to go away, and for how long.
    fn too_long(&mut self, ticket: Ticket, now: Moment) -> Option<Duration> {
        let entry = self.entries.get(&ticket)?;
        let State::Waiting { back, stays, .. } = entry.state else { return None };
        let (mut is_next, mut wait) = (true, SECOND);
        for claim in &entry.claims {
            let (Some(bucket), Some(terms)) = (self.buckets.get(claim), self.terms.get(&claim.limit)) else { continue };
            if bucket.has_place(terms) {
                continue;
            }
            let all = terms.concurrency.unwrap_or(u32::MAX);
            // As many stay as could begin at once, so that none is missing when a permit comes back; of a key one.
            let staying = if claim.key.is_some() { 1 } else { count(all as usize) };
            let ahead = count(bucket.ahead_of(entry.place, usize::MAX));
            is_next &= ahead < staying;
            let expected = bucket.mean_hold().saturating_mul(ahead + 1) / i64::from(all.max(1));
            wait = wait.max(expected.min(30 * SECOND));
        }
        let session = self.sessions.entry(ticket.session).or_default();
        let may_stay = is_next && (stays || session.staying < session.patient);
        if !may_stay {
            return Some(duration(wait));
        }
        if !stays {
            session.staying += 1;
        }
        let overdue = now + self.patience.max(100 * MILLISECOND);
        self.overdue.insert((overdue, ticket));
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.state = State::Waiting { overdue, back, stays: true };
        }
        None
    }

    fn rated(&self, claim: &Claim) -> Option<(&Bucket, Rate)> {
        Some((self.buckets.get(claim)?, self.terms.get(&claim.limit)?.rate?))
    }
}

impl Bucket {
    /// How many are ahead in line, counted as far as `enough`.
    fn ahead_of(&self, place: Place, enough: usize) -> usize {
        self.line.range(..place).take(enough).count()
    }
}

/// The lines of a bucket, in order.
pub(super) type Line = BTreeMap<Place, Ticket>;

fn is_slow(rate: &Rate) -> bool {
    nanos(rate.interval()).saturating_mul(count(rate.most_at_once() as usize)) > SETTLING
}

fn count(of: usize) -> Moment {
    Moment::try_from(of).unwrap_or(Moment::MAX)
}

fn duration(moment: Moment) -> Duration {
    Duration::from_nanos(u64::try_from(moment).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    fn name(text: &str) -> LimitName {
        LimitName::new(text).unwrap()
    }

    fn claim(limit: &str, key: Option<&str>) -> Claim {
        Claim { limit: name(limit), key: key.map(str::to_owned) }
    }

    fn wanted(id: u64, claims: &[Claim]) -> Wanted {
        Wanted { id, claims: claims.to_vec(), age_ms: 0, back: false }
    }

    fn ledger(limits: &[(&str, Option<u32>, &str)]) -> Ledger {
        let mut ledger = Ledger::new(PATIENCE);
        for (limit, concurrency, rate) in limits {
            let terms = Terms { concurrency: *concurrency, rate: rate.parse().ok() };
            ledger.set_terms(&name(limit), Some(terms), 0);
        }
        ledger
    }

    fn granted(ledger: &mut Ledger, now: Moment) -> Vec<u64> {
        ledger.advance(now).granted.into_iter().map(|ticket| ticket.id).collect()
    }

    fn ticket(id: u64) -> Ticket {
        Ticket { session: 1, id }
    }

    #[test]
    fn those_who_wait_longest_begin_first_and_no_more_than_there_is_room_for() {
        let mut ledger = ledger(&[("a", Some(2), "")]);
        for id in 1..=5 {
            ledger.wait(1, wanted(id, &[claim("a", None)]), 0);
        }
        assert_eq!(granted(&mut ledger, 0), [1, 2]);
        ledger.release(ticket(2), 10);
        ledger.release(ticket(4), 10);
        assert_eq!(granted(&mut ledger, 10), [3]);
        ledger.leave(1, 20);
        assert_eq!((granted(&mut ledger, 20), ledger.is_busy(1)), (vec![], false));
    }

    #[test]
    fn a_key_that_is_full_holds_up_no_other() {
        let mut ledger = ledger(&[("all", Some(3), ""), ("each", Some(1), "")]);
        for (id, key) in [(1, "x"), (2, "x"), (3, "x"), (4, "y"), (5, "z"), (6, "w")] {
            ledger.wait(1, wanted(id, &[claim("all", None), claim("each", Some(key))]), 0);
        }
        assert_eq!(granted(&mut ledger, 0), [1, 4, 5]);
        ledger.release(ticket(1), 1);
        assert_eq!(granted(&mut ledger, 1), [2], "2 has waited for longer than 6");
    }

    #[test]
    fn a_limit_that_is_lowered_is_kept_as_permits_come_back_and_a_raised_one_at_once() {
        let mut ledger = ledger(&[("a", Some(3), "")]);
        for id in 1..=6 {
            ledger.wait(1, wanted(id, &[claim("a", None)]), 0);
        }
        assert_eq!(granted(&mut ledger, 0), [1, 2, 3]);
        ledger.set_terms(&name("a"), Some(Terms { concurrency: Some(1), rate: None }), 0);
        ledger.release(ticket(1), 0);
        ledger.release(ticket(2), 0);
        assert!(granted(&mut ledger, 0).is_empty());
        ledger.release(ticket(3), 0);
        assert_eq!(granted(&mut ledger, 0), [4]);
        ledger.set_terms(&name("a"), Some(Terms { concurrency: Some(3), rate: None }), 0);
        assert_eq!(granted(&mut ledger, 0), [5, 6]);
    }

    #[test]
    fn a_rate_comes_out_evenly_even_if_it_is_looked_at_late() {
        let mut ledger = ledger(&[("a", None, "100/s")]);
        let (mut now, mut begun) = (0, 0);
        for id in 0..64 {
            ledger.wait(1, wanted(id, &[claim("a", None)]), now);
        }
        let mut next = 64;
        while now < 10 * SECOND {
            for ticket in ledger.advance(now).granted {
                begun += 1;
                ledger.release(ticket, now);
                ledger.wait(1, wanted(next, &[claim("a", None)]), now);
                next += 1;
            }
            let at = ledger.next_wake(now).unwrap();
            assert!(at > now && at - now <= 11 * MILLISECOND, "{}", at - now);
            // Timers are late.
            now = at + 3 * MILLISECOND;
        }
        assert!((990..=1_005).contains(&begun), "{begun}");
    }

    #[test]
    fn a_burst_is_for_after_a_pause_and_not_for_the_beginning() {
        let mut ledger = ledger(&[("a", None, "1/s burst 3")]);
        for id in 0..8 {
            ledger.wait(1, wanted(id, &[claim("a", None)]), 0);
        }
        // Nothing is known of before, as far as a second reaches.
        assert_eq!(granted(&mut ledger, 0).len(), 2);
        assert_eq!(granted(&mut ledger, SECOND).len(), 1);
    }

    #[test]
    fn who_would_wait_for_long_is_given_a_turn_and_those_who_come_anew_go_behind() {
        let mut ledger = ledger(&[("a", None, "1/s")]);
        let a = [claim("a", None)];
        for id in 1..=10 {
            ledger.wait(1, wanted(id, &a), 0);
        }
        // The line has room for as many as begin within the patience.
        let away: Vec<_> = ledger.advance(0).later;
        let away: Vec<_> = away.into_iter().map(|(ticket, wait)| (ticket.id, wait.as_secs())).collect();
        assert_eq!(away, [(4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (10, 10)]);
        assert_eq!(granted(&mut ledger, 3 * SECOND), [1]);
        // There would be a turn in three seconds, but others were promised theirs.
        ledger.wait(1, wanted(11, &a), 3 * SECOND);
        assert_eq!(ledger.advance(3 * SECOND).later, [(ticket(11), Duration::from_secs(8))]);
        ledger.wait(1, Wanted { back: true, age_ms: 4_000, ..wanted(4, &a) }, 4 * SECOND);
        assert_eq!(granted(&mut ledger, 4 * SECOND), [4]);
    }

    #[test]
    fn who_comes_back_is_before_those_who_came_anew() {
        let mut ledger = ledger(&[("a", Some(1), "")]);
        let a = [claim("a", None)];
        ledger.wait(1, wanted(1, &a), 0);
        ledger.advance(0);
        ledger.wait(1, wanted(2, &a), 0);
        ledger.wait(1, Wanted { age_ms: 5_000, back: true, ..wanted(3, &a) }, MILLISECOND);
        ledger.release(ticket(1), 2 * MILLISECOND);
        assert_eq!(granted(&mut ledger, 2 * MILLISECOND), [3]);
    }

    #[test]
    fn beyond_the_patience_only_those_next_in_line_stay() {
        let mut ledger = ledger(&[("a", Some(2), "")]);
        ledger.set_patient(1, 3);
        for id in 1..=8 {
            ledger.wait(1, wanted(id, &[claim("a", None)]), 0);
        }
        assert_eq!(granted(&mut ledger, 0), [1, 2]);
        let away: Vec<_> = ledger.advance(nanos(PATIENCE)).later.into_iter().map(|(ticket, _)| ticket.id).collect();
        assert_eq!(away, [5, 6, 7, 8]);
        ledger.release(ticket(1), 4 * SECOND);
        assert_eq!(granted(&mut ledger, 4 * SECOND), [3]);
    }

    #[test]
    fn what_an_earlier_keeper_gave_counts_even_if_it_is_one_too_many() {
        let mut ledger = ledger(&[("a", Some(1), "")]);
        let a = [claim("a", None)];
        ledger.hold(ticket(1), a.to_vec(), 0);
        ledger.hold(ticket(2), a.to_vec(), 0);
        ledger.wait(1, wanted(3, &a), 0);
        ledger.release(ticket(1), 0);
        assert!(granted(&mut ledger, 0).is_empty());
        ledger.release(ticket(2), 0);
        assert_eq!(granted(&mut ledger, 0), [3]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait { session: u64, key: u8, both: bool, age_ms: u64 },
        Release(usize),
        Leave(u64),
        Terms { concurrency: Option<u32>, rate: Option<u32> },
        Time(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..3_u64, 0..4_u8, any::<bool>(), 0..2_000_u64)
                .prop_map(|(session, key, both, age_ms)| Step::Wait { session, key, both, age_ms }),
            4 => any::<prop::sample::Index>().prop_map(|index| Step::Release(index.index(1_000))),
            1 => (0..3_u64).prop_map(Step::Leave),
            1 => (prop::option::of(1..4_u32), prop::option::of(1..200_u32))
                .prop_map(|(concurrency, rate)| Step::Terms { concurrency, rate }),
            4 => (1..500_i64).prop_map(Step::Time),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        /// Against the plainest bookkeeping there is: never more than a limit admits, nobody waits for whom there is
        /// room, of those who could begin the longest wait is first, and nothing is left behind in the end.
        #[test]
        fn no_limit_is_exceeded_and_no_room_is_left_while_somebody_waits(steps in steps()) {
            let mut ledger = ledger(&[("all", Some(5), ""), ("each", Some(2), "")]);
            let (mut now, mut next) = (0, 0);
            let mut holding: BTreeMap<Ticket, Vec<Claim>> = BTreeMap::new();
            let mut waiting: BTreeMap<Ticket, Vec<Claim>> = BTreeMap::new();
            let mut all = Terms { concurrency: Some(5), rate: None };
            let mut lowered = 0;
            for step in steps {
                match step {
                    Step::Wait { session, key, both, age_ms } => {
                        let mut claims = vec![claim("all", None)];
                        claims.extend(both.then(|| claim("each", Some(&key.to_string()))));
                        next += 1;
                        ledger.wait(session, Wanted { age_ms, ..wanted(next, &claims) }, now);
                        waiting.insert(Ticket { session, id: next }, claims);
                    }
                    Step::Release(index) => {
                        let known: Vec<_> = holding.keys().chain(waiting.keys()).copied().collect();
                        if !known.is_empty() {
                            let ticket = known[index % known.len()];
                            holding.remove(&ticket);
                            waiting.remove(&ticket);
                            ledger.release(ticket, now);
                        }
                    }
                    Step::Leave(session) => {
                        holding.retain(|ticket, _| ticket.session != session);
                        waiting.retain(|ticket, _| ticket.session != session);
                        ledger.leave(session, now);
                    }
                    Step::Terms { concurrency, rate } => {
                        let rate = rate.map(|rate| Rate::new(rate, Duration::from_secs(1)).unwrap());
                        all = Terms { concurrency, rate };
                        ledger.set_terms(&name("all"), Some(all), now);
                        lowered = holding.len();
                    }
                    Step::Time(ms) => now += ms * MILLISECOND,
                }
                let decisions = ledger.advance(now);
                for ticket in decisions.granted {
                    let claims = waiting.remove(&ticket);
                    prop_assert!(claims.is_some(), "granted to one who does not wait");
                    holding.insert(ticket, claims.unwrap());
                }
                for (ticket, _) in decisions.later {
                    prop_assert!(waiting.remove(&ticket).is_some());
                }
                let held = |claim: &Claim| holding.values().filter(|claims| claims.contains(claim)).count();
                lowered = lowered.min(holding.len());
                let most = all.concurrency.map_or(usize::MAX, |most| most as usize);
                prop_assert!(holding.len() <= most.max(lowered), "more than the limit");
                for key in 0..4 {
                    prop_assert!(held(&claim("each", Some(&key.to_string()))) <= 2, "more than a key's limit");
                }
                for (ticket, claims) in &waiting {
                    let blocked = claims.iter().any(|one| {
                        let most = if one.key.is_some() { 2 } else { most };
                        held(one) >= most || (one.key.is_none() && all.rate.is_some())
                    });
                    prop_assert!(blocked, "{ticket:?} waits though there is room");
                }
                if !waiting.is_empty() {
                    let wake = ledger.next_wake(now);
                    prop_assert!(wake.is_some_and(|at| at > now), "nobody would look again: {wake:?}");
                }
                for session in 0..3 {
                    let mine = holding.keys().chain(waiting.keys()).filter(|ticket| ticket.session == session).count();
                    prop_assert_eq!(ledger.of(session).count(), mine);
                }
            }
            for session in 0..3 {
                ledger.leave(session, now);
            }
            ledger.sweep(now + 100_000 * SECOND);
            prop_assert!(ledger.buckets.is_empty() && ledger.lines.is_empty() && ledger.overdue.is_empty());
        }

        /// In no stretch of time do more begin than the rate and its burst allow, whenever it is looked at.
        #[test]
        fn no_rate_is_exceeded_in_any_stretch_of_time(
            rate in 1..300_u32,
            burst in 1..5_u32,
            pauses in prop::collection::vec(1..200_i64, 10..200),
        ) {
            let rate = Rate::new(rate, Duration::from_secs(1)).unwrap().burst(burst).unwrap();
            let mut ledger = ledger(&[("a", None, "")]);
            ledger.set_terms(&name("a"), Some(Terms { concurrency: None, rate: Some(rate) }), 0);
            let (mut now, mut next, mut begun) = (0, 0, Vec::new());
            for pause in pauses {
                now += pause * MILLISECOND;
                while ledger.of(1).count() < 20 {
                    next += 1;
                    ledger.wait(1, Wanted { back: true, ..wanted(next, &[claim("a", None)]) }, now);
                }
                for ticket in ledger.advance(now).granted {
                    ledger.release(ticket, now);
                    begun.push(now);
                }
            }
            let interval = nanos(rate.interval());
            for (index, from) in begun.iter().enumerate() {
                for (further, to) in begun[index..].iter().enumerate() {
                    let most = Moment::from(burst) + (to - from + 50 * MILLISECOND) / interval;
                    prop_assert!((further as Moment) < most, "{} in {} ms", further + 1, (to - from) / MILLISECOND);
                }
            }
        }
    }
}
