//! One connection to the broker that is made again whenever it is lost.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{Channel, ConnectionProperties, Event, types::ShortString};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Capabilities, ConnectError, error::reason, error::reply_code, runtime, socket, socket::Line, tls};
use crate::{
    config::{BrokerSettings, BrokerUrl},
    metrics::{Instruments, LinkMetrics},
};

/// What a connection is for. Publishing and consuming have one each: a broker that is short of memory stops
/// reading from connections that publish, and acknowledgements must still get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Deliveries and their acknowledgements.
    Consume,
    /// Publishes and their confirms.
    Publish,
    /// Declarations and questions.
    Admin,
}

impl Role {
    /// The role as the console and the metrics show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::Publish => "publish",
            Self::Admin => "admin",
        }
    }
}

/// A connection that comes back by itself. Cheap to clone; closed by [`Link::close`], or when the last clone
/// is dropped.
#[derive(Clone, Debug)]
pub struct Link {
    state: watch::Receiver<LinkState>,
    settings: Arc<BrokerSettings>,
    owner: Arc<Owner>,
}

/// Ends the supervisor when the last handle goes.
#[derive(Debug)]
struct Owner(CancellationToken);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// How a link is.
#[derive(Clone, Debug)]
pub enum LinkState {
    /// Not connected; what the last attempt failed with, if there was one.
    Down(Option<ConnectError>),
    /// Connected.
    Up(Arc<Live>),
    /// Closed by its owner, or refused at the first connection: it will not come back.
    Closed(ConnectError),
}

/// A connection that is up.
#[derive(Debug)]
pub struct Live {
    /// Counts the connections of a link, from 1.
    pub generation: u64,
    /// What the broker at the other end can do.
    pub capabilities: Capabilities,
    /// Host and port of the broker.
    pub host: String,
    /// Why the broker has stopped reading from this connection, while it has.
    pub blocked: watch::Receiver<Option<String>>,
    /// Cancelled when the connection is lost or closed.
    pub lost: CancellationToken,
    pub(crate) connection: lapin::Connection,
    line: Line,
}

impl Live {
    /// A new channel.
    ///
    /// lapin remembers for ever with which error the broker closed a channel. Once all numbers of channels have had their
    /// turn, another channel gets the same number, and fails with that old error at once (seen with 4.12). Such a number is
    /// passed over; a connection that has no others left is closed, so that the link makes a new one.
    pub(crate) async fn channel(&self) -> lapin::Result<Channel> {
        let mut tries = self.connection.configuration().channel_max();
        loop {
            let error = match self.connection.create_channel().await {
                Ok(channel) => return Ok(channel),
                Err(error) => error,
            };
            if !self.connection.status().connected() {
                return Err(error);
            }
            let is_full = matches!(error.kind(), lapin::ErrorKind::ChannelsLimitReached);
            tries = tries.saturating_sub(1);
            if is_full || tries == 0 {
                warn!(host = %self.host, "no numbers of channels are left on the connection: it is closed for a new one");
                self.line.hang_up();
                return Err(error);
            }
        }
    }
}

impl Link {
    /// A channel for a single request, and the connection that it is on.
    ///
    /// # Errors
    /// [`ConnectError`] when there is no connection within [`BrokerSettings::timeout`], or it opens no channel.
    pub(crate) async fn channel(&self) -> Result<(Arc<Live>, Channel), ConnectError> {
        let live = self.live_within(self.settings.timeout).await?;
        let error = match live.channel().await {
            Ok(channel) => return Ok((live, channel)),
            Err(error) => error,
        };
        // It was given up for a new one, or has just been lost.
        let _ = tokio::time::timeout(self.settings.timeout, live.lost.cancelled()).await;
        let live = self.live_within(self.settings.timeout).await?;
        let unreachable = |reason| ConnectError::Unreachable { host: live.host.clone(), reason };
        let channel = live.channel().await.map_err(|_| unreachable(reason(&error)))?;
        Ok((live, channel))
    }

    /// Starts connecting, and goes on until it succeeds. A broker that refuses the very first connection ends it,
    /// once every URL has been tried.
    pub fn open(settings: Arc<BrokerSettings>, role: Role) -> Self {
        let (publish, state) = watch::channel(LinkState::Down(None));
        let stop = CancellationToken::new();
        let supervisor = Supervisor {
            settings: settings.clone(),
            role,
            state: publish,
            stop: stop.clone(),
            metrics: Instruments::global().link(role.as_str()),
        };
        runtime::spawn(supervisor.run());
        Self { state, settings, owner: Arc::new(Owner(stop)) }
    }

    /// The settings that it was opened with.
    pub fn settings(&self) -> &Arc<BrokerSettings> {
        &self.settings
    }

    /// The present state.
    pub fn state(&self) -> LinkState {
        self.state.borrow().clone()
    }

    /// The connection, as soon as there is one.
    ///
    /// # Errors
    /// [`ConnectError`] when the link is closed or was refused.
    pub async fn live(&self) -> Result<Arc<Live>, ConnectError> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, LinkState::Down(_))).await;
        match settled.as_deref() {
            Ok(LinkState::Up(live)) => Ok(live.clone()),
            Ok(LinkState::Closed(error)) => Err(error.clone()),
            _ => Err(ConnectError::Closed),
        }
    }

    /// The connection, if it comes up within `patience`.
    ///
    /// # Errors
    /// [`ConnectError`] with what the last attempt failed with.
    pub async fn live_within(&self, patience: Duration) -> Result<Arc<Live>, ConnectError> {
        match tokio::time::timeout(patience, self.live()).await {
            Ok(live) => live,
            Err(_) => Err(match self.state() {
                LinkState::Down(Some(error)) | LinkState::Closed(error) => error,
                _ => ConnectError::Unreachable {
                    host: hosts(&self.settings.url),
                    reason: format!("no connection within {} ms", patience.as_millis()),
                },
            }),
        }
    }

    /// Closes the connection and waits until the broker has agreed, or its time is over.
    pub async fn close(&self) {
        self.owner.0.cancel();
        let mut state = self.state.clone();
        let closed = state.wait_for(|state| matches!(state, LinkState::Closed(_)));
        let _ = tokio::time::timeout(self.settings.timeout + Duration::from_secs(1), closed).await;
    }
}

struct Supervisor {
    settings: Arc<BrokerSettings>,
    role: Role,
    state: watch::Sender<LinkState>,
    stop: CancellationToken,
    metrics: LinkMetrics,
}

impl Supervisor {
    async fn run(self) {
        let end = self.supervise().await;
        self.metrics.set_connected(false);
        self.state.send_replace(LinkState::Closed(end));
    }

    async fn supervise(&self) -> ConnectError {
        let mut generation = 0;
        let mut failures: u32 = 0;
        let mut refusal = None;
        // The nodes of a cluster are tried in turn, another first at each reconnect.
        for url in self.settings.url.iter().cycle() {
            let connected = tokio::select! {
                () = self.stop.cancelled() => return ConnectError::Closed,
                connected = self.connect(url, generation + 1) => connected,
            };
            match connected {
                Ok((live, blocked)) => {
                    generation += 1;
                    failures = 0;
                    let version = &live.capabilities.version;
                    info!(role = self.role.as_str(), host = %live.host, %version, generation, "connected to the broker");
                    let live = Arc::new(live);
                    self.watch(live.clone(), blocked).await;
                    live.line.hang_up();
                    if self.stop.is_cancelled() {
                        return ConnectError::Closed;
                    }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if !error.is_passing() {
                        refusal.get_or_insert_with(|| error.clone());
                    }
                    // One node may be at fault alone; once all have had their turn, it is the settings.
                    let all_tried = failures as usize >= self.settings.url.len();
                    if generation == 0
                        && all_tried
                        && let Some(refusal) = refusal
                    {
                        return refusal;
                    }
                    let pause = self.pause(failures);
                    warn!(
                        role = self.role.as_str(),
                        attempt = failures,
                        retry_ms = pause.as_millis() as u64,
                        "{error}"
                    );
                    self.state.send_replace(LinkState::Down(Some(error)));
                    tokio::select! {
                        () = self.stop.cancelled() => return ConnectError::Closed,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
        // There is no URL.
        ConnectError::Closed
    }

    /// Doubles from 100 ms, jittered, so that the workers of a site do not all come back in the same instant.
    fn pause(&self, failures: u32) -> Duration {
        let bound = Duration::from_millis(100).saturating_mul(1 << failures.min(20)).min(self.settings.reconnect_max);
        bound.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    async fn connect(
        &self,
        url: &BrokerUrl,
        generation: u64,
    ) -> Result<(Live, watch::Sender<Option<String>>), ConnectError> {
        let settings = &self.settings;
        let host = url.host();
        let mut uri = url.uri.clone();
        uri.query.frame_max = Some(settings.frame_max);
        uri.query.heartbeat = Some(u16::try_from(settings.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1));
        let unusable = |error: std::io::Error| {
            let fix = "correct `broker.tls`";
            ConnectError::Tls { host: host.clone(), reason: error.to_string(), fix }
        };
        let tls = match uri.scheme {
            lapin::uri::AMQPScheme::AMQP => None,
            lapin::uri::AMQPScheme::AMQPS => Some(tls::config(&settings.tls).map_err(unusable)?),
        };
        let line = Line::default();
        let dial = line.dial(tls);
        let socket = async move |uri, _| Ok(lapin::AsyncTcpStream::Plain(dial(uri).await?));
        let name = format!("leveret {} {}", settings.name, self.role.as_str());
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property(own("product"), "Leveret".into())
            .with_client_property(own("version"), env!("CARGO_PKG_VERSION").into());
        let runtime = socket::Sockets::runtime(runtime::handle());
        let connecting = lapin::Connection::connector(uri, runtime, socket, properties);
        let connection = match tokio::time::timeout(settings.timeout, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(classify(host, &error)),
            Err(_) => {
                let reason = format!("no answer within {} ms", settings.timeout.as_millis());
                return Err(ConnectError::Unreachable { host, reason });
            }
        };
        let (block, blocked) = watch::channel(None);
        let capabilities = line.capabilities();
        let live = Live { generation, capabilities, host, blocked, lost: CancellationToken::new(), connection, line };
        Ok((live, block))
    }

    /// Stays with a connection until it is lost or to be closed.
    async fn watch(&self, live: Arc<Live>, blocked: watch::Sender<Option<String>>) {
        // lapin gives each event to one listener and drops those that come before the first.
        let mut events = pin!(live.connection.events_listener());
        let _lost = live.lost.clone().drop_guard();
        self.metrics.set_connected(true);
        self.state.send_replace(LinkState::Up(live.clone()));
        // A look now and then, should an event get lost.
        let mut look = tokio::time::interval(Duration::from_secs(1));
        let mut last_error = None;
        let host = &live.host;
        while live.connection.status().connected() {
            tokio::select! {
                () = self.stop.cancelled() => {
                    live.lost.cancel();
                    let closing = live.connection.close(200, own("bye"));
                    if !matches!(tokio::time::timeout(self.settings.timeout, closing).await, Ok(Ok(()))) {
                        debug!(role = self.role.as_str(), %host, "the broker did not answer the close");
                    }
                    return;
                }
                _ = look.tick() => {}
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        warn!(role = self.role.as_str(), %host, %reason, "the broker has blocked publishing: it is short of a resource");
                        self.metrics.set_blocked(true);
                        blocked.send_replace(Some(reason));
                    }
                    Some(Event::ConnectionUnblocked) => {
                        info!(role = self.role.as_str(), %host, "the broker takes publishes again");
                        self.metrics.set_blocked(false);
                        blocked.send_replace(None);
                    }
                    Some(Event::Error(error)) => last_error = Some(error),
                    Some(_) => {}
                    None => break,
                },
            }
        }
        let reason = last_error.as_ref().map_or_else(|| "closed".to_owned(), reason);
        warn!(role = self.role.as_str(), %host, %reason, "lost the connection to the broker");
        self.metrics.set_connected(false);
        self.metrics.set_blocked(false);
        let error = ConnectError::Unreachable { host: host.clone(), reason };
        self.state.send_replace(LinkState::Down(Some(error)));
    }
}

fn classify(host: String, error: &lapin::Error) -> ConnectError {
    let reason = reason(error);
    let fix = match error.kind() {
        lapin::ErrorKind::IOError(io) => tls::fix(io),
        _ => None,
    };
    match (reply_code(error), fix) {
        // 320 is how a node says goodbye, and how it refuses while it starts.
        (Some(320 | 541), _) => ConnectError::Unreachable { host, reason },
        (Some(_), _) => ConnectError::Refused { host, reason },
        (None, Some(fix)) => ConnectError::Tls { host, reason, fix },
        (None, None) => ConnectError::Unreachable { host, reason },
    }
}

fn hosts(urls: &[BrokerUrl]) -> String {
    urls.iter().map(BrokerUrl::host).collect::<Vec<_>>().join(", ")
}

/// One of our own texts, short by construction.
pub(super) fn own(text: &'static str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}
