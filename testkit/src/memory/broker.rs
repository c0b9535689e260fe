//! The handle of a broker in memory.

use std::{net, sync::Arc, time::Duration};

use leveret_common::{
    client::Client,
    clock::{Clock, UnixMillis},
    config::BrokerSettings,
    link::{self, ChannelPool, Link, Role},
    task::Task,
    topology::{QueueName, QueueSettings, Topology, declare},
};
use leveret_worker::builder::WorkerBuilder;
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Shared, TestWorker, report::Report, session, state::State};

/// A broker in the memory of the test, with a clock that stands still until [`advance`](Self::advance) moves it.
///
/// It begins empty: workers and clients declare what they need, as they do at RabbitMQ. Cheap to clone; with the last clone its connections and all that is in it are gone.
#[derive(Clone, Debug)]
pub struct MemoryBroker {
    pub(super) shared: Arc<Shared>,
    url: Arc<str>,
    clock: Clock,
    _end: Arc<DropGuard>,
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBroker {
    /// A broker whose clock stands at the present second.
    ///
    /// # Panics
    /// If this machine has no port to give on 127.0.0.1.
    #[must_use]
    pub fn new() -> Self {
        let now = Clock::system().now().0;
        Self::at(UnixMillis(now - now.rem_euclid(1_000)))
    }

    /// A broker whose clock stands at `moment`.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub fn at(moment: UnixMillis) -> Self {
        Self::with_clock(Clock::held(moment))
    }

    /// A broker with this clock: held, or the system's.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        let (socket, port) = listen().unwrap_or_else(|error| panic!("no port for a memory broker: {error}"));
        let changed = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(clock.clone(), changed.clone())),
            changed,
            cut: Mutex::new(CancellationToken::new()),
        });
        let end = CancellationToken::new();
        // On the link's own runtime, so that it goes on whatever the test's runtime does.
        let accepting = accept(socket, shared.clone());
        let expiring = expire(shared.clone(), clock.clone());
        let ended = end.clone();
        link::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = accepting => {}
                () = expiring => {}
            }
        });
        let cutting = (end.clone(), shared.clone());
        link::spawn(async move {
            cutting.0.cancelled().await;
            cutting.1.cut.lock().cancel();
        });
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f").into();
        Self { shared, url, clock, _end: Arc::new(end.drop_guard()) }
    }

    /// The AMQP URL, for a client of any make.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Settings that lead here.
    #[must_use]
    pub fn settings(&self) -> BrokerSettings {
        BrokerSettings::new(&self.url).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The clock of the broker, its clients and its workers.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Moves the clock, and with it what has waited in a tier for its time. A worker that a test drives step by step
    /// runs it when it is asked to: see [`TestWorker::run_due`].
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
        drop(self.shared.state());
    }

    /// A client that publishes here, connected, and the exchanges declared. It is a [`Client`] like any other.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn client(&self) -> Client {
        let client = Client::open(self.settings(), self.clock()).unwrap_or_else(|error| panic!("{error}"));
        let exchanges = Topology::new(&client.link().settings().namespace);
        let applied = client.apply(&exchanges.unwrap_or_else(|error| panic!("{error}"))).await;
        applied.unwrap_or_else(|error| panic!("{error}"));
        client
    }

    /// Declares the exchanges and queues of `topology`, as `leveret topology apply` does.
    ///
    /// # Panics
    /// If one is there with other arguments.
    pub async fn apply(&self, topology: &Topology) {
        let link = Link::open(Arc::new(self.settings()), Role::Admin);
        let declared = declare(&ChannelPool::new(link.clone()), topology).await;
        link.close().await;
        declared.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Declares the queue that tasks of type `T` are published to, with the default settings of a queue. For tests of
    /// what is published, which have no worker to declare it.
    ///
    /// # Panics
    /// If it is there with other arguments, or its name breaks the rules of names.
    pub async fn declare<T: Task>(&self) {
        let topology = Topology::new(&self.settings().namespace)
            .and_then(|topology| Ok(topology.queue(QueueName::new(T::DEFAULTS.queue)?, QueueSettings::default())));
        self.apply(&topology.unwrap_or_else(|error| panic!("{error}"))).await;
    }

    /// Starts a worker that runs tasks only when it is asked to. It is the real one, built for
    /// [`settings`](Self::settings); its clock is set to the broker's.
    ///
    /// # Panics
    /// If it cannot be built or started, or is for another broker.
    pub async fn worker(&self, builder: WorkerBuilder) -> TestWorker {
        TestWorker::start(self.clone(), builder).await
    }

    /// Starts a worker, lets it run what is due now to its end, and stops it.
    ///
    /// # Panics
    /// As [`worker`](Self::worker) and [`TestWorker::run_due`].
    pub async fn work_once(&self, builder: WorkerBuilder) -> Report {
        let mut worker = self.worker(builder).await;
        let report = worker.run_due().await;
        worker.stop().await;
        report
    }

    /// Cuts all connections, as a network does. What workers had in hand goes back to its queue, and counts towards the
    /// delivery limit; clients and workers connect again by themselves.
    pub fn disconnect(&self) {
        let before = std::mem::take(&mut *self.shared.cut.lock());
        before.cancel();
        self.shared.state().close_connections();
    }
}

fn listen() -> std::io::Result<(net::TcpListener, u16)> {
    let socket = net::TcpListener::bind(("127.0.0.1", 0))?;
    socket.set_nonblocking(true)?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

async fn accept(socket: net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(socket) else { return };
    let mut connections = 0;
    while let Ok((socket, _)) = listener.accept().await {
        connections += 1;
        let cut = shared.cut.lock().child_token();
        tokio::spawn(session::serve(shared.clone(), socket, connections, cut));
    }
}

/// Moves on what has been in its queue for as long as it may, as the clock goes.
async fn expire(shared: Arc<Shared>, clock: Clock) {
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let next = shared.state().next_expiry();
        match next {
            None => changed.await,
            Some(at) => tokio::select! {
                () = changed => {}
                () = clock.sleep_until(at) => {}
            },
        }
    }
}
