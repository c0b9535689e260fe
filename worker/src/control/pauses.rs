//! Which queues are paused here: because this worker was told so, or because they are paused everywhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use leveret_common::{
    control::{Pause, PauseError, PauseFlags},
    link::{Attachment, ChannelPool},
    topology::QueueName,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Controlled;

/// How long to wait before the broker is asked again for what it did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Which of these queues are paused everywhere, asked before a worker subscribes to any. It asks again until the broker
/// has answered: a queue that is paused must not be worked on for a moment. A user who may not ask takes none to be
/// paused. A broker that takes no publishes is asked through `asking`, which may be the channels that declare queues.
pub async fn paused_at_start(
    flags: &PauseFlags,
    asking: &ChannelPool,
    queues: &[QueueName],
) -> BTreeMap<QueueName, Pause> {
    let mut said = false;
    loop {
        match flags.look_at(queues).await {
            Ok(paused) => return paused,
            Err(error @ PauseError::Forbidden { .. }) => {
                warn!("taking no queue to be paused everywhere: {error}");
                return BTreeMap::new();
            }
            Err(error) => {
                if flags.is_blocked()
                    && let Ok(paused) = PauseFlags::look_on(asking, queues).await
                {
                    return paused;
                }
                if !std::mem::replace(&mut said, true) {
                    warn!("waiting to know which queues are paused: {error}");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// What holds a queue.
#[derive(Clone, Debug, Default)]
struct Held {
    here: Option<Pause>,
    everywhere: Option<Pause>,
}

impl Held {
    fn effective(&self) -> Option<&Pause> {
        self.everywhere.as_ref().or(self.here.as_ref())
    }
}

/// Keeps the pauses of a worker, and tells it when one begins or ends.
#[derive(Debug)]
pub(super) struct Pauses<C> {
    controlled: Arc<C>,
    flags: PauseFlags,
    queues: BTreeSet<QueueName>,
    held: Mutex<BTreeMap<QueueName, Held>>,
    /// Held while the worker is told, so that two who look do not tell it different things.
    telling: tokio::sync::Mutex<()>,
}

impl<C: Controlled> Pauses<C> {
    /// `paused` are those that the worker has started without.
    pub(super) fn new(
        controlled: Arc<C>,
        flags: PauseFlags,
        queues: impl IntoIterator<Item = QueueName>,
        paused: BTreeMap<QueueName, Pause>,
    ) -> Self {
        let held = |(queue, pause)| (queue, Held { here: None, everywhere: Some(pause) });
        Self {
            controlled,
            flags,
            queues: queues.into_iter().collect(),
            held: Mutex::new(paused.into_iter().map(held).collect()),
            telling: tokio::sync::Mutex::default(),
        }
    }

    /// Why a queue is paused, if it is.
    pub(super) fn of(&self, queue: &QueueName) -> Option<Pause> {
        self.held.lock().get(queue)?.effective().cloned()
    }

    /// Whether the worker consumes from a queue.
    pub(super) fn knows(&self, queue: &QueueName) -> bool {
        self.queues.contains(queue)
    }

    /// Pauses a queue at this worker, or ends that with `None`. The pause that holds then.
    pub(super) async fn hold(&self, queue: &QueueName, pause: Option<Pause>) -> Result<Option<Pause>, String> {
        self.change(queue, |held| held.here = pause).await
    }

    /// Looks whether a queue is paused everywhere. `told` is why it is, if it is, where somebody has said so. The pause that
    /// holds then.
    pub(super) async fn look(&self, queue: &QueueName, told: Option<Pause>) -> Result<Option<Pause>, String> {
        let told = told.map(|told| Pause::everywhere(told.reason, told.by, told.since.unwrap_or_default()));
        let known = told.or_else(|| self.held.lock().get(queue)?.everywhere.clone());
        // Why is read once, and again if it could not be read before.
        let known = known.as_ref().filter(|known| known.since.is_some());
        let found = self.flags.look(queue, known).await.map_err(|error| error.to_string())?;
        self.change(queue, |held| held.everywhere = found).await
    }

    async fn change(&self, queue: &QueueName, change: impl FnOnce(&mut Held)) -> Result<Option<Pause>, String> {
        let _telling = self.telling.lock().await;
        let before = self.held.lock().get(queue).cloned().unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        match (before.effective(), after.effective()) {
            (None, Some(pause)) => {
                self.controlled.pause(queue, pause).await?;
                info!(queue = queue.as_str(), "{pause}");
            }
            (Some(_), None) => {
                self.controlled.resume(queue).await?;
                info!(queue = queue.as_str(), "resumed");
            }
            _ => {}
        }
        let holds = after.effective().cloned();
        self.held.lock().insert(queue.clone(), after);
        Ok(holds)
    }

    /// Looks at every queue now and then, in case a command got lost, and whenever commands have begun to come in, for
    /// some may have been sent before.
    pub(super) async fn watch(
        self: Arc<Self>,
        every: Duration,
        mut listening: watch::Receiver<Attachment>,
        stop: CancellationToken,
    ) {
        // The first look was before the start; jitter keeps the workers of a site apart.
        let mut pause = every;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                changed = listening.changed() => match changed {
                    Ok(()) if *listening.borrow_and_update() == Attachment::Attached => {}
                    Ok(()) => continue,
                    // The listener is gone, and with it this worker.
                    Err(_) => return,
                }
            }
            pause = every.mul_f64(0.75 + fastrand::f64() / 2.0);
            for queue in &self.queues {
                if let Err(error) = self.look(queue, None).await {
                    warn!(queue = queue.as_str(), "cannot tell whether it is paused everywhere: {error}");
                }
            }
        }
    }
}
