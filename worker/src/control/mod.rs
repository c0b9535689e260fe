//! The worker's ear and mouth: it hears commands, carries them out, and tells the world how it is.
//!
//! [`ControlPlane::start`] takes what is [`Controlled`], a running worker. Everything here runs on the runtime of the
//! link, never behind handlers: a worker whose runners are all busy still hears.

mod announcer;
mod carry_out;
mod controlled;
mod pauses;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use leveret_common::{
    clock::Clock,
    control::{Pause, PauseFlags},
    link::{Attachment, Link, Listener, ListenerSettings, Publisher, spawn},
    registry::DEFAULT_BEAT,
    topology::{Names, QueueName},
    wire::TooLong,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use announcer::{Liveness, Who};
pub use controlled::{Controlled, QueueReport, Revoked, Which};
pub use pauses::paused_at_start;

use announcer::Announcer;
use carry_out::Executor;
use pauses::Pauses;

/// Commands that may wait for the worker at the broker, and for how long.
const ROOM: u32 = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// How a worker is steered and announced.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ControlSettings {
    /// How often it beats; it counts as lost after three. Default 2 s.
    pub beat: Duration,
    /// How often it looks which queues are paused everywhere, in case it was not told. Default 10 s.
    pub look: Duration,
    /// How long a queue may be without a subscription, while the connection is up, before the worker counts as deaf.
    /// Default 5 min.
    pub deaf_after: Duration,
    /// Changes what is logged. Without it the command to do so is refused.
    pub log: Option<LogControl>,
}

impl Default for ControlSettings {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { beat: DEFAULT_BEAT, look: Duration::from_secs(10), deaf_after: 5 * minute, log: None }
    }
}

impl ControlSettings {
    /// Sets what changes the log.
    #[must_use]
    pub fn log(mut self, log: LogControl) -> Self {
        self.log = Some(log);
        self
    }

    /// Sets how often it beats.
    #[must_use]
    pub fn beat(mut self, beat: Duration) -> Self {
        self.beat = beat;
        self
    }
}

type SetLog = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// Changes what is logged. An error says what is wrong with the filter.
#[derive(Clone)]
pub struct LogControl(Arc<SetLog>);

impl LogControl {
    /// By calling this.
    pub fn new(set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(set))
    }

    fn set(&self, filter: &str) -> Result<(), String> {
        (self.0)(filter)
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogControl")
    }
}

/// The connections that the control plane uses.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The worker's connection for consuming: commands come in on it.
    pub consume: Link,
    /// The worker's publisher: replies and beats go out by it.
    pub publisher: Publisher,
    /// Flags by way of the worker's connection for publishing.
    pub flags: PauseFlags,
}

/// A control plane at work. Dropped without [`stop`](Self::stop), it ends without a goodbye.
#[derive(Debug)]
pub struct ControlPlane {
    listener: Listener,
    liveness: Liveness,
    stop: CancellationToken,
    announcing: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Begins to listen and to beat. `paused` is what [`paused_at_start`] found: these queues the worker has not
    /// subscribed to.
    ///
    /// # Errors
    /// [`TooLong`] when the worker's name does not fit into a routing key.
    pub fn start<C: Controlled>(
        controlled: Arc<C>,
        who: Who,
        lines: Lines,
        names: &Names,
        paused: BTreeMap<QueueName, Pause>,
        settings: ControlSettings,
        clock: Clock,
    ) -> Result<Self, TooLong> {
        let queues: Vec<_> = controlled.queues().into_iter().map(|report| report.queue).collect();
        let listening = ListenerSettings {
            queue: names.worker(&who.instance.to_string()),
            bindings: bindings(&who, &queues, names),
            // A command that waits for another waits at the broker, where it expires in time.
            prefetch: 1,
            room: ROOM,
            patience: PATIENCE,
        };
        let pauses = Arc::new(Pauses::new(controlled.clone(), lines.flags, queues, paused));
        let watched = Arc::default();
        let announcer = Arc::new(Announcer {
            who,
            controlled,
            pauses: pauses.clone(),
            names: names.clone(),
            publisher: lines.publisher,
            consume: lines.consume.clone(),
            clock,
            every: settings.beat,
            news: Notify::new(),
            watched: Arc::clone(&watched),
        });
        let replies = Arc::new(Semaphore::new(carry_out::REPLIES));
        let executor = Arc::new(Executor { announcer: announcer.clone(), log: settings.log, replies });
        let listener = Listener::start(lines.consume, listening, move |message| {
            let executor = executor.clone();
            async move { executor.hear(message).await }
        })?;
        let stop = CancellationToken::new();
        spawn(pauses.watch(settings.look, listener.attached(), stop.clone()));
        let announcing = spawn({
            let stop = stop.clone();
            async move { announcer.run(stop).await }
        });
        let liveness = Liveness { watched, deaf_after: settings.deaf_after };
        Ok(Self { listener, liveness, stop, announcing: Some(announcing) })
    }

    /// Whether commands come in, and what stands in the way.
    pub fn listening(&self) -> watch::Receiver<Attachment> {
        self.listener.attached()
    }

    /// What a liveness probe should ask.
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Says goodbye and listens no more. Call it when the tasks have ended and before the publisher is closed.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.listener.close();
        if let Some(announcing) = self.announcing.take() {
            // Its only other end is a panic.
            let _ = announcing.await;
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(announcing) = self.announcing.take() {
            announcing.abort();
            self.stop.cancel();
        }
    }
}

fn bindings(who: &Who, queues: &[QueueName], names: &Names) -> Vec<(String, String)> {
    use leveret_common::control::Target;
    let targets = [Target::All, Target::Worker(who.name.clone()), Target::Instance(who.instance)];
    let targets = targets.into_iter().chain(queues.iter().cloned().map(Target::Queue));
    targets.map(|target| (names.control().to_owned(), target.routing_key())).collect()
}
