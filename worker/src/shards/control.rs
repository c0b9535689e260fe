//! Gates and barriers, which a change of the number of shards leaves in them.

use std::time::Duration;

use leveret_common::{
    link::{ChannelPool, Delivery},
    shards::{BARRIER, Barrier, Flags, GATE, Gate},
    topology::QueueName,
    wire::Envelope,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Pause between two looks at the flags of a gate.
const LOOK: Duration = Duration::from_millis(100);
/// When waiting at a gate is worth a word in the log.
const LONG: Duration = Duration::from_secs(60);

/// Carries out gates and barriers of one queue.
#[derive(Clone, Debug)]
pub struct Control {
    flags: Flags,
    queue: QueueName,
}

impl Control {
    /// For `queue`. The pool has to be on the connection that consumes: there the broker hears of the tasks that are
    /// done before it hears that a flag goes down.
    pub fn new(pool: ChannelPool, queue: QueueName) -> Self {
        Self { flags: Flags::new(pool), queue }
    }

    /// Whether a task name is that of a gate or a barrier.
    pub fn is_control(task: &str) -> bool {
        task == GATE || task == BARRIER
    }

    /// Carries out a gate or a barrier and settles it. Where there is an order, nothing behind it may be begun before
    /// this returns. Once `stopping` is cancelled a gate is given back.
    pub async fn settle(&self, delivery: Delivery, envelope: &Envelope, stopping: &CancellationToken) {
        let done = if envelope.facts.task == GATE {
            match serde_json::from_slice::<Gate>(&envelope.body) {
                Ok(gate) => self.wait(&delivery, &gate, stopping).await,
                Err(error) => self.odd(&error.to_string()),
            }
        } else {
            match serde_json::from_slice::<Barrier>(&envelope.body) {
                Ok(barrier) if self.queue.has_flag(&barrier.flag) => self.lower(&delivery, &barrier, stopping).await,
                Ok(_) => self.odd("its flag is none of this queue"),
                Err(error) => self.odd(&error.to_string()),
            }
        };
        if done {
            delivery.ack();
        } else {
            delivery.give_back();
        }
    }

    /// Waits until all flags of the gate are down; false when it must not be passed by us.
    async fn wait(&self, delivery: &Delivery, gate: &Gate, stopping: &CancellationToken) -> bool {
        let (queue, begun) = (self.queue.as_str(), Instant::now());
        let mut warned = false;
        for flag in gate.flags.iter().filter(|flag| self.queue.has_flag(flag)) {
            loop {
                match self.flags.is_up(flag).await {
                    Ok(false) => break,
                    Ok(true) => {}
                    Err(error) => warn!(queue, flag, "cannot see whether a flag is up, looking again: {error}"),
                }
                if begun.elapsed() > LONG && !warned {
                    warned = true;
                    warn!(
                        queue,
                        flag,
                        "a shard waits until others have done what was there before it; if `leveret queues reshard` \
                         was ended half way, run it again"
                    );
                }
                tokio::select! {
                    () = stopping.cancelled() => return false,
                    () = sleep(LOOK) => {}
                }
                if delivery.is_stale() {
                    return false;
                }
            }
        }
        info!(queue, waited_ms = begun.elapsed().as_millis() as u64, "a shard goes on");
        true
    }

    async fn lower(&self, delivery: &Delivery, barrier: &Barrier, stopping: &CancellationToken) -> bool {
        delivery.others_settled().await;
        while !delivery.is_stale() {
            match self.flags.lower(&barrier.flag).await {
                Ok(()) => {
                    debug!(queue = self.queue.as_str(), flag = barrier.flag, "all before a barrier is done");
                    return true;
                }
                Err(error) => {
                    let (queue, flag) = (self.queue.as_str(), &barrier.flag);
                    warn!(queue, flag, "cannot lower the flag of a barrier, trying again: {error}");
                }
            }
            tokio::select! {
                () = stopping.cancelled() => return false,
                () = sleep(LOOK) => {}
            }
        }
        false
    }

    /// Not one of ours: it stands in the way of nothing.
    fn odd(&self, why: &str) -> bool {
        warn!(queue = self.queue.as_str(), "a gate or barrier that nobody can read is passed over: {why}");
        true
    }
}
