//! Listening, with and without TLS.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::{Api, events::Feed, router, secret, tls::Tls};
use crate::centre::{
    database::DatabaseError,
    store::{ALL_NAMESPACES, Role, Token},
};

pub use super::tls::TlsFiles;

/// How long a client has for the head of a request, and for the greetings of TLS.
const HEAD: Duration = Duration::from_secs(15);
/// How long requests that are under way may take once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How often what is kept for a time is looked through.
const TIDY: Duration = Duration::from_secs(3_600);
/// A token from the settings that is shorter could be guessed.
const SHORTEST: usize = 32;
/// The id of the token from the settings.
const SETTINGS: &str = "settings";

/// Where to listen, and who may enter first.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The address. Default `127.0.0.1:7070`.
    pub listen: String,
    /// Certificate and key. Default: none, which is HTTP without TLS.
    pub tls: Option<TlsFiles>,
    /// A token for an admin of everything, at least 32 characters. Default: none, and the first start makes one.
    pub admin_token: Option<String>,
    /// Connections at once; more have to wait. Default 4,096.
    pub connections: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:7070".to_owned(), tls: None, admin_token: None, connections: 4_096 }
    }
}

/// Serves the interface.
#[derive(Debug)]
pub struct Server;

/// A server that listens. Dropped, it goes on; it ends with its runtime or by [`RunningServer::stop`].
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    scheme: &'static str,
    first_token: Option<String>,
    stop: CancellationToken,
    listening: JoinHandle<()>,
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is taken or wrong.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: String,
        /// What failed.
        source: io::Error,
    },
    /// Without authentication it listens on loopback only.
    #[error("without authentication there is no listening on {address}: use 127.0.0.1, ::1 or localhost")]
    Insecure {
        /// The address.
        address: SocketAddr,
    },
    /// Certificate or key cannot be read.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The token of the settings could be guessed.
    #[error("the admin token of the settings has under {SHORTEST} characters: use those of `openssl rand -base64 32`")]
    WeakToken,
    /// No randomness for a token.
    #[error("the system has no random numbers for a token")]
    Random,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Server {
    /// Listens, and serves until told to stop.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn start(api: Api, settings: ServerSettings) -> Result<RunningServer, ServerError> {
        let bind = |source| ServerError::Bind { address: settings.listen.clone(), source };
        let tls = settings.tls.clone().map(Tls::read).transpose().map_err(ServerError::Tls)?.map(Arc::new);
        let listener = TcpListener::bind(&settings.listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        if api.settings.insecure_loopback && !address.ip().is_loopback() {
            return Err(ServerError::Insecure { address });
        }
        if tls.is_none() && !address.ip().is_loopback() {
            warn!(
                "tokens go over the network in the clear: set a certificate and its key, or listen on 127.0.0.1 behind a proxy"
            );
        }
        let first_token = admit(&api, &settings).await?;
        let stop = api.closing.clone();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let connections = Arc::new(Semaphore::new(settings.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let (tidy, feed) = (tidy(api.clone()), Feed::run(api.clone()));
        let listening = Listening { listener, tls, router: router(api), connections, stop: stop.clone() };
        let listening = tokio::spawn(async move {
            tokio::select! {
                () = listening.run() => {}
                () = tidy => {}
                () = feed => {}
            }
        });
        Ok(RunningServer { address, scheme, first_token, stop, listening })
    }
}

impl RunningServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL, without a path.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The token that was made at the first start, to be shown once: only its hash is kept.
    pub fn first_token(&self) -> Option<&str> {
        self.first_token.as_deref()
    }

    /// Takes no more connections, and waits up to 5 s for the requests that are under way.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.listening.await {
            warn!("the server ended: {error}");
        }
    }
}

/// Sees to it that somebody may enter: the token that had to be made for that, if one had to.
async fn admit(api: &Api, settings: &ServerSettings) -> Result<Option<String>, ServerError> {
    if let Some(given) = &settings.admin_token {
        if given.len() < SHORTEST {
            return Err(ServerError::WeakToken);
        }
        // Another one than last time takes its place.
        let mut transaction = api.store.database().begin().await?;
        api.store.remove_token(&mut transaction, SETTINGS).await?;
        let token = Token {
            id: SETTINGS.to_owned(),
            name: "from the settings".to_owned(),
            role: Role::Admin,
            namespace: ALL_NAMESPACES.to_owned(),
            created_by: "centre".to_owned(),
            created_at: api.store.clock().now(),
            expires_at: None,
            last_used_at: None,
        };
        api.store.add_token(&mut transaction, &token, given).await?;
        transaction.commit().await?;
        return Ok(None);
    }
    if api.settings.insecure_loopback {
        return Ok(None);
    }
    let secret = secret::generate().ok_or(ServerError::Random)?;
    Ok(api.store.add_first_token(&secret).await?.then_some(secret))
}

/// Forgets what was kept for a time.
async fn tidy(api: Api) {
    let mut hours = tokio::time::interval(TIDY);
    loop {
        hours.tick().await;
        if let Err(error) = api.store.forget_answers().await {
            warn!("cannot tidy up: {error}");
        }
    }
}

struct Listening {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    connections: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Listening {
    async fn run(self) {
        let under_way = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = self.accept() => accepted,
            };
            let Some((stream, address, permit)) = accepted else { continue };
            let (tls, router, stop) = (self.tls.clone(), self.router.clone(), self.stop.clone());
            under_way.spawn(async move {
                let served = match tls {
                    None => serve(stream, address, router, stop).await,
                    Some(tls) => match tokio::time::timeout(HEAD, tls.acceptor().accept(stream)).await {
                        Ok(Ok(stream)) => serve(stream, address, router, stop).await,
                        Ok(Err(error)) => Err(error.into()),
                        Err(_) => Err("no greeting came".into()),
                    },
                };
                if let Err(error) = served {
                    debug!("a connection from {address} ended: {error}");
                }
                drop(permit);
            });
        }
        under_way.close();
        if tokio::time::timeout(DRAIN, under_way.wait()).await.is_err() {
            warn!("{} connections were cut off", under_way.len());
        }
    }

    async fn accept(&self) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let permit = self.connections.clone().acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, address)) => {
                // Small answers are not held back.
                let _ = stream.set_nodelay(true);
                Some((stream, address, permit))
            }
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                // Out of file descriptors, for one: it will take a moment.
                tokio::time::sleep(Duration::from_millis(100)).await;
                None
            }
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    router: Router,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        request.map(axum::body::Body::new)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return Ok(served?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}
