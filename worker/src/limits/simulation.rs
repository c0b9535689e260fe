//! Workers and keepers without a broker: what a broker does to their messages, and worse, in any order.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use leveret_common::limit::{LimitName, Terms};
use proptest::prelude::*;
use tokio::{sync::oneshot, time::Instant};

use super::{
    desk::{Desk, Question, Verdict},
    protocol::{Answer, Claim, ToKeeper},
    reign::Reign,
    share::{Heard, Share},
};

const LIMIT: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A task of a worker asks for a permit.
    Ask(usize),
    /// A task of a worker ends, or gives up waiting.
    End(usize, usize),
    /// A worker sends what it has to say, if its last request is answered.
    Send(usize),
    /// A worker takes its next answer in.
    Hear(usize),
    /// The keeper takes its next letter in.
    Keep,
    /// The keeper decides and answers.
    Decide,
    /// Time goes by.
    Time(u64),
    /// A worker dies, its queue with it, and another takes its place.
    Kill(usize),
    /// The broker takes another keeper; the one before goes on for a while, unless it is dead.
    Depose { dies: bool },
    /// The keeper that was deposed sends one more answer.
    Haunt,
}

struct Worker {
    share: Share,
    from: String,
    inbox: VecDeque<Answer>,
    flight: Option<u64>,
    report: bool,
    tasks: Vec<(u64, oneshot::Receiver<Verdict>)>,
}

struct World {
    now: Instant,
    workers: Vec<Worker>,
    names: usize,
    /// What lies in the queue, and what the keeper has not acknowledged.
    queue: VecDeque<Vec<u8>>,
    unacked: BTreeMap<u64, Vec<u8>>,
    tags: u64,
    keeper: Option<(Reign, u64)>,
    zombie: Option<Reign>,
    epochs: u64,
}

fn limit() -> LimitName {
    LimitName::new("a").unwrap()
}

fn claims() -> Vec<Claim> {
    vec![Claim { limit: limit(), key: None }]
}

impl World {
    fn new(workers: usize) -> Self {
        let mut world = Self {
            now: Instant::now(),
            workers: Vec::new(),
            names: 0,
            queue: VecDeque::new(),
            unacked: BTreeMap::new(),
            tags: 0,
            keeper: None,
            zombie: None,
            epochs: 0,
        };
        for _ in 0..workers {
            let worker = world.worker();
            world.workers.push(worker);
        }
        world
    }

    fn worker(&mut self) -> Worker {
        self.names += 1;
        let terms = Terms { concurrency: Some(LIMIT), rate: None };
        Worker {
            share: Share::new([(limit(), terms)].into(), 100),
            from: format!("worker-{}", self.names),
            inbox: VecDeque::new(),
            flight: None,
            report: true,
            tasks: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask(worker) => {
                let question = Question { claims: claims(), age: Duration::ZERO, back: false };
                let worker = &mut self.workers[worker];
                let asked = worker.share.ask(question);
                worker.tasks.push(asked);
            }
            Step::End(worker, task) => {
                let worker = &mut self.workers[worker];
                if !worker.tasks.is_empty() {
                    let (id, _) = worker.tasks.remove(task % worker.tasks.len());
                    worker.share.give_back(id);
                }
            }
            Step::Send(worker) => {
                let worker = &mut self.workers[worker];
                if worker.flight.is_none()
                    && let Some(request) = worker.share.compose(&worker.from, worker.report, false)
                {
                    worker.flight = Some(request.number);
                    worker.report = false;
                    self.queue.push_back(serde_json::to_vec(&ToKeeper::Request(Box::new(request))).unwrap());
                }
            }
            Step::Hear(worker) => {
                let worker = &mut self.workers[worker];
                if let Some(answer) = worker.inbox.pop_front() {
                    match worker.share.hear(answer) {
                        Heard::Report => (worker.report, worker.flight) = (true, None),
                        Heard::Done(done) => {
                            worker.flight = worker.flight.filter(|number| done.is_none_or(|done| done < *number));
                        }
                        Heard::Outdated => {}
                    }
                }
            }
            Step::Keep => self.keep(),
            Step::Decide => {
                if let Some((mut reign, marked)) = self.keeper.take() {
                    self.post(&mut reign, true);
                    self.mark(&reign, marked);
                    let marked = reign.epoch();
                    self.keeper = Some((reign, marked));
                }
            }
            Step::Haunt => {
                if let Some(mut zombie) = self.zombie.take() {
                    // The broker takes no acknowledgement from it any more.
                    self.post(&mut zombie, false);
                    self.zombie = Some(zombie);
                }
            }
            Step::Time(ms) => self.now += Duration::from_millis(ms),
            Step::Kill(worker) => {
                let fresh = self.worker();
                self.workers[worker] = fresh;
            }
            Step::Depose { dies } => {
                if let Some((reign, _)) = self.keeper.take() {
                    self.zombie = (!dies).then_some(reign);
                    // What was not acknowledged comes first, in whatever order.
                    for letter in std::mem::take(&mut self.unacked).into_values() {
                        self.queue.push_front(letter);
                    }
                }
            }
        }
    }

    fn keep(&mut self) {
        let Some(letter) = self.queue.pop_front() else { return };
        let (mut reign, marked) = self.keeper.take().unwrap_or_else(|| {
            self.epochs += 1;
            (Reign::new(self.epochs, Duration::from_secs(3_600), self.now), 0)
        });
        self.tags += 1;
        self.unacked.insert(self.tags, letter.clone());
        match serde_json::from_slice(&letter).unwrap() {
            ToKeeper::Request(request) => reign.request(self.tags, *request, self.now),
            ToKeeper::Marker { epoch } => reign.marker(self.tags, epoch),
        }
        self.mark(&reign, marked);
        let marked = reign.epoch();
        self.keeper = Some((reign, marked));
    }

    fn mark(&mut self, reign: &Reign, marked: u64) {
        if marked != reign.epoch() {
            self.queue.push_back(serde_json::to_vec(&ToKeeper::Marker { epoch: reign.epoch() }).unwrap());
        }
    }

    fn post(&mut self, reign: &mut Reign, acks: bool) {
        let out = reign.advance(self.now);
        for tag in out.settled {
            if acks {
                self.unacked.remove(&tag);
            }
        }
        for (to, answer) in out.answers {
            match self.workers.iter_mut().find(|worker| worker.from == to) {
                Some(worker) => worker.inbox.push_back(answer),
                None => reign.returned(&to, self.now),
            }
        }
    }

    fn held(&self) -> usize {
        self.workers.iter().map(|worker| worker.share.count(&limit()).0).sum()
    }

    fn waiting(&self) -> usize {
        self.workers.iter().map(|worker| worker.share.count(&limit()).1).sum()
    }

    /// Everybody does what there is to do, until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..60 {
            self.step(Step::Time(300));
            for worker in 0..self.workers.len() {
                self.step(Step::Send(worker));
            }
            while !self.queue.is_empty() {
                self.step(Step::Keep);
            }
            self.step(Step::Decide);
            for worker in 0..self.workers.len() {
                while !self.workers[worker].inbox.is_empty() {
                    self.step(Step::Hear(worker));
                }
            }
        }
    }
}

fn steps(workers: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..workers).prop_map(Step::Ask),
        4 => (0..workers, 0..100_usize).prop_map(|(worker, task)| Step::End(worker, task)),
        8 => (0..workers).prop_map(Step::Send),
        10 => (0..workers).prop_map(Step::Hear),
        10 => Just(Step::Keep),
        10 => Just(Step::Decide),
        3 => (1..400_u64).prop_map(Step::Time),
        1 => (0..workers).prop_map(Step::Kill),
        1 => any::<bool>().prop_map(|dies| Step::Depose { dies }),
        3 => Just(Step::Haunt),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However messages and deaths fall, all workers together never have more than the limit; and when it all calms
    /// down, they have exactly as many as they want, up to the limit.
    #[test]
    fn no_change_of_keepers_gives_out_too_much_or_leaves_room(steps in steps(4)) {
        let mut world = World::new(4);
        for step in steps {
            world.step(step);
            prop_assert!(world.held() <= LIMIT as usize, "{} hold after {step:?}", world.held());
        }
        world.settle();
        let wanted = world.held() + world.waiting();
        prop_assert_eq!(world.held(), wanted.min(LIMIT as usize));
        for worker in 0..4 {
            while !world.workers[worker].tasks.is_empty() {
                world.step(Step::End(worker, 0));
            }
        }
        for worker in 0..4 {
            for _ in 0..2 {
                world.step(Step::Ask(worker));
            }
        }
        world.settle();
        prop_assert_eq!((world.held(), world.waiting()), (3, 5));
    }
}

#[test]
fn a_change_of_a_limit_survives_the_keeper_and_ends_with_the_last_worker() {
    let mut world = World::new(2);
    world.settle();
    let raised = Terms { concurrency: Some(4), rate: None };
    let mut heard = world.workers[0].share.set(limit(), Some(raised));
    for _ in 0..6 {
        world.step(Step::Ask(1));
    }
    world.settle();
    assert!(heard.try_recv().is_ok());
    assert_eq!((world.held(), world.waiting()), (4, 2));
    world.step(Step::Kill(0));
    world.step(Step::Depose { dies: true });
    world.step(Step::Ask(1));
    world.settle();
    assert_eq!((world.held(), world.waiting()), (4, 3));
    assert_eq!(world.workers[0].share.changed(&limit()), Some(raised), "a new worker is told");
    world.step(Step::Kill(0));
    world.step(Step::Kill(1));
    world.step(Step::Depose { dies: true });
    for _ in 0..6 {
        world.step(Step::Ask(1));
    }
    world.settle();
    assert_eq!((world.held(), world.waiting()), (3, 3));
}
