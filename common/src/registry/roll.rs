//! Who is there: what was heard of each worker, and when that was too long ago.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;

use super::{About, Announcement, Beat, Instance};
use crate::{clock::UnixMillis, control::Target, topology::QueueName};

/// Beats that may be missed before a worker counts as lost.
const MISSED: u64 = 3;
/// What a beat may take to get here.
const SLACK: Duration = Duration::from_millis(500);
/// How long a worker that is gone is still listed.
const MEMORY: Duration = Duration::from_secs(600);
/// How many workers are followed, and how many of those that are gone are listed.
const MOST: usize = 10_000;
const MOST_GONE: usize = 1_000;

/// A worker as it was last heard of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Peer {
    /// Its last beat.
    #[serde(flatten)]
    pub beat: Beat,
    /// What it has announced, if that was heard.
    #[serde(flatten)]
    pub about: Option<About>,
    /// Whether it is alive.
    pub presence: Presence,
    /// When it was last heard, by our clock.
    pub heard_at: UnixMillis,
}

impl Peer {
    /// Whether it is alive.
    pub fn is_live(&self) -> bool {
        self.presence == Presence::Live
    }

    /// Whether a command to this target reaches it.
    pub fn is_addressed(&self, target: &Target) -> bool {
        match target {
            Target::All => true,
            Target::Worker(name) => self.beat.worker == *name,
            Target::Instance(instance) => self.beat.instance == *instance,
            Target::Queue(queue) => self.beat.queue(queue).is_some(),
        }
    }

    fn deadline(&self) -> UnixMillis {
        self.heard_at + Duration::from_millis(self.beat.every_ms.clamp(100, 60_000).saturating_mul(MISSED)) + SLACK
    }
}

/// Whether a worker is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It beats.
    Live,
    /// It has missed three beats.
    Lost,
    /// It said goodbye.
    Offline,
}

impl Presence {
    /// The presence in a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Lost => "lost",
            Self::Offline => "offline",
        }
    }
}

/// A worker came, changed or went.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// It is there: it started, was found, or came back after it had been lost.
    Online(Arc<Peer>),
    /// It said something new about itself.
    Changed(Arc<Peer>),
    /// Three beats are missing.
    Lost(Arc<Peer>),
    /// It said goodbye.
    Offline(Arc<Peer>),
}

/// All workers at one moment: those that are alive, and for ten minutes those that are not any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workers(BTreeMap<Instance, Arc<Peer>>);

impl Workers {
    /// Every worker that is listed, in the order in which they started.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.0.values()
    }

    /// Those that are alive.
    pub fn live(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.iter().filter(|peer| peer.is_live())
    }

    /// Those that are alive and consume from a queue.
    pub fn of_queue<'a>(&'a self, queue: &'a QueueName) -> impl Iterator<Item = &'a Arc<Peer>> {
        self.live().filter(|peer| peer.beat.queue(queue).is_some())
    }

    /// The instances that are alive and that a command to this target reaches.
    pub fn addressed(&self, target: &Target) -> Vec<Instance> {
        self.live().filter(|peer| peer.is_addressed(target)).map(|peer| peer.beat.instance).collect()
    }

    /// One worker, if it is listed.
    pub fn get(&self, instance: &Instance) -> Option<&Arc<Peer>> {
        self.0.get(instance)
    }
}

/// What can be heard of a worker.
#[derive(Debug)]
pub(super) enum Notice {
    Announcement(Box<Announcement>),
    Beat(Box<Beat>),
    Offline(Instance),
}

/// Keeps the roll. Times come from outside.
#[derive(Debug, Default)]
pub(super) struct Roll {
    workers: Workers,
    changes: Vec<Change>,
}

impl Roll {
    pub(super) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// What has changed since this was last called.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Takes note. The worker that has not announced itself, if it was heard for the first time.
    pub(super) fn note(&mut self, notice: Notice, now: UnixMillis) -> Option<Instance> {
        let (beat, about) = match notice {
            Notice::Announcement(announcement) => (announcement.beat, Some(announcement.about)),
            Notice::Beat(beat) => (*beat, None),
            Notice::Offline(instance) => {
                if let Some(peer) = self.workers.0.get(&instance).filter(|peer| peer.presence != Presence::Offline) {
                    let gone = Arc::new(Peer { presence: Presence::Offline, heard_at: now, ..(**peer).clone() });
                    self.workers.0.insert(instance, gone.clone());
                    self.changes.push(Change::Offline(gone));
                }
                return None;
            }
        };
        let instance = beat.instance;
        let known = self.workers.0.get(&instance);
        // Goodbye is for good: what comes after it was under way before.
        if known.is_some_and(|peer| peer.presence == Presence::Offline) || (known.is_none() && self.is_full()) {
            return None;
        }
        let was_live = known.is_some_and(|peer| peer.is_live());
        // An answer to a question may be older than the last beat.
        let beat = known.filter(|peer| peer.beat.at > beat.at).map_or(beat, |peer| peer.beat.clone());
        let is_new = known.is_none();
        let about = about.or_else(|| known.and_then(|peer| peer.about.clone()));
        let unannounced = (is_new && about.is_none()).then_some(instance);
        let peer = Arc::new(Peer { beat, about, presence: Presence::Live, heard_at: now });
        self.workers.0.insert(instance, peer.clone());
        self.changes.push(if was_live { Change::Changed(peer) } else { Change::Online(peer) });
        unannounced
    }

    fn is_full(&self) -> bool {
        self.workers.0.len() >= MOST
    }

    /// When the next worker will be lost if nothing is heard of it.
    pub(super) fn next_deadline(&self) -> Option<UnixMillis> {
        self.workers.live().map(|peer| peer.deadline()).min()
    }

    /// Notes who is lost by now, and forgets those that have been gone for long.
    pub(super) fn look(&mut self, now: UnixMillis) {
        for peer in self.workers.0.values_mut() {
            if peer.is_live() && peer.deadline() <= now {
                *peer = Arc::new(Peer { presence: Presence::Lost, ..(**peer).clone() });
                self.changes.push(Change::Lost(peer.clone()));
            }
        }
        self.workers.0.retain(|_, peer| peer.is_live() || now.since(peer.heard_at) < MEMORY);
        let mut gone: Vec<_> = self.workers.iter().filter(|peer| !peer.is_live()).cloned().collect();
        if gone.len() > MOST_GONE {
            gone.sort_by_key(|peer| peer.heard_at);
            for peer in &gone[..gone.len() - MOST_GONE] {
                self.workers.0.remove(&peer.beat.instance);
            }
        }
    }

    /// We could not hear for a while: everyone has their time anew.
    pub(super) fn hear_again(&mut self, now: UnixMillis) {
        for peer in self.workers.0.values_mut().filter(|peer| peer.is_live()) {
            *peer = Arc::new(Peer { heard_at: now, ..(**peer).clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMillis = UnixMillis(1_000_000);

    fn after(ms: u64) -> UnixMillis {
        START + Duration::from_millis(ms)
    }

    fn beat(instance: Instance, at: UnixMillis) -> Notice {
        let beat = Beat {
            worker: "mail".to_owned(),
            instance,
            at,
            every_ms: 2_000,
            state: Default::default(),
            weight: 1,
            queues: vec![],
        };
        Notice::Beat(Box::new(beat))
    }

    fn words(roll: &mut Roll) -> Vec<&'static str> {
        let word = |change: &Change| match change {
            Change::Online(_) => "online",
            Change::Changed(_) => "changed",
            Change::Lost(_) => "lost",
            Change::Offline(_) => "offline",
        };
        roll.take_changes().iter().map(word).collect()
    }

    #[test]
    fn three_missed_beats_make_a_worker_lost_and_one_brings_it_back() {
        let (mut roll, one) = (Roll::default(), Instance::new());
        assert_eq!(roll.note(beat(one, START), START), Some(one), "it has not announced itself");
        assert_eq!(roll.note(beat(one, after(2_000)), after(2_000)), None);
        assert_eq!(words(&mut roll), ["online", "changed"]);
        assert_eq!(roll.next_deadline(), Some(after(8_500)));
        roll.look(after(8_499));
        assert_eq!(words(&mut roll), [""; 0]);
        roll.look(after(8_500));
        assert_eq!(words(&mut roll), ["lost"]);
        assert_eq!((roll.workers().live().count(), roll.workers().iter().count()), (0, 1));
        roll.note(beat(one, after(9_000)), after(9_000));
        assert_eq!(words(&mut roll), ["online"]);
    }

    #[test]
    fn goodbye_is_for_good_and_is_forgotten_in_time() {
        let (mut roll, one, two) = (Roll::default(), Instance::new(), Instance::new());
        roll.note(beat(one, START), START);
        roll.note(beat(two, START), START);
        roll.note(Notice::Offline(one), after(10));
        roll.note(beat(one, START), after(20));
        assert_eq!(words(&mut roll), ["online", "online", "offline"]);
        let live: Vec<_> = roll.workers().live().map(|peer| peer.beat.instance).collect();
        assert_eq!(live, [two]);
        roll.look(after(700_000));
        assert_eq!(roll.workers().iter().count(), 0);
    }

    #[test]
    fn nobody_is_lost_while_we_could_not_hear() {
        let (mut roll, one) = (Roll::default(), Instance::new());
        roll.note(beat(one, START), START);
        roll.hear_again(after(60_000));
        roll.look(after(60_001));
        assert_eq!(words(&mut roll), ["online"]);
        assert_eq!(roll.next_deadline(), Some(after(66_500)));
    }
}
