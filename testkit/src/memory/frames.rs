//! AMQP frames on a socket, in both directions.

use std::{io, time::Duration};

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame},
    protocol::{AMQPClass, BasicProperties},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::mpsc,
};

/// Type (1), channel (2) and size (4), before the payload; an end mark (1) behind it.
const HEAD: usize = 7;
/// No client of ours sends larger frames.
const LARGEST: usize = 32 << 20;
/// A client takes a broker that is silent for two heartbeats for dead; none has them shorter than a second.
const HEARTBEAT: Duration = Duration::from_millis(700);
/// Frames that are written to the socket in one piece.
const BATCH: usize = 256;

/// Reads frames.
#[derive(Debug)]
pub(super) struct Inbox(BufReader<OwnedReadHalf>);

impl Inbox {
    pub(super) fn new(socket: OwnedReadHalf) -> Self {
        Self(BufReader::new(socket))
    }

    /// The eight bytes that a client begins with.
    pub(super) async fn greeting(&mut self) -> io::Result<[u8; 8]> {
        let mut greeting = [0; 8];
        self.0.read_exact(&mut greeting).await?;
        Ok(greeting)
    }

    /// The next frame.
    pub(super) async fn frame(&mut self) -> io::Result<AMQPFrame> {
        let mut bytes = vec![0; HEAD];
        self.0.read_exact(&mut bytes).await?;
        let size = u32::from_be_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]) as usize;
        if size > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame beyond any limit"));
        }
        bytes.resize(HEAD + size + 1, 0);
        self.0.read_exact(&mut bytes[HEAD..]).await?;
        match parse_frame(&bytes[..]) {
            Ok((_, frame)) => Ok(frame),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("no AMQP frame: {error:?}"))),
        }
    }
}

/// Takes the frames for one connection; they are sent in this order.
#[derive(Clone, Debug)]
pub(super) struct Outbox(mpsc::UnboundedSender<AMQPFrame>);

impl Outbox {
    /// An outbox, and what writes its frames to the socket until all its clones are gone.
    pub(super) fn new(socket: OwnedWriteHalf) -> (Self, impl Future<Output = ()>) {
        let (frames, queue) = mpsc::unbounded_channel();
        (Self(frames), write(socket, queue))
    }

    pub(super) fn frame(&self, frame: AMQPFrame) {
        // A connection that has ended takes nothing more, and what it held is given out again.
        let _ = self.0.send(frame);
    }

    pub(super) fn method(&self, channel: u16, method: AMQPClass) {
        self.frame(AMQPFrame::Method(channel, method));
    }

    /// A method with a message, whose body is split to fit into frames of `frame_max` bytes.
    pub(super) fn content(
        &self,
        channel: u16,
        method: AMQPClass,
        properties: BasicProperties,
        body: &[u8],
        frame_max: usize,
    ) {
        self.method(channel, method);
        let header = AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties };
        self.frame(AMQPFrame::Header(channel, header));
        for part in body.chunks(frame_max.saturating_sub(HEAD + 1).max(1)) {
            self.frame(AMQPFrame::Body(channel, part.to_vec()));
        }
    }
}

async fn write(mut socket: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<AMQPFrame>) {
    let mut frames = Vec::with_capacity(BATCH);
    loop {
        let taken = tokio::time::timeout(HEARTBEAT, queue.recv_many(&mut frames, BATCH)).await;
        match taken {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => frames.push(AMQPFrame::Heartbeat),
        }
        let mut bytes = Vec::new();
        for frame in frames.drain(..) {
            match gen_frame(&frame)(WriteContext::from(std::mem::take(&mut bytes))) {
                Ok(written) => bytes = written.into_inner().0,
                // Only a text beyond its length fails here, and ours are cut before.
                Err(_) => return,
            }
        }
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = socket.shutdown().await;
}
