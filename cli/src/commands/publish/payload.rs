//! The payloads to publish: one, the same again and again, or the lines of standard input.

use std::{
    fs,
    io::{self, BufRead, Read},
    path::Path,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use tokio::sync::mpsc;

use super::outcome::NotPublished;
use crate::failure::{Exit, Failure};

/// Lines that are read ahead of the broker.
const AHEAD: usize = 1024;

/// One payload and its number, from 1.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) number: u64,
    pub(super) body: Bytes,
}

/// Payloads in order, and how many there are if that is known.
pub(super) struct Payloads {
    pub(super) length: Option<u64>,
    pub(super) stream: BoxStream<'static, Result<Payload, NotPublished>>,
}

impl Payloads {
    /// The same payload `count` times.
    pub(super) fn same(body: Bytes, count: u64) -> Self {
        let payloads = (1..=count).map(move |number| Ok(Payload { number, body: body.clone() }));
        Self { length: Some(count), stream: stream::iter(payloads).boxed() }
    }

    /// The lines of standard input, up to the first that is no JSON unless they are `raw`. Of JSON, empty lines are
    /// left out.
    pub(super) fn lines(raw: bool) -> Self {
        let (send, receive) = mpsc::channel(AHEAD);
        // Standard input can be read in no other way without waiting for it at the end of the process.
        std::thread::spawn(move || {
            for (line, number) in io::stdin().lock().split(b'\n').zip(1..) {
                let payload = line.map_err(|error| format!("cannot be read: {error}")).and_then(|mut line| {
                    if line.last() == Some(&b'\r') {
                        line.pop();
                    }
                    if !raw && line.iter().all(u8::is_ascii_whitespace) {
                        return Ok(None);
                    }
                    if !raw {
                        check_json(&line)?;
                    }
                    Ok(Some(Payload { number, body: line.into() }))
                });
                let Some(payload) = payload.map_err(|error| NotPublished::line(number, &error)).transpose() else {
                    continue;
                };
                let last = payload.is_err();
                if send.blocking_send(payload).is_err() || last {
                    return;
                }
            }
        });
        let received = stream::unfold(receive, async |mut receive| Some((receive.recv().await?, receive)));
        Self { length: None, stream: received.boxed() }
    }
}

/// Reads a payload from a file, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().read_to_end(&mut body).map(drop)
    } else {
        fs::read(path).map(|read| body = read)
    };
    read.map_err(|error| Failure::new(Exit::Usage, format!("cannot read {}: {error}", path.display())))?;
    Ok(body.into())
}

/// Whether a payload is JSON; an error ends a sentence that names the payload.
pub(super) fn check_json(body: &[u8]) -> Result<(), String> {
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("is no JSON ({error}): mend it, or publish it as it is with --raw")),
    }
}
