//! Every exchange, queue and binding of Leveret as one value: declared, compared and exported from here alone.

mod deaths;
mod declare;
mod definitions;
mod difference;
mod error;
mod names;
mod parts;
mod settings;
mod shards;

use std::{collections::BTreeMap, time::Duration};

pub use deaths::{Copied, copy_deaths};
pub(crate) use declare::table as argument_table;
pub(crate) use declare::{bind, declare_queue, queue_is_there, unbind};
pub use declare::{declare, diff};
pub use definitions::definitions;
pub use difference::{Difference, Part};
pub use error::TopologyError;
pub(crate) use names::check as check_name;
pub use names::{InvalidName, Names, QueueName};
pub use parts::{Argument, Binding, Exchange, Queue, Target};
pub use settings::{InvalidQueueSettings, QueueSettings};
pub use shards::{MAX_SHARDS, is_sharded, present_shards};
pub(crate) use shards::{says_absent, shard_binding};

use crate::duration;

/// What the broker is to hold for a namespace and its queues.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    names: Names,
    queues: BTreeMap<QueueName, QueueSettings>,
    /// The worker whose own queues are among them.
    worker: Option<String>,
    /// Queues that hold the long tasks of one worker: the work queue, and the worker's instance.
    leases: Vec<(QueueName, String)>,
    limits: bool,
    centre: bool,
    deaths: bool,
}

impl Topology {
    /// The exchanges of a namespace, and no work queue yet.
    ///
    /// # Errors
    /// [`InvalidName`] when the namespace breaks the rules of names.
    pub fn new(namespace: &str) -> Result<Self, InvalidName> {
        Ok(Self {
            names: Names::new(namespace)?,
            queues: BTreeMap::new(),
            worker: None,
            leases: Vec::new(),
            limits: false,
            centre: false,
            deaths: false,
        })
    }

    /// Adds a work queue, with its tiers and its dead-letter queue.
    #[must_use]
    pub fn queue(mut self, name: QueueName, settings: QueueSettings) -> Self {
        self.queues.insert(name, settings);
        self
    }

    /// Adds the queues of the worker `worker`, where others forward to it: of those work queues that have a `route`.
    #[must_use]
    pub fn worker(mut self, worker: &str) -> Self {
        self.worker = Some(worker.to_owned());
        self
    }

    /// Adds the queue in which one worker holds the long tasks of a work queue.
    #[must_use]
    pub fn lease(mut self, queue: QueueName, instance: &str) -> Self {
        self.leases.push((queue, instance.to_owned()));
        self
    }

    /// Adds the queue through which workers keep limits that they share.
    #[must_use]
    pub fn limits(mut self) -> Self {
        self.limits = true;
        self
    }

    /// Adds the queue in which the events of tasks wait for the scheduling centre.
    #[must_use]
    pub fn centre(mut self) -> Self {
        self.centre = true;
        self
    }

    /// Adds the queue in which copies of dead letters wait for the scheduling centre. What goes there is said queue by
    /// queue: see [`copy_deaths`].
    #[must_use]
    pub fn deaths(mut self) -> Self {
        self.deaths = true;
        self
    }

    /// The names of the namespace.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The work queues and their settings.
    pub fn work_queues(&self) -> impl Iterator<Item = (&QueueName, &QueueSettings)> {
        self.queues.iter()
    }

    /// The settings of a work queue.
    pub fn settings(&self, queue: &QueueName) -> Option<&QueueSettings> {
        self.queues.get(queue)
    }

    /// The exchanges.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let exchange = |name: &str, kind, lost: bool| Exchange {
            name: name.to_owned(),
            kind,
            arguments: lost.then(|| ("alternate-exchange", text(self.names.lost()))).into_iter().collect(),
        };
        let names = &self.names;
        let mut exchanges = vec![
            exchange(names.tasks(), "topic", true),
            // Behind an alternate exchange a mandatory publish is not returned (seen on RabbitMQ 3.10, 4.0 and
            // 4.3), and our own callers must hear that their task went nowhere: so they have a way in without one.
            exchange(names.publish(), "topic", false),
            exchange(names.retry_return(), "direct", true),
            exchange(names.dead(), "direct", true),
            exchange(names.lost(), "fanout", false),
            exchange(names.control(), "topic", false),
            exchange(names.events(), "topic", false),
        ];
        if self.deaths {
            exchanges.push(exchange(names.deaths(), "fanout", false));
        }
        for (name, _) in self.queues.iter().filter(|(_, settings)| settings.shards.is_some()) {
            exchanges.extend(self.shard_exchanges(name));
        }
        exchanges
    }

    /// The queues.
    pub fn queues(&self) -> Vec<Queue> {
        let mut queues = vec![Queue { name: self.names.lost().to_owned(), arguments: terminal_arguments() }];
        if self.limits {
            queues.push(Queue { name: self.names.limits().to_owned(), arguments: limits_arguments() });
        }
        if self.centre {
            queues.push(Queue { name: self.names.centre().to_owned(), arguments: centre_arguments() });
        }
        if self.deaths {
            queues.push(Queue { name: self.names.deaths().to_owned(), arguments: deaths_arguments() });
        }
        for (name, settings) in &self.queues {
            match settings.shards {
                None => queues.push(Queue { name: name.to_string(), arguments: self.work_arguments(name, settings) }),
                Some(shards) => {
                    queues.extend((0..shards).map(|index| Queue {
                        name: name.shard(index),
                        arguments: self.shard_arguments(name, settings),
                    }));
                }
            }
            for delay in settings.tiers.iter() {
                queues.push(Queue { name: name.tier(delay), arguments: self.tier_arguments(name, delay) });
            }
            queues.push(Queue { name: name.dead(), arguments: self.dead_arguments(name) });
            if let Some(worker) = self.worker.as_ref().filter(|_| settings.is_routed()) {
                queues.push(Queue { name: name.at(worker), arguments: self.own_arguments(name, settings) });
            }
        }
        for (name, instance) in &self.leases {
            queues.push(Queue { name: name.lease(instance), arguments: self.lease_arguments(name) });
        }
        queues
    }

    /// The bindings.
    pub fn bindings(&self) -> Vec<Binding> {
        let bind = |exchange: &str, queue: String, routing_key: String| Binding {
            exchange: exchange.to_owned(),
            target: Target::Queue(queue),
            routing_key,
            arguments: BTreeMap::new(),
        };
        let names = &self.names;
        let mut bindings = vec![bind(names.lost(), names.lost().to_owned(), String::new())];
        if self.centre {
            bindings.push(bind(names.events(), names.centre().to_owned(), "task.#".to_owned()));
        }
        if self.deaths {
            bindings.push(bind(names.deaths(), names.deaths().to_owned(), String::new()));
        }
        for (name, settings) in &self.queues {
            if let Some(shards) = settings.shards {
                bindings.extend(self.shard_bindings(name, shards));
                bindings.extend(self.front_bindings(name));
            } else {
                for way_in in [names.tasks(), names.publish()] {
                    bindings.push(bind(way_in, name.to_string(), format!("{name}.#")));
                }
                bindings.push(bind(names.retry_return(), name.to_string(), name.to_string()));
            }
            bindings.push(bind(names.dead(), name.dead(), name.to_string()));
        }
        bindings
    }

    fn work_arguments(&self, name: &QueueName, settings: &QueueSettings) -> BTreeMap<&'static str, Argument> {
        let mut arguments = dead_lettering(self.names.dead(), name);
        arguments.insert("x-delivery-limit", Argument::Number(settings.delivery_limit.into()));
        arguments.insert("x-max-length", Argument::Number(settings.max_length.into()));
        arguments
    }

    fn tier_arguments(&self, name: &QueueName, delay: Duration) -> BTreeMap<&'static str, Argument> {
        let mut arguments = dead_lettering(self.names.retry_return(), name);
        arguments.insert("x-message-ttl", milliseconds(delay));
        arguments
    }

    /// The way back is that of a tier. While a worker holds a message its time to live does not matter; when the
    /// worker is gone, the message returns at once.
    fn lease_arguments(&self, name: &QueueName) -> BTreeMap<&'static str, Argument> {
        let mut arguments = self.tier_arguments(name, LEASE_TTL);
        arguments.insert("x-expires", milliseconds(LEASE_QUEUE_EXPIRY));
        // Without one RabbitMQ 4 has 20; a worker that comes and goes must not use it up.
        arguments.insert("x-delivery-limit", Argument::Number(1_000_000_000));
        arguments
    }

    /// What its worker does not take in time goes back to the queue of all, also when the worker is gone. Names of
    /// workers often hold a process id, so that a queue that nobody has used for an hour is deleted.
    fn own_arguments(&self, name: &QueueName, settings: &QueueSettings) -> BTreeMap<&'static str, Argument> {
        let mut arguments = dead_lettering(self.names.retry_return(), name);
        arguments.insert("x-delivery-limit", Argument::Number(settings.delivery_limit.into()));
        arguments.insert("x-message-ttl", milliseconds(FAILOVER));
        arguments.insert("x-expires", milliseconds(OWN_QUEUE_KEPT));
        arguments
    }

    /// A dead letter that is rejected goes back to its queue: that is how a replay moves it, in one step of the
    /// broker's own, so that an interrupted replay neither loses nor doubles one.
    fn dead_arguments(&self, name: &QueueName) -> BTreeMap<&'static str, Argument> {
        let mut arguments = dead_lettering(self.names.retry_return(), name);
        arguments.extend(terminal_arguments());
        arguments
    }
}

/// How long a task that was forwarded to a worker waits for it before it goes back to the queue of all.
pub const FAILOVER: Duration = Duration::from_secs(10);
/// How long the queue of a worker that is gone is kept.
const OWN_QUEUE_KEPT: Duration = Duration::from_secs(3_600);

/// How many messages of events are kept for a centre, and how many bytes of them.
const EVENTS_KEPT: i64 = 1_000_000;
const EVENT_BYTES_KEPT: i64 = 1 << 30;

/// How many copies of dead letters are kept for a centre, how many bytes of them, and how long the queue is kept while
/// there is no centre.
const DEATHS_KEPT: i64 = 100_000;
const DEATH_BYTES_KEPT: i64 = 256 << 20;
const DEATHS_QUEUE_KEPT: Duration = Duration::from_secs(3_600);

/// How long the message of a long task waits in a lease queue for its worker, before it returns to its work queue.
const LEASE_TTL: Duration = Duration::from_secs(5);
/// After how long without a worker a lease queue goes away. By then all that was in it has returned.
const LEASE_QUEUE_EXPIRY: Duration = Duration::from_secs(1_800);

/// The queue that stands for "this queue is paused at every worker" for as long as it is there, and holds a message that
/// says why. It is no part of a [`Topology`], whose queues are all to be there: see [`crate::control::PauseFlags`].
///
/// It takes one message. What workers send to ask whether it is there is refused, so that they may ask for ever.
pub(crate) fn pause_flag(queue: &QueueName) -> Queue {
    let mut arguments = terminal_arguments();
    arguments.insert("x-max-length", Argument::Number(1));
    arguments.insert("x-overflow", text("reject-publish"));
    Queue { name: queue.paused(), arguments }
}

/// Quorum, dead-lettering at least once: without `reject-publish` the broker falls back to at most once.
fn dead_lettering(exchange: &str, queue: &QueueName) -> BTreeMap<&'static str, Argument> {
    BTreeMap::from([
        ("x-queue-type", text("quorum")),
        ("x-dead-letter-exchange", text(exchange)),
        ("x-dead-letter-routing-key", text(queue.as_str())),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ])
}

/// A queue where messages stay until someone acts. The limit stands in for "none": RabbitMQ 4 would drop or
/// move a message after 20 looks at it, and 3.10 would put one that was looked at to the back of the queue.
fn terminal_arguments() -> BTreeMap<&'static str, Argument> {
    BTreeMap::from([("x-queue-type", text("quorum")), ("x-delivery-limit", Argument::Number(1_000_000_000))])
}

fn milliseconds(time: Duration) -> Argument {
    Argument::Number(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// The broker delivers to one consumer at a time, which so becomes the keeper of the limits, and to another when that
/// one is gone. What the keeper has not acknowledged comes first then: with a delivery limit, on RabbitMQ 3.10 too.
fn limits_arguments() -> BTreeMap<&'static str, Argument> {
    let mut arguments = terminal_arguments();
    arguments.insert("x-single-active-consumer", Argument::Flag(true));
    arguments
}

/// While no centre runs, the newest events are kept. One that comes and goes must not use up a delivery limit, and
/// RabbitMQ 4 would set one.
fn centre_arguments() -> BTreeMap<&'static str, Argument> {
    let mut arguments = terminal_arguments();
    arguments.insert("x-max-length", Argument::Number(EVENTS_KEPT));
    arguments.insert("x-max-length-bytes", Argument::Number(EVENT_BYTES_KEPT));
    arguments.insert("x-overflow", text("drop-head"));
    arguments
}

/// They are copies: the newest are kept, none holds up the dead-lettering of others, and they are gone with the queue.
fn deaths_arguments() -> BTreeMap<&'static str, Argument> {
    let mut arguments = centre_arguments();
    arguments.insert("x-max-length", Argument::Number(DEATHS_KEPT));
    arguments.insert("x-max-length-bytes", Argument::Number(DEATH_BYTES_KEPT));
    arguments.insert("x-expires", milliseconds(DEATHS_QUEUE_KEPT));
    arguments
}

fn text(text: &str) -> Argument {
    Argument::Text(text.to_owned())
}

impl QueueName {
    /// The name of the tier of this queue with this delay.
    pub fn tier(&self, delay: Duration) -> String {
        format!("{self}.retry.{}", duration::format(delay))
    }

    /// The name of the queue in which a worker gets what others forward to it.
    pub fn at(&self, worker: &str) -> String {
        format!("{self}.at.{worker}")
    }

    /// The name of the queue in which a worker holds long tasks of this queue.
    pub fn lease(&self, instance: &str) -> String {
        format!("{self}.lease.{instance}")
    }

    /// The name of the queue that is there while this one is paused at every worker.
    pub fn paused(&self) -> String {
        format!("{self}.paused")
    }

    /// The name of this queue's dead-letter queue.
    pub fn dead(&self) -> String {
        format!("{self}.dead")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail() -> Topology {
        Topology::new("leveret").unwrap().queue(QueueName::new("mail").unwrap(), QueueSettings::default())
    }

    #[test]
    fn a_work_queue_comes_with_its_tiers_and_its_dead() {
        let names: Vec<_> = mail().queues().into_iter().map(|queue| queue.name).collect();
        let tiers = ["1s", "5s", "30s", "2m", "10m", "1h"].map(|tier| format!("mail.retry.{tier}"));
        let mut wanted = vec!["leveret.lost".to_owned(), "mail".to_owned()];
        wanted.extend(tiers);
        wanted.push("mail.dead".to_owned());
        assert_eq!(names, wanted);
    }

    #[test]
    fn only_our_own_way_in_returns_what_it_cannot_route() {
        for exchange in mail().exchanges() {
            let catches = exchange.arguments.contains_key("alternate-exchange");
            let lets_go = ["publish", "lost", "control", "events"].map(|name| format!("leveret.{name}"));
            assert_eq!(catches, !lets_go.contains(&exchange.name), "{exchange:?}");
        }
    }

    #[test]
    fn the_queue_of_the_limits_is_there_only_when_asked_for() {
        let names = |topology: &Topology| topology.queues().into_iter().map(|queue| queue.name).collect::<Vec<_>>();
        assert!(!names(&mail()).contains(&"leveret.limits".to_owned()));
        assert!(names(&mail().limits()).contains(&"leveret.limits".to_owned()));
    }

    #[test]
    fn the_queue_of_the_centre_is_there_only_when_asked_for() {
        let queue = |topology: &Topology| topology.queues().into_iter().find(|queue| queue.name == "leveret.centre");
        assert!(queue(&mail()).is_none());
        assert_eq!(queue(&mail().centre()).unwrap().arguments["x-overflow"], text("drop-head"));
        let bound = mail().centre().bindings().into_iter().filter(|binding| binding.exchange == "leveret.events");
        assert_eq!(bound.map(|binding| binding.routing_key).collect::<Vec<_>>(), ["task.#"]);
    }

    #[test]
    fn every_queue_that_dead_letters_does_so_at_least_once() {
        for queue in mail().queues().iter().filter(|queue| queue.arguments.contains_key("x-dead-letter-exchange")) {
            assert_eq!(queue.arguments["x-dead-letter-strategy"], text("at-least-once"));
            assert_eq!(queue.arguments["x-overflow"], text("reject-publish"), "{}", queue.name);
        }
    }
}
