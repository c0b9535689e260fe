//! The sockets under lapin: encrypted when the URL says so, hung up when we say so, and overheard at their first
//! frame, which is where the broker states its version: lapin keeps that to itself.

use std::{
    io,
    net::{self, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use amq_protocol::{
    frame::{AMQPFrame, parse_frame},
    protocol::{AMQPClass, connection},
};
use async_rs::{
    Runtime, Tokio,
    traits::{Executor, Reactor, RuntimeKit},
    util::Task,
};
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::{Capabilities, screen::Screen, tls::SpeaksTls};

/// How a TLS alert begins, with which a TLS port answers the header of plain AMQP.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];
/// More than any broker's first frame has; beyond it the version stays unknown.
const GREETING_LIMIT: usize = 64 * 1024;

/// A socket that lapin has, as we see it from outside. Dropped, it hangs up: lapin by itself waits without end for
/// a broker that has gone silent during the handshake, or does not answer the close.
#[derive(Debug, Default)]
pub(super) struct Line(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// What the broker said about itself.
    greeting: OnceLock<Capabilities>,
    /// Another handle of the same socket.
    socket: OnceLock<net::TcpStream>,
}

impl Line {
    /// What the broker said about itself.
    pub(super) fn capabilities(&self) -> Capabilities {
        self.0.greeting.get().cloned().unwrap_or_else(Capabilities::unknown)
    }

    /// Ends the connection; harmless when it has ended.
    pub(super) fn hang_up(&self) {
        if let Some(socket) = self.0.socket.get() {
            let _ = socket.shutdown(net::Shutdown::Both);
        }
    }

    /// Makes the one socket of this line.
    pub(super) fn dial(
        &self,
        tls: Option<Arc<ClientConfig>>,
    ) -> impl AsyncFn(AMQPUri) -> io::Result<Compat<Socket>> + use<> {
        let shared = self.0.clone();
        async move |uri| open(&uri, tls.clone(), shared.clone()).await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// Opens a socket to the host of `uri` and, for `amqps`, sets up TLS on it.
async fn open(uri: &AMQPUri, tls: Option<Arc<ClientConfig>>, line: Arc<Shared>) -> io::Result<Compat<Socket>> {
    let host = uri.authority.host.clone();
    let tcp = TcpStream::connect((host.as_str(), uri.authority.port)).await?;
    tcp.set_nodelay(true)?;
    let tcp = tcp.into_std()?;
    let _ = line.socket.set(tcp.try_clone()?);
    let tcp = TcpStream::from_std(tcp)?;
    let stream = match (&uri.scheme, tls) {
        (AMQPScheme::AMQP, _) => Stream::Plain(tcp),
        (AMQPScheme::AMQPS, None) => return Err(io::Error::other("no TLS configuration")),
        (AMQPScheme::AMQPS, Some(config)) => {
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            Stream::Tls(Box::new(TlsConnector::from(config).connect(name, tcp).await?))
        }
    };
    Ok(Socket { stream, screen: Screen::default(), greeting: Some(Greeting { bytes: Vec::new(), line }) }.compat())
}

/// A socket to a broker.
pub(super) struct Socket {
    stream: Stream,
    screen: Screen,
    /// There until the first frame has been heard in full.
    greeting: Option<Greeting>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

struct Greeting {
    bytes: Vec<u8>,
    line: Arc<Shared>,
}

impl Greeting {
    /// Takes more of the stream; true when there is nothing more to wait for.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        // A frame is type (1), channel (2), size (4), as many bytes, and an end mark (1).
        let Some(size) = self.bytes.get(3..7).and_then(|size| size.try_into().ok()).map(u32::from_be_bytes) else {
            return false;
        };
        let whole = size as usize + 8;
        if whole > GREETING_LIMIT {
            return true;
        }
        let Some(frame) = self.bytes.get(..whole) else {
            return false;
        };
        if let Ok((_, AMQPFrame::Method(_, AMQPClass::Connection(connection::AMQPMethod::Start(start))))) =
            parse_frame(frame)
        {
            let _ = self.line.greeting.set(Capabilities::from_server_properties(&start.server_properties));
        }
        true
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Self { stream, screen, .. } = &mut *self;
        let read = match stream {
            Stream::Plain(stream) => screen.poll_read(Pin::new(stream), cx, buf),
            Stream::Tls(stream) => screen.poll_read(Pin::new(stream), cx, buf),
        };
        if let Some(greeting) = &mut self.greeting {
            let whole = greeting.hear(&buf.filled()[before..]);
            if greeting.bytes.starts_with(&TLS_ALERT) {
                return Poll::Ready(Err(io::Error::other(SpeaksTls)));
            }
            if whole {
                self.greeting = None;
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The runtime that lapin is given: tokio's, but with our own kind of socket.
#[derive(Clone, Debug)]
pub(super) struct Sockets(Tokio);

impl Sockets {
    pub(super) fn runtime(handle: tokio::runtime::Handle) -> Runtime<Self> {
        Runtime::new(Self(Tokio::default().with_handle(handle)))
    }
}

impl RuntimeKit for Sockets {}

impl Executor for Sockets {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, future: F) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, work: F) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for Sockets {
    type TcpStream = Compat<Socket>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl futures_util::AsyncRead + futures_util::AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    #[allow(clippy::disallowed_types, reason = "the trait's own signature")]
    fn interval(&self, period: Duration) -> impl futures_util::Stream<Item = std::time::Instant> + Send + 'static {
        self.0.interval(period)
    }

    // Sockets are opened by `open` alone; lapin asks the runtime only when it is to reconnect by itself.
    #[allow(clippy::manual_async_fn, reason = "the trait wants a future without a borrow of self")]
    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        async { Err(io::Error::from(io::ErrorKind::Unsupported)) }
    }
}
