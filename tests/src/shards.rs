//! A worker of a queue in shards that is no more than its subscriptions: one runner a shard, which notes what it runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leveret::{
    BrokerSettings, QueueName, QueueSettings, Topology,
    common::{
        link::{ChannelPool, Delivery, Handover, Link, Role, Share},
        topology::declare,
        wire::{Envelope, Limits},
    },
    worker::shards::{Control, ShardSettings, Shards},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// One run of a task, with the times of its beginning and end in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// The affinity key.
    pub key: Option<String>,
    /// The task's argument.
    pub number: u32,
    /// The worker.
    pub worker: String,
    /// The shard.
    pub shard: u16,
    /// Whether the broker had given it out before.
    pub redelivered: bool,
    /// When it began.
    pub began: u128,
    /// When it ended; none when this is said at its beginning.
    pub ended: Option<u128>,
}

/// The worker.
#[derive(Debug)]
pub struct ShardWorker {
    link: Link,
    shards: Shards,
    stopping: CancellationToken,
    runners: JoinHandle<()>,
}

impl ShardWorker {
    /// Declares the queue and begins to work. Every task takes `work`. What it runs is told at the beginning and at the
    /// end; `workers` are the instances that share the queue.
    pub async fn start(
        settings: BrokerSettings,
        queue: &QueueName,
        queue_settings: QueueSettings,
        instance: &str,
        workers: watch::Receiver<Vec<String>>,
        work: Duration,
        tell: mpsc::UnboundedSender<Ran>,
    ) -> Self {
        let link = Link::open(std::sync::Arc::new(settings), Role::Consume);
        let pool = ChannelPool::new(link.clone());
        let topology = Topology::new("leveret").unwrap().queue(queue.clone(), queue_settings.clone());
        declare(&pool, &topology).await.unwrap();
        let (opened, mut openings) = mpsc::unbounded_channel();
        let shard_settings = ShardSettings {
            queue: queue.clone(),
            expected: queue_settings.shards.unwrap(),
            ordered: queue_settings.is_ordered(),
            prefetch: 2,
            tag: instance.to_owned(),
            instance: instance.to_owned(),
            look: Duration::from_millis(200),
            standby: Duration::from_millis(200),
        };
        // One handover, and so one runner, for each shard, however often it is subscribed to.
        let ways = parking_lot::Mutex::new(std::collections::HashMap::new());
        let open = move |shard: u16| {
            let way = || {
                let deliveries: Handover<Delivery> = Handover::new(2, 1);
                let inlet = deliveries.inlet(Share::default());
                opened.send((shard, deliveries)).map(|()| inlet).ok()
            };
            ways.lock().entry(shard).or_insert_with(way).clone()
        };
        let shards = Shards::start(link.clone(), pool.clone(), shard_settings, workers, false, Box::new(open));
        let stopping = CancellationToken::new();
        let lane = Lane {
            queue: queue.clone(),
            control: Control::new(pool, queue.clone()),
            worker: instance.to_owned(),
            work,
            tell,
            stopping: stopping.clone(),
        };
        let runners = tokio::spawn(async move {
            let mut runners = tokio::task::JoinSet::new();
            let mut handovers: Vec<Handover<Delivery>> = Vec::new();
            loop {
                tokio::select! {
                    () = lane.stopping.cancelled() => break,
                    opening = openings.recv() => {
                        let Some((shard, deliveries)) = opening else { break };
                        handovers.push(deliveries.clone());
                        let lane = lane.clone();
                        runners.spawn(async move {
                            let mut runner = deliveries.runner();
                            while let Some((_, delivery)) = runner.next().await {
                                lane.run(shard, delivery).await;
                            }
                        });
                    }
                }
            }
            for handover in handovers {
                handover.close().into_iter().for_each(Delivery::give_back);
            }
            while runners.join_next().await.is_some() {}
        });
        Self { link, shards, stopping, runners }
    }

    /// Begins no more, waits for what runs, and goes.
    pub async fn stop(self) {
        self.shards.stop();
        self.stopping.cancel();
        let _ = self.runners.await;
        self.shards.finish().await;
        self.link.close().await;
    }
}

#[derive(Clone)]
struct Lane {
    queue: QueueName,
    control: Control,
    worker: String,
    work: Duration,
    tell: mpsc::UnboundedSender<Ran>,
    stopping: CancellationToken,
}

impl Lane {
    async fn run(&self, shard: u16, mut delivery: Delivery) {
        if delivery.is_stale() {
            return;
        }
        let (properties, body) = delivery.take_content();
        let redelivered = delivery.redelivered;
        let envelope =
            Envelope::decode(self.queue.as_str(), redelivered, properties, body, &Limits::default()).unwrap();
        if Control::is_control(&envelope.facts.task) {
            return self.control.settle(delivery, &envelope, &self.stopping).await;
        }
        let mut ran = Ran {
            key: envelope.facts.key.clone(),
            number: serde_json::from_slice(&envelope.body).unwrap(),
            worker: self.worker.clone(),
            shard,
            redelivered,
            began: now(),
            ended: None,
        };
        drop(self.tell.send(ran.clone()));
        tokio::time::sleep(self.work).await;
        ran.ended = Some(now());
        drop(self.tell.send(ran));
        delivery.ack();
    }
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}
