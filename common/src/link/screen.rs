//! What a broker passes on is not always what lapin can take. A header of a few hundred lists, one in the other, ends
//! the process, for lapin reads it by recursion until the stack is full; a property that is no UTF-8 ends the
//! connection, and again each time the broker gives the message out. RabbitMQ checks neither. So every frame that
//! comes in is looked through before lapin gets it, and what lapin cannot take is made harmless in its place, byte
//! for byte: no frame changes its length.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// Tables and lists in a header that lie deeper are passed on as an array of bytes.
const DEPTH: u32 = 32;
/// Stands for each byte beyond ASCII in a text that is no UTF-8.
const STAND_IN: u8 = b'?';

const METHOD: u8 = 1;
const HEADER: u8 = 2;
/// The type, the channel and the size in front of a frame's payload.
const HEAD: usize = 7;

/// Where in the stream of frames we are.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// The beginning of the next frame, as far as it has been passed on.
    head: [u8; HEAD],
    seen: usize,
    /// Bytes up to the next frame that need no look.
    skip: usize,
    /// A payload of which only a part has come: kept back until it is whole.
    held: Vec<u8>,
    missing: usize,
    /// How much of the held payload has been passed on since it is whole.
    passed: usize,
}

impl Screen {
    /// Reads from `stream` like the stream itself, what lapin cannot take made harmless.
    pub(super) fn poll_read<S: AsyncRead>(
        &mut self,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.missing > 0 {
                let from = self.held.len() - self.missing;
                let mut rest = ReadBuf::new(&mut self.held[from..]);
                ready!(stream.as_mut().poll_read(cx, &mut rest))?;
                let read = rest.filled().len();
                if read == 0 {
                    // The stream ends within a frame.
                    return Poll::Ready(Ok(()));
                }
                self.missing -= read;
                if self.missing == 0 {
                    payload(self.head[0], &mut self.held);
                }
            } else if !self.held.is_empty() {
                let rest = &self.held[self.passed..];
                let room = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..room]);
                self.passed += room;
                if self.passed == self.held.len() {
                    self.held.clear();
                    (self.passed, self.seen, self.skip) = (0, 0, 1);
                }
                return Poll::Ready(Ok(()));
            } else {
                let before = buf.filled().len();
                ready!(stream.as_mut().poll_read(cx, buf))?;
                let read = buf.filled().len() - before;
                let kept = self.look_through(&mut buf.filled_mut()[before..]);
                buf.set_filled(before + kept);
                // Nothing at all would say that the stream has ended.
                if kept > 0 || read == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Looks through what has come; returns how much of it can be passed on. The rest is the beginning of a payload.
    fn look_through(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let left = bytes.len() - at;
            if self.skip > 0 {
                let step = left.min(self.skip);
                self.skip -= step;
                at += step;
                continue;
            }
            let step = left.min(HEAD - self.seen);
            self.head[self.seen..self.seen + step].copy_from_slice(&bytes[at..at + step]);
            self.seen += step;
            at += step;
            if self.seen < HEAD {
                break;
            }
            let [kind, _, _, size @ ..] = self.head;
            let size = u32::from_be_bytes(size) as usize;
            // One more for the mark at the end of a frame.
            let whole = size.saturating_add(1);
            // Nothing of ours is larger; lapin itself refuses a frame that is.
            if !matches!(kind, METHOD | HEADER) || size == 0 || size > 16 << 20 {
                (self.seen, self.skip) = (0, whole);
            } else if bytes.len() - at >= size {
                payload(kind, &mut bytes[at..at + size]);
                (self.seen, self.skip) = (0, whole);
            } else {
                self.held.extend_from_slice(&bytes[at..]);
                self.missing = size - self.held.len();
                self.held.resize(size, 0);
                return at;
            }
        }
        bytes.len()
    }
}

/// Makes the payload of a frame harmless. What is malformed in another way is left as it is: lapin says so.
fn payload(kind: u8, bytes: &mut [u8]) {
    let _ = match kind {
        METHOD => method(Cursor { bytes, at: 0 }),
        _ => content_header(Cursor { bytes, at: 0 }),
    };
}

/// The texts of `basic.deliver` and `basic.get-ok`: the exchange and the routing key that a publisher chose.
fn method(mut cursor: Cursor<'_>) -> Option<()> {
    match (cursor.number(2)?, cursor.number(2)?) {
        (60, 60) => cursor.short_string()?,
        (60, 71) => {}
        _ => return None,
    }
    cursor.skip(9)?;
    cursor.short_string()?;
    cursor.short_string()
}

/// Class, weight, size of the body, flags, and the properties that the flags name.
fn content_header(mut cursor: Cursor<'_>) -> Option<()> {
    cursor.skip(12)?;
    let flags = cursor.number(2)?;
    for bit in (2..16).rev().filter(|bit| flags >> bit & 1 == 1) {
        match bit {
            13 => cursor.table(0)?,
            12 | 11 => cursor.skip(1)?,
            6 => cursor.skip(8)?,
            _ => cursor.short_string()?,
        }
    }
    Some(())
}

struct Cursor<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn skip(&mut self, count: usize) -> Option<()> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len())?;
        self.at = end;
        Some(())
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        let from = self.at;
        self.skip(bytes)?;
        Some(self.bytes[from..self.at].iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn short_string(&mut self) -> Option<()> {
        let length = self.number(1)?;
        let from = self.at;
        self.skip(length)?;
        let text = &mut self.bytes[from..self.at];
        if std::str::from_utf8(text).is_err() {
            text.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = STAND_IN);
        }
        Some(())
    }

    fn table(&mut self, depth: u32) -> Option<()> {
        let end = self.number(4)?.checked_add(self.at)?;
        while self.at < end {
            self.short_string()?;
            self.value(depth)?;
        }
        Some(())
    }

    fn list(&mut self, depth: u32) -> Option<()> {
        let end = self.number(4)?.checked_add(self.at)?;
        while self.at < end {
            self.value(depth)?;
        }
        Some(())
    }

    fn value(&mut self, depth: u32) -> Option<()> {
        let tag = self.at;
        self.skip(1)?;
        match self.bytes[tag] {
            b'V' => Some(()),
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'U' | b'u' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'D' => self.skip(5),
            b'l' | b'L' | b'd' | b'T' => self.skip(8),
            b'A' if depth < DEPTH => self.list(depth + 1),
            b'F' if depth < DEPTH => self.table(depth + 1),
            kind @ (b'A' | b'F' | b'S' | b'x') => {
                if matches!(kind, b'A' | b'F') {
                    self.bytes[tag] = b'x';
                }
                let length = self.number(4)?;
                self.skip(length)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::{
        frame::{AMQPContentHeader, AMQPFrame, gen_frame, parse_frame},
        protocol::BasicProperties,
    };
    use lapin::types::{AMQPValue, FieldTable};
    use proptest::{collection, prelude::*};
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::wire::tests::arbitrary;

    /// Gives its bytes in pieces of these sizes, again and again.
    struct Pieces<'a>(&'a [u8], std::iter::Cycle<std::slice::Iter<'a, usize>>);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let size = self.1.next().copied().unwrap_or(1).min(self.0.len()).min(buf.remaining());
            let (now, later) = self.0.split_at(size);
            buf.put_slice(now);
            self.0 = later;
            Poll::Ready(Ok(()))
        }
    }

    struct Screened<'a>(Pieces<'a>, Screen);

    impl AsyncRead for Screened<'_> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Self(stream, screen) = &mut *self;
            screen.poll_read(Pin::new(stream), cx, buf)
        }
    }

    /// What comes out when a stream is read in pieces.
    fn screened(bytes: &[u8], pieces: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut stream = Screened(Pieces(bytes, pieces.iter().cycle()), Screen::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            // A small buffer now and then, as it is when lapin's own is nearly full.
            let mut small = [0; 13];
            loop {
                let read = stream.read(&mut small).await.unwrap();
                out.extend_from_slice(&small[..read]);
                if read == 0 || stream.read_buf(&mut out).await.unwrap() == 0 {
                    return out;
                }
            }
        })
    }

    fn frame(properties: BasicProperties) -> Vec<u8> {
        let header = AMQPContentHeader { class_id: 60, body_size: 3, properties };
        let mut bytes = gen_frame(&AMQPFrame::Header(1, header))(Vec::new().into()).unwrap().write;
        bytes.extend_from_slice(b"\x03\x00\x01\x00\x00\x00\x03abc\xce");
        bytes
    }

    fn properties(bytes: &[u8]) -> BasicProperties {
        match parse_frame(bytes).unwrap() {
            (_, AMQPFrame::Header(_, header)) => header.properties,
            (_, other) => panic!("{other:?}"),
        }
    }

    fn nested(depth: usize) -> AMQPValue {
        (0..depth).fold(AMQPValue::Boolean(true), |inner, _| AMQPValue::FieldArray(vec![inner].into()))
    }

    fn with_header(value: AMQPValue) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert(arbitrary::short("x"), value);
        BasicProperties::default().with_headers(headers)
    }

    proptest! {
        #[test]
        fn what_lapin_can_take_comes_through_untouched(
            messages in collection::vec(arbitrary::properties(), 1..4),
            pieces in collection::vec(1_usize..700, 1..8),
        ) {
            let bytes: Vec<u8> = messages.into_iter().flat_map(frame).collect();
            prop_assert_eq!(screened(&bytes, &pieces), bytes);
        }
    }

    #[test]
    fn lists_are_cut_where_they_become_too_deep() {
        let shallow = with_header(nested(32));
        assert_eq!(properties(&screened(&frame(shallow.clone()), &[9])), shallow);
        let deep = properties(&screened(&frame(with_header(nested(100))), &[9]));
        let mut value = &deep.headers().as_ref().unwrap().inner()["x"];
        let mut depth = 0;
        while let AMQPValue::FieldArray(values) = value {
            (value, depth) = (&values.as_slice()[0], depth + 1);
        }
        // The list that was cut, with 67 more in it of five bytes each and the two of the boolean.
        let AMQPValue::ByteArray(cut) = value else { panic!("{value:?}") };
        assert_eq!((depth, cut.len()), (32, 67 * 5 + 2));
    }

    #[test]
    fn texts_that_are_no_utf_8_become_some() {
        let text = |text: &str| arbitrary::short(text);
        let message = BasicProperties::default().with_type(text("m~il")).with_message_id(text("fünf"));
        let mut bytes = frame(message);
        let bad = bytes.iter().position(|byte| *byte == b'~').unwrap();
        bytes[bad] = 0xff;
        let read = properties(&screened(&bytes, &[4]));
        assert_eq!((read.kind(), read.message_id()), (&Some(text("m?il")), &Some(text("fünf"))));

        // Deliver: class, method, consumer tag, delivery tag, redelivered, exchange, routing key.
        let mut deliver =
            b"\x01\x00\x01\x00\x00\x00\x18\x00\x3c\x00\x3c\x01c\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01e".to_vec();
        deliver.extend_from_slice(b"\x06mail.\xff\xce");
        assert!(parse_frame(deliver.as_slice()).is_err());
        assert!(parse_frame(screened(&deliver, &[5]).as_slice()).is_ok());
    }

    #[test]
    fn any_bytes_come_through_in_their_number() {
        bolero::check!().with_type::<(Vec<u8>, Vec<u8>)>().with_iterations(3_000).for_each(|(noise, payload)| {
            let mut bytes = vec![2, 0, 1];
            bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            bytes.extend_from_slice(payload);
            bytes.push(0xce);
            bytes.extend_from_slice(noise);
            let out = screened(&bytes, &[3, 50]);
            // Of a frame that the stream ends in, what is held back is never passed on.
            assert!(out.len() <= bytes.len() && out.len() >= payload.len() + 8);
        });
    }
}
