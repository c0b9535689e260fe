//! What the demo puts up at the broker, all under names of its own, and takes down again.

use std::time::Duration;

use lapin::{
    options::{ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use leveret::{
    QueueName, QueueSettings, Tiers, Topology,
    common::{
        dead_letters::{DeadLetter, DeadLetters, Selection},
        link::ChannelPool,
        topology::declare,
        wire::short,
    },
};
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};

/// First part of the names of the exchanges.
pub(super) const NAMESPACE: &str = "leveret-demo";
/// The queue of the text work.
pub(super) const TEXT: &str = "leveret-demo-text";
/// The queue of the pictures.
pub(super) const PICTURES: &str = "leveret-demo-pictures";
/// Where the results of all tasks go.
pub(super) const RESULTS: &str = "leveret-demo-results";
/// Gets a copy of what comes in the way of our own clients.
pub(super) const TAP_OWN: &str = "leveret-demo-tap-own";
/// Gets a copy of what comes in the way of everyone.
pub(super) const TAP_FOREIGN: &str = "leveret-demo-tap-foreign";
/// Held by the connection of the one demo that runs.
const RUNNING: &str = "leveret-demo-running";

/// The settings of both work queues: short tiers, so that a retry is soon.
pub(super) fn queue_settings() -> QueueSettings {
    let tiers = Tiers::new([200, 1_000, 5_000].map(Duration::from_millis).into()).unwrap_or_default();
    QueueSettings { tiers, ..QueueSettings::default() }
}

/// The broker's side of the demo.
pub(super) struct Stage {
    pool: ChannelPool,
    topology: Topology,
}

impl Stage {
    /// Takes down what a demo that was killed has left, and puts everything up anew.
    pub(super) async fn set_up(pool: ChannelPool) -> Result<Self, Failure> {
        lock(&pool).await?;
        let mut topology = Topology::new(NAMESPACE)?;
        for name in [TEXT, PICTURES] {
            topology = topology.queue(QueueName::new(name)?, queue_settings());
        }
        let stage = Self { pool, topology };
        stage.take_down().await?;
        declare(&stage.pool, &stage.topology).await?;
        let channel = stage.pool.get().await?;
        let names = stage.topology.names();
        for (queue, exchange) in [(RESULTS, None), (TAP_OWN, Some(names.publish())), (TAP_FOREIGN, Some(names.tasks()))]
        {
            let mut arguments = FieldTable::default();
            arguments.insert(short("argument", "x-queue-type")?, AMQPValue::LongString("quorum".into()));
            let name = short("queue", queue)?;
            channel.queue_declare(name.clone(), QueueDeclareOptions::durable(), arguments).await?;
            if let Some(exchange) = exchange {
                let (exchange, all) = (short("exchange", exchange)?, short("routing key", "#")?);
                channel.queue_bind(name, exchange, all, QueueBindOptions::default(), FieldTable::default()).await?;
            }
        }
        Ok(stage)
    }

    /// The exchange where every client publishes.
    pub(super) fn exchange(&self) -> &str {
        self.topology.names().tasks()
    }

    /// Deletes all that is the demo's. What is not there is no error.
    pub(super) async fn take_down(&self) -> Result<(), Failure> {
        let channel = self.pool.get().await?;
        let own = self.topology.queues().into_iter().map(|queue| queue.name);
        for queue in own.chain([RESULTS, TAP_OWN, TAP_FOREIGN].map(str::to_owned)) {
            channel.queue_delete(short("queue", &queue)?, QueueDeleteOptions::default()).await?;
        }
        for exchange in self.topology.exchanges() {
            channel.exchange_delete(short("exchange", &exchange.name)?, ExchangeDeleteOptions::default()).await?;
        }
        Ok(())
    }

    /// How many tasks wait in the work queues and their tiers.
    pub(super) async fn waiting(&self) -> Result<u64, Failure> {
        let channel = self.pool.get().await?;
        let mut waiting = 0;
        for (name, settings) in self.topology.work_queues() {
            for queue in settings.tiers.iter().map(|tier| name.tier(tier)).chain([name.to_string()]) {
                let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let counted = channel.queue_declare(short("queue", &queue)?, passive, FieldTable::default()).await?;
                waiting += u64::from(counted.message_count());
            }
        }
        Ok(waiting)
    }

    /// Everything in the dead-letter queues.
    pub(super) async fn dead(&self) -> Result<Vec<DeadLetter>, Failure> {
        let mut letters = Vec::new();
        for (name, _) in self.topology.work_queues() {
            let dead = DeadLetters::of(self.pool.link().clone(), name.clone())?;
            dead.browse(&Selection::all(), &CancellationToken::new(), |letter| letters.push(letter)).await?;
        }
        Ok(letters)
    }

    pub(super) async fn close(&self) {
        self.pool.link().close().await;
    }
}

/// An exclusive queue belongs to one connection: a second demo on this broker would count the first one's tasks.
async fn lock(pool: &ChannelPool) -> Result<(), Failure> {
    let channel = pool.get().await?;
    let exclusive = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(short("queue", RUNNING)?, exclusive, FieldTable::default()).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), lapin::ErrorKind::ProtocolError(refusal) if refusal.get_id() == 405) => {
            let text = "another demo runs on this broker: wait until it has ended, or give another one with --url";
            Err(Failure::new(Exit::Failed, text))
        }
        Err(error) => Err(error.into()),
    }
}
