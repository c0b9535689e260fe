//! A relay in front of the broker that fails on command.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Chunks in flight each way before the relay stops reading, as a network's buffers would.
const CHUNKS_HELD: usize = 256;

/// Which way bytes flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client: the broker hears nothing more.
    ToBroker,
    /// From the broker: it hears and acts, the client does not learn of it.
    FromBroker,
    /// Both: the network is a black hole, and nobody is told.
    Both,
}

#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    refuse: bool,
    stalled: Option<Direction>,
    delay: Duration,
}

impl Faults {
    fn holds(&self, direction: Direction) -> bool {
        self.stalled.is_some_and(|stalled| stalled == direction || stalled == Direction::Both)
    }
}

#[derive(Debug)]
struct Shared {
    target: (String, u16),
    faults: watch::Sender<Faults>,
    /// Cancelled and replaced by every cut.
    cut: Mutex<CancellationToken>,
    open: AtomicUsize,
    accepted: AtomicUsize,
}

/// A TCP relay on a port of its own, on this machine, in front of a broker. It ends when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    url: String,
    life: CancellationToken,
}

impl FaultProxy {
    /// A relay to the broker at this AMQP URL, without any fault yet.
    ///
    /// # Panics
    /// If the URL names no host, or no port can be had.
    pub async fn to(url: &str) -> Self {
        let mut through = Url::parse(url).unwrap_or_else(|error| panic!("'{url}' is no AMQP URL: {error}"));
        let host = through.host_str().unwrap_or_else(|| panic!("'{url}' names no host")).to_owned();
        let target = (host, through.port().unwrap_or(5672));
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await;
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no local address: {error}"));
        let replaced = through.set_host(Some("127.0.0.1")).is_ok() && through.set_port(Some(address.port())).is_ok();
        assert!(replaced, "'{url}' cannot be pointed at another host");
        let shared = Arc::new(Shared {
            target,
            faults: watch::Sender::default(),
            cut: Mutex::default(),
            open: AtomicUsize::default(),
            accepted: AtomicUsize::default(),
        });
        let life = CancellationToken::new();
        tokio::spawn(life.clone().run_until_cancelled_owned(serve(Arc::clone(&shared), listener, address)));
        Self { shared, url: through.to_string(), life }
    }

    /// The AMQP URL that leads through the relay; user and virtual host are those of the broker's.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends every connection now. New ones are welcome.
    pub fn cut(&self) {
        std::mem::take(&mut *self.shared.cut.lock()).cancel();
    }

    /// Ends every connection and refuses new ones until [`resume`](Self::resume).
    pub fn refuse(&self) {
        self.shared.faults.send_modify(|faults| faults.refuse = true);
        self.cut();
    }

    /// Takes bytes and keeps them until [`resume`](Self::resume): connections stay open, and nothing arrives.
    pub fn stall(&self, direction: Direction) {
        self.shared.faults.send_modify(|faults| faults.stalled = Some(direction));
    }

    /// Makes every byte take this long, each way, until [`resume`](Self::resume).
    pub fn delay(&self, delay: Duration) {
        self.shared.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Ends all faults. What was held is passed on.
    pub fn resume(&self) {
        self.shared.faults.send_replace(Faults::default());
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Connections accepted since the relay began: one more after a client has come back.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.life.cancel();
        self.cut();
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    // The port was ours a moment ago; connections of that time may hold it for as long as they take to end.
    for _ in 0..100 {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("port {} cannot be had", address.port())
}

async fn serve(shared: Arc<Shared>, mut listener: TcpListener, address: SocketAddr) {
    let mut faults = shared.faults.subscribe();
    loop {
        if faults.borrow_and_update().refuse {
            drop(listener);
            if faults.wait_for(|faults| !faults.refuse).await.is_err() {
                return;
            }
            listener = listen(address).await;
        }
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return },
            Ok((client, _)) = listener.accept() => {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let cut = shared.cut.lock().clone();
                tokio::spawn(cut.run_until_cancelled_owned(relay(Arc::clone(&shared), client)));
            }
        }
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn relay(shared: Arc<Shared>, client: TcpStream) {
    shared.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(shared);
    let (host, port) = &open.0.target;
    // A broker that is down is told to the client by the end of its connection.
    let Ok(broker) = TcpStream::connect((host.as_str(), *port)).await else { return };
    // Small frames must not wait for each other: the relay is to add only the latency it is told to.
    if client.set_nodelay(true).is_err() || broker.set_nodelay(true).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let faults = || open.0.faults.subscribe();
    tokio::join!(
        pump(from_client, to_broker, Direction::ToBroker, faults()),
        pump(from_broker, to_client, Direction::FromBroker, faults()),
    );
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    mut faults: watch::Receiver<Faults>,
) {
    let (sender, mut held) = mpsc::channel(CHUNKS_HELD);
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if sender.send((Instant::now(), buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((arrived, bytes)) = held.recv().await {
            let Ok(delay) = faults.wait_for(|faults| !faults.holds(direction)).await.map(|faults| faults.delay) else {
                return;
            };
            sleep_until(arrived + delay).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    };
    tokio::join!(read, write);
}
