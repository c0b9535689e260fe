//! The shards of a queue that a worker is subscribed to.
//!
//! Where there is no order, every worker takes from every shard. Where there is one, the broker gives a shard to a
//! single consumer at a time, to the one that came first; without further ado the first worker of all would have all
//! shards. So all workers calculate who owns which shard. The owner subscribes at once, the others a little later, to
//! stand by; and whoever finds that a shard has gone to another leaves it, after the task that it runs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leveret_common::{
    link::{Attachment, ChannelPool, Consumer, ConsumerSettings, Delivery, Inlet, Link},
    shards::owners,
    topology::{QueueName, present_shards},
    wire::TooLong,
};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// What a worker consumes of a queue in shards, and how.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// The queue.
    pub queue: QueueName,
    /// How many shards the settings say. The broker may have others.
    pub expected: u16,
    /// Whether the tasks of a shard run one after another.
    pub ordered: bool,
    /// Deliveries of each shard that may be here unsettled, where there is no order.
    pub prefetch: u16,
    /// Start of the consumer tags.
    pub tag: String,
    /// Instance id of this worker.
    pub instance: String,
    /// How often to look for new shards. 5 s is a good choice.
    pub look: Duration,
    /// How long to leave a shard to its owner. 2 s is a good choice.
    pub standby: Duration,
}

/// Gives the way in for the deliveries of a shard, by its number. Where there is an order, only one runner at a time may
/// take from it.
pub type OpenInlet = dyn Fn(u16) -> Option<Inlet<Delivery>> + Send + Sync;

/// The subscriptions to the shards of a queue, kept up until they are stopped.
#[derive(Debug)]
pub struct Shards {
    stop: CancellationToken,
    finish: CancellationToken,
    paused: watch::Sender<bool>,
    attachment: watch::Receiver<Attachment>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    link: Link,
    pool: ChannelPool,
    settings: ShardSettings,
    open: Box<OpenInlet>,
    stop: CancellationToken,
    finish: CancellationToken,
    paused: watch::Receiver<bool>,
    attached: Attachments,
}

/// Whether the broker delivers to the subscriptions, and to all of them together.
struct Attachments {
    each: Mutex<BTreeMap<u16, Attachment>>,
    all: watch::Sender<Attachment>,
}

impl Attachments {
    fn set(&self, shard: u16, attachment: Option<Attachment>) {
        let mut each = self.each.lock();
        match attachment {
            Some(attachment) => each.insert(shard, attachment),
            None => each.remove(&shard),
        };
        let missing = each.values().find(|attachment| **attachment != Attachment::Attached);
        let all = missing.or(each.values().next()).cloned().unwrap_or(Attachment::Detached(None));
        self.all.send_if_modified(|before| {
            let changed = *before != all;
            *before = all;
            changed
        });
    }
}

/// A shard that is looked after.
struct Shard {
    owner: watch::Sender<String>,
    gone: CancellationToken,
}

impl Shards {
    /// Subscribes to the shards of a queue that is declared already. `workers` has the instance ids of the workers that
    /// consume from it, and changes as they come and go; this one is among them anyway. `open` is asked for a way in
    /// whenever a subscription begins; without one, the shard is left alone.
    pub fn start(
        link: Link,
        pool: ChannelPool,
        settings: ShardSettings,
        workers: watch::Receiver<Vec<String>>,
        paused: bool,
        open: Box<OpenInlet>,
    ) -> Self {
        let (stop, finish) = (CancellationToken::new(), CancellationToken::new());
        let (all, attachment) = watch::channel(Attachment::Detached(None));
        let (pause, paused) = watch::channel(paused);
        let shared = Arc::new(Shared {
            link,
            pool,
            settings,
            open,
            stop: stop.clone(),
            finish: finish.clone(),
            paused,
            attached: Attachments { each: Mutex::default(), all },
        });
        Self { stop, finish, paused: pause, attachment, task: tokio::spawn(shared.run(workers)) }
    }

    /// Leaves all shards, after the tasks that it runs, or takes from them again.
    pub fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Follows whether the broker delivers to all subscriptions, and what stands in the way of one of them.
    pub fn attached(&self) -> watch::Receiver<Attachment> {
        self.attachment.clone()
    }

    /// Takes no more. What is here can still be run and settled.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until what was taken has been settled and the broker told. Where there is an order, the subscriptions
    /// themselves end with the connection, which is to be closed next.
    pub async fn finish(self) {
        self.stop.cancel();
        self.finish.cancel();
        let _ = self.task.await;
    }
}

impl Shared {
    async fn run(self: Arc<Self>, mut workers: watch::Receiver<Vec<String>>) {
        let mut shards: BTreeMap<u16, Shard> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let mut look = interval(self.settings.look);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut present = Vec::new();
        let mut alone = false;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = look.tick() => {
                    let queue = &self.settings.queue;
                    match present_shards(&self.pool, queue, self.settings.expected).await {
                        Ok(found) => present = found,
                        Err(error) => {
                            debug!(queue = queue.as_str(), "cannot look for shards: {error}");
                            continue;
                        }
                    }
                }
                changed = workers.changed(), if !alone => alone = changed.is_err(),
                Some(_) = tasks.join_next() => continue,
            }
            let known = workers.borrow_and_update().clone();
            self.share_out(&present, &known, &mut shards, &mut tasks);
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Tells each shard who owns it, begins with those that are new, ends with those that are gone.
    fn share_out(
        self: &Arc<Self>,
        present: &[u16],
        workers: &[String],
        shards: &mut BTreeMap<u16, Shard>,
        tasks: &mut JoinSet<()>,
    ) {
        let own = self.settings.instance.as_str();
        let everyone: Vec<&str> = workers.iter().map(String::as_str).chain([own]).collect();
        let owners = owners(present.last().map_or(0, |last| last + 1), &everyone);
        shards.retain(|index, shard| {
            let stays = present.contains(index);
            if !stays {
                shard.gone.cancel();
            }
            stays
        });
        for index in present {
            let owner = owners.get(usize::from(*index)).copied().unwrap_or(own);
            if let Some(shard) = shards.get(index) {
                shard.owner.send_if_modified(|before| {
                    let changed = before != owner;
                    owner.clone_into(before);
                    changed
                });
            } else {
                let (tell, told) = watch::channel(owner.to_owned());
                let gone = CancellationToken::new();
                tasks.spawn(self.clone().look_after(*index, told, gone.clone()));
                shards.insert(*index, Shard { owner: tell, gone });
            }
        }
    }

    /// Keeps up the subscription to one shard.
    async fn look_after(self: Arc<Self>, index: u16, mut owner: watch::Receiver<String>, gone: CancellationToken) {
        let name = self.settings.queue.shard(index);
        let mut paused = self.paused.clone();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = gone.cancelled() => return,
                resumed = paused.wait_for(|paused| !*paused) => if resumed.is_err() { return },
            }
            let owned_by = owner.borrow_and_update().clone();
            if self.settings.ordered && owned_by != self.settings.instance {
                // The owner is to come first.
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = gone.cancelled() => return,
                    Ok(()) = owner.changed() => continue,
                    () = sleep(self.settings.standby) => {}
                }
            }
            let Some(inlet) = (self.open)(index) else { return };
            let mut consumer = match self.consume(&name, inlet.clone()) {
                Ok(started) => started,
                Err(error) => return warn!(shard = name, "cannot subscribe: {error}"),
            };
            let mut attached = consumer.attached();
            let mut leaving = false;
            loop {
                let now = attached.borrow_and_update().clone();
                self.attached.set(index, Some(now));
                tokio::select! {
                    () = self.stop.cancelled() => {
                        consumer.stop();
                        self.finish.cancelled().await;
                        return consumer.finish(Duration::from_secs(5)).await;
                    }
                    () = gone.cancelled() => {
                        info!(shard = name, "the shard was removed");
                        self.attached.set(index, None);
                        inlet.clear().into_iter().for_each(Delivery::give_back);
                        return consumer.finish(Duration::from_secs(5)).await;
                    }
                    Ok(()) = owner.changed(), if self.settings.ordered => {
                        let now = owner.borrow_and_update().clone();
                        leaving |= now != self.settings.instance && now != owned_by;
                    }
                    Ok(()) = attached.changed() => {}
                    Ok(()) = paused.changed() => leaving |= *paused.borrow_and_update(),
                    () = consumer.released(), if leaving => {
                        debug!(shard = name, "left the shard");
                        self.attached.set(index, None);
                        inlet.clear().into_iter().for_each(Delivery::give_back);
                        break;
                    }
                }
            }
        }
    }

    fn consume(&self, shard: &str, inlet: Inlet<Delivery>) -> Result<Consumer, TooLong> {
        let settings = ConsumerSettings {
            queue: shard.to_owned(),
            prefetch: self.settings.prefetch,
            tag: self.settings.tag.clone(),
            // Only a change of the number of shards may declare or bind one.
            topology: None,
            ordered: self.settings.ordered,
        };
        Consumer::start(self.link.clone(), settings, inlet)
    }
}
