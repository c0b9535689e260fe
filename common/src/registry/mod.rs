//! Which workers there are: they announce themselves on `<namespace>.events`, beat, and say goodbye.
//!
//! A worker that beats is alive in the sense that matters: each beat says of each queue whether the broker delivers from
//! it to this worker. While the broker has blocked publishing, for want of memory or disk, no beats get through, and
//! everyone appears to be lost.

mod announcement;
mod roll;

use std::{sync::Arc, time::Duration};

use lapin::BasicProperties;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use announcement::{
    About, Announcement, Beat, DEFAULT_BEAT, Instance, InvalidInstance, QueueState, TaskAbout, WorkerState,
};
pub use roll::{Change, Peer, Presence, Workers};

use crate::{
    clock::Clock,
    config::BrokerSettings,
    control::{Answer, Command, Control, ControlError, Outcome, Target},
    link::{Attachment, ChannelPool, ConnectError, Heard, Link, Listener, ListenerSettings, Role, spawn},
    topology::{Names, Topology, TopologyError, declare},
    wire::{JSON, Outgoing, TooLong, short},
};
use roll::{Notice, Roll};

/// The largest announcement that is read, in bytes.
const LARGEST: usize = 4 << 20;
/// How long workers have to answer the question who they are.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a worker tells everyone about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It has started; the body is an [`Announcement`].
    Online,
    /// It is still there; the body is a [`Beat`].
    Beat,
    /// It is about to end; the body is a [`Goodbye`].
    Offline,
}

impl Word {
    /// The routing key at `<namespace>.events`.
    pub const fn routing_key(self) -> &'static str {
        match self {
            Self::Online => "worker.online",
            Self::Beat => "worker.beat",
            Self::Offline => "worker.offline",
        }
    }

    /// The message to publish. Nobody need be listening.
    ///
    /// # Errors
    /// [`TooLong`] when a name does not fit.
    pub fn message(self, names: &Names, body: &impl Serialize, lifetime: Duration) -> Result<Outgoing, TooLong> {
        event(names, self.routing_key(), serde_json::to_vec(body).unwrap_or_default(), Some(lifetime))
    }
}

/// An event as a message; what nobody wants to hear is dropped by the broker.
pub(crate) fn event(
    names: &Names,
    routing_key: &str,
    body: Vec<u8>,
    lifetime: Option<Duration>,
) -> Result<Outgoing, TooLong> {
    let mut properties = BasicProperties::default()
        .with_content_type(short("content type", JSON)?)
        .with_type(short("type", routing_key)?)
        .with_delivery_mode(1);
    if let Some(lifetime) = lifetime {
        properties = properties.with_expiration(short("expiration", &lifetime.as_millis().max(1).to_string())?);
    }
    Ok(Outgoing {
        exchange: short("exchange", names.events())?,
        routing_key: short("routing key", routing_key)?,
        mandatory: false,
        properties,
        body: body.into(),
    })
}

/// The last words of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Its name.
    pub worker: String,
    /// Its instance.
    pub instance: Instance,
}

/// Follows which workers are alive. Cheap to clone; ends with its last clone.
#[derive(Clone, Debug)]
pub struct Registry {
    workers: watch::Receiver<Arc<Workers>>,
    changes: broadcast::Sender<Change>,
    listening: watch::Receiver<Attachment>,
    _owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner(CancellationToken);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Registry {
    /// Connects, declares the exchanges if they are not there, and begins to listen.
    ///
    /// # Errors
    /// [`RegistryError`] when no broker answers within [`BrokerSettings::timeout`], or it refuses.
    pub async fn connect(settings: BrokerSettings) -> Result<Self, RegistryError> {
        settings.check()?;
        let patience = settings.timeout;
        let link = Link::open(Arc::new(settings), Role::Admin);
        link.live_within(patience).await?;
        let topology = Topology::new(&link.settings().namespace).map_err(TopologyError::from)?;
        declare(&ChannelPool::new(link.clone()), &topology).await?;
        Self::on(link, Clock::system())
    }

    /// Begins to listen on a connection that is there, through an exclusive queue, and asks every worker who it is. A user
    /// who may not ask, for want of the permission to steer, hears of the workers' hosts and tasks only when they start.
    ///
    /// # Errors
    /// [`RegistryError`] when a name does not fit.
    pub fn on(link: Link, clock: Clock) -> Result<Self, RegistryError> {
        let control = Control::on(link.clone()).map_err(TopologyError::from)?;
        let names = Names::new(&link.settings().namespace).map_err(TopologyError::from)?;
        let (inbox, notices) = mpsc::channel(1024);
        let settings = ListenerSettings {
            queue: names.registry(&Instance::new().to_string()),
            bindings: vec![(names.events().to_owned(), "worker.*".to_owned())],
            prefetch: 256,
            room: 100_000,
            patience: Duration::from_secs(60),
        };
        let heard = inbox.clone();
        let listener = Listener::start(link, settings, move |message| {
            let (heard, notice) = (heard.clone(), read(&message));
            async move {
                if let Some(notice) = notice {
                    let _ = heard.send(notice).await;
                }
            }
        })?;
        let (publish, workers) = watch::channel(Arc::default());
        let (changes, _) = broadcast::channel(1024);
        let stop = CancellationToken::new();
        let listening = listener.attached();
        let keeper =
            Keeper { listener, control, clock, roll: Roll::default(), inbox, publish, changes: changes.clone() };
        spawn(keeper.run(notices, stop.clone()));
        Ok(Self { workers, changes, listening, _owner: Arc::new(Owner(stop)) })
    }

    /// The workers at this moment.
    pub fn workers(&self) -> Arc<Workers> {
        self.workers.borrow().clone()
    }

    /// Follows the workers: a new value after each change, and beats are changes.
    pub fn follow(&self) -> watch::Receiver<Arc<Workers>> {
        self.workers.clone()
    }

    /// Every single change from now on. Who reads too slowly loses the oldest, and is told so.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Follows whether the broker delivers to the registry. While it does not, nobody is declared lost.
    pub fn listening(&self) -> watch::Receiver<Attachment> {
        self.listening.clone()
    }
}

struct Keeper {
    listener: Listener,
    control: Control,
    clock: Clock,
    roll: Roll,
    inbox: mpsc::Sender<Notice>,
    publish: watch::Sender<Arc<Workers>>,
    changes: broadcast::Sender<Change>,
}

impl Keeper {
    async fn run(mut self, mut notices: mpsc::Receiver<Notice>, stop: CancellationToken) {
        let mut attached = self.listener.attached();
        let mut hears = false;
        let mut taken = Vec::new();
        loop {
            let clock = self.clock.clone();
            let deadline = self.roll.next_deadline();
            let lost = async move {
                match deadline {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = attached.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // It may have been away and be back already.
                    hears = *attached.borrow_and_update() == Attachment::Attached;
                    if hears {
                        self.roll.hear_again(self.clock.now());
                        self.ask(Target::All);
                    }
                }
                _ = notices.recv_many(&mut taken, 256) => {
                    for notice in taken.drain(..) {
                        if let Some(unannounced) = self.roll.note(notice, self.clock.now()) {
                            self.ask(Target::Instance(unannounced));
                        }
                    }
                }
                () = lost, if hears => {
                    // Who cannot hear declares nobody lost.
                    if !attached.has_changed().unwrap_or(true) {
                        self.roll.look(self.clock.now());
                    }
                }
            }
            let changes = self.roll.take_changes();
            if !changes.is_empty() {
                self.publish.send_replace(Arc::new(self.roll.workers().clone()));
                for change in changes {
                    // Nobody need be following.
                    let _ = self.changes.send(change);
                }
            }
        }
    }

    /// Asks workers who they are; the answers come like everything else.
    fn ask(&self, target: Target) {
        let (control, inbox) = (self.control.clone(), self.inbox.clone());
        spawn(async move {
            let mut replies = match control.begin(&target, &Command::Announce {}, PATIENCE).await {
                Ok(replies) => replies,
                Err(ControlError::Nobody { .. } | ControlError::NoExchange { .. }) => return,
                Err(error) => return debug!("cannot ask the workers who they are: {error}"),
            };
            while let Some(reply) = replies.next().await {
                if let Outcome::Answer(Answer::Announcement(announcement)) = reply.outcome
                    && inbox.send(Notice::Announcement(announcement)).await.is_err()
                {
                    return;
                }
            }
        });
    }
}

fn read(message: &Heard) -> Option<Notice> {
    fn json<T: DeserializeOwned>(message: &Heard) -> Option<T> {
        if message.body.len() > LARGEST {
            return None;
        }
        let read = serde_json::from_slice(&message.body);
        read.inspect_err(|error| debug!(key = message.routing_key, "cannot read what a worker says: {error}")).ok()
    }
    match message.routing_key.as_str() {
        "worker.online" => json(message).map(Notice::Announcement),
        "worker.beat" => json(message).map(Notice::Beat),
        "worker.offline" => json(message).map(|goodbye: Goodbye| Notice::Offline(goodbye.instance)),
        _ => None,
    }
}

/// The registry could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A setting cannot work.
    #[error(transparent)]
    Settings(#[from] crate::config::InvalidSetting),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The exchanges could not be declared.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A name does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}
