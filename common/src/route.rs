//! Which worker gets a task: the strategies, and the choice as a calculation without a broker.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// How the workers of a queue share its tasks: the value of the header `leveret-route` and of `route` in a queue's
/// table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Route {
    /// `competing`: whoever is free first.
    #[default]
    Competing,
    /// `round-robin`: each worker in turn.
    RoundRobin,
    /// `weighted`: in turn, by the workers' weights.
    Weighted,
    /// `random`: any.
    Random,
    /// `hash`: tasks of one key go to the same worker while the workers stay the same. Without a key, by the task's id.
    Hash,
    /// `least-loaded`: of two drawn at random, the one with less to do.
    LeastLoaded,
    /// `sticky:<worker>`: the worker of this name; while it is away, the least loaded.
    Sticky(String),
    /// `broadcast`: every worker once.
    Broadcast,
    /// `first-alive`: the first by name, so that the others stand by.
    FirstAlive,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Competing => "competing",
            Self::RoundRobin => "round-robin",
            Self::Weighted => "weighted",
            Self::Random => "random",
            Self::Hash => "hash",
            Self::LeastLoaded => "least-loaded",
            Self::Sticky(worker) => return write!(f, "sticky:{worker}"),
            Self::Broadcast => "broadcast",
            Self::FirstAlive => "first-alive",
        })
    }
}

impl FromStr for Route {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        Ok(match text {
            "competing" => Self::Competing,
            "round-robin" => Self::RoundRobin,
            "weighted" => Self::Weighted,
            "random" => Self::Random,
            "hash" => Self::Hash,
            "least-loaded" => Self::LeastLoaded,
            "broadcast" => Self::Broadcast,
            "first-alive" => Self::FirstAlive,
            _ => match text.strip_prefix("sticky:") {
                Some(worker) if !worker.is_empty() => Self::Sticky(worker.to_owned()),
                _ => return Err(InvalidRoute(text.chars().take(100).collect())),
            },
        })
    }
}

impl TryFrom<String> for Route {
    type Error = InvalidRoute;
    fn try_from(text: String) -> Result<Self, InvalidRoute> {
        text.parse()
    }
}

impl From<Route> for String {
    fn from(route: Route) -> Self {
        route.to_string()
    }
}

/// The text names no strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no route: write competing, round-robin, weighted, random, hash, least-loaded, sticky:<worker>, broadcast \
     or first-alive"
)]
pub struct InvalidRoute(pub String);

/// A worker that is alive, as others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name. Workers of one name share a queue of their own, and count as one.
    pub name: String,
    /// What tells it from others of its name.
    pub instance: String,
    /// The queues that it consumes from.
    pub queues: Vec<String>,
    /// Its share where tasks go by weights. 0 gets none.
    pub weight: u32,
    /// Tasks that it runs or holds.
    pub busy: u32,
    /// Tasks that it can run at once.
    pub capacity: u32,
}

/// Where a task goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is run by whoever has it.
    Here,
    /// To the first of these workers that can be reached, by their names.
    To(Vec<String>),
    /// To each of these workers once, by their names.
    Every(Vec<String>),
}

/// Chooses workers, and remembers whose turn it is.
#[derive(Debug, Default)]
pub struct Router {
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    /// Whom the last turn went to.
    last: Option<String>,
    /// What each has in hand of its weight.
    credits: BTreeMap<String, i64>,
    /// Tasks given to each since it last said how busy it is.
    given: HashMap<String, (u32, u32)>,
}

/// Workers of one name, taken together.
#[derive(Debug)]
struct Group<'a> {
    name: &'a str,
    weight: i64,
    busy: u32,
    capacity: u32,
}

impl Router {
    /// The choice for a task with this key and id among these peers, which are those that consume from its queue.
    pub fn choose(&self, route: &Route, key: Option<&str>, id: &str, peers: &[Peer]) -> Choice {
        let groups = groups(peers);
        if groups.is_empty() {
            return Choice::Here;
        }
        match route {
            Route::Competing => Choice::Here,
            Route::RoundRobin => self.in_turn(&groups),
            Route::Weighted => self.by_weight(&groups),
            Route::Random => to(rotated(&groups, fastrand::usize(..groups.len()))),
            Route::Hash => by_hash(&groups, key.unwrap_or(id)),
            Route::LeastLoaded => self.least_loaded(&groups),
            Route::Sticky(worker) => {
                let (at_home, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.name == worker);
                let mut order: Vec<_> = at_home.iter().map(|group| group.name.to_owned()).collect();
                if !others.is_empty()
                    && let Choice::To(others) = self.least_loaded(&others)
                {
                    order.extend(others);
                }
                Choice::To(order)
            }
            Route::Broadcast => Choice::Every(groups.iter().map(|group| group.name.to_owned()).collect()),
            Route::FirstAlive => to(groups.iter()),
        }
    }

    fn in_turn(&self, groups: &[Group<'_>]) -> Choice {
        let mut turns = self.turns.lock();
        // The next by name, so that it goes on where it was when one comes or goes.
        let next = match &turns.last {
            Some(last) => groups.iter().position(|group| group.name > last.as_str()).unwrap_or(0),
            // Each of many routers begins elsewhere.
            None => fastrand::usize(..groups.len()),
        };
        turns.last = Some(groups[next].name.to_owned());
        to(rotated(groups, next))
    }

    /// Each gains its weight, and who has most pays for all: each gets its share, spread as evenly as can be.
    fn by_weight(&self, groups: &[Group<'_>]) -> Choice {
        let total: i64 = groups.iter().map(|group| group.weight).sum();
        if total == 0 {
            return self.in_turn(groups);
        }
        let mut turns = self.turns.lock();
        turns.credits.retain(|name, _| groups.iter().any(|group| group.name == name));
        for group in groups {
            *turns.credits.entry(group.name.to_owned()).or_default() += group.weight;
        }
        let credit = |group: &Group<'_>| turns.credits.get(group.name).copied().unwrap_or_default();
        let mut order: Vec<_> = groups.iter().filter(|group| group.weight > 0).collect();
        order.sort_by_key(|group| std::cmp::Reverse(credit(group)));
        if let Some(first) = order.first() {
            *turns.credits.entry(first.name.to_owned()).or_default() -= total;
        }
        to(order.into_iter())
    }

    /// Of two drawn at random, the one with less to do. To always take the least loaded of all would send everything
    /// to one worker until it is heard of again.
    fn least_loaded(&self, groups: &[Group<'_>]) -> Choice {
        let mut turns = self.turns.lock();
        let load = |turns: &Turns, group: &Group<'_>| {
            let given =
                turns.given.get(group.name).filter(|(busy, _)| *busy == group.busy).map_or(0, |(_, given)| *given);
            f64::from(group.busy.saturating_add(given)) / f64::from(group.capacity.max(1))
        };
        let first = fastrand::usize(..groups.len());
        let mut order = vec![first];
        if groups.len() > 1 {
            let second = (first + 1 + fastrand::usize(..groups.len() - 1)) % groups.len();
            order.push(second);
            if load(&turns, &groups[second]) < load(&turns, &groups[first]) {
                order.swap(0, 1);
            }
        }
        let chosen = &groups[order[0]];
        let given = turns.given.entry(chosen.name.to_owned()).or_insert((chosen.busy, 0));
        // A new number of its own counts what was given to it before.
        *given = if given.0 == chosen.busy { (given.0, given.1.saturating_add(1)) } else { (chosen.busy, 1) };
        order.extend((0..groups.len()).filter(|at| !order.contains(at)).collect::<Vec<_>>());
        to(order.into_iter().map(|at| &groups[at]))
    }
}

/// The worker whose name and the key together have the highest hash: when one leaves, only its keys move.
fn by_hash(groups: &[Group<'_>], key: &str) -> Choice {
    let mut order: Vec<_> = groups.iter().map(|group| (score(group.name, key), group)).collect();
    order.sort_by_key(|(score, group)| (std::cmp::Reverse(*score), group.name));
    to(order.into_iter().map(|(_, group)| group))
}

/// A number drawn from two texts, the same in every process and version.
pub(crate) fn score(one: &str, other: &str) -> u64 {
    // FNV-1a, whose last bytes hardly reach the upper bits, and so a mix of them all.
    let bytes = one.bytes().chain([0xff]).chain(other.bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn groups(peers: &[Peer]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    for peer in peers {
        let group = groups.entry(&peer.name).or_insert(Group { name: &peer.name, weight: 0, busy: 0, capacity: 0 });
        group.weight += i64::from(peer.weight);
        group.busy = group.busy.saturating_add(peer.busy);
        group.capacity = group.capacity.saturating_add(peer.capacity);
    }
    groups.into_values().collect()
}

fn rotated<'a, 'b>(groups: &'a [Group<'b>], first: usize) -> impl Iterator<Item = &'a Group<'b>> {
    groups[first..].iter().chain(&groups[..first])
}

fn to<'a, 'b: 'a>(order: impl Iterator<Item = &'a Group<'b>>) -> Choice {
    Choice::To(order.map(|group| group.name.to_owned()).collect())
}

#[cfg(test)]
mod tests;
