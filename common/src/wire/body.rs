//! The body of a message: its encodings, and the limits on its size.

use std::io::{self, Read, Write};

use bytes::Bytes;

/// How large a body may be. A body beyond a limit is parked, not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes on the wire. Default 16 MiB, the most that RabbitMQ 4 takes.
    pub wire: usize,
    /// Bytes after decompression. Default 64 MiB.
    pub inflated: usize,
    /// Bytes of properties and headers that are sent. Default 126 KiB; see [`Limits::headers_in`].
    pub headers: usize,
}

/// The largest window that a decompressor of zstd is asked to take, by RFC 8878. Without a limit a body of a few
/// bytes could claim 128 MiB of memory.
const ZSTD_WINDOW_LOG: u32 = 23;

impl Default for Limits {
    fn default() -> Self {
        Self { wire: 16 << 20, inflated: 64 << 20, headers: Self::headers_in(128 << 10) }
    }
}

impl Limits {
    /// How many bytes of properties and headers may be sent where a frame has this many, for AMQP has one frame for
    /// them. Room is left for what the broker adds on the way through a tier or to the dead: with it the message
    /// must still fit, or it takes down the connection of whoever gets it.
    pub const fn headers_in(frame: usize) -> usize {
        frame.saturating_sub(2 << 10)
    }
}

/// How a body is compressed on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// Small and fast, at zstd's own default level.
    Zstd,
    /// What everyone has.
    Gzip,
}

impl Encoding {
    /// The value of the property `content_encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The bytes compressed. It is done in memory, on the thread of the caller.
    ///
    /// # Errors
    /// What the compressor says.
    pub(crate) fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd => zstd::encode_all(bytes, zstd::DEFAULT_COMPRESSION_LEVEL),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
        }
    }
}

/// A body cannot be taken as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Larger than [`Limits::wire`].
    #[error("the body has {bytes} bytes, this worker takes {limit}")]
    Oversized {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Larger than [`Limits::inflated`] after decompression.
    #[error("the body is over {limit} bytes when decompressed, more than this worker takes")]
    Inflated {
        /// The limit in bytes.
        limit: usize,
    },
    /// An encoding other than `identity`, `gzip` and `zstd`.
    #[error("content-encoding {0:?} is not known: use gzip, zstd or none")]
    UnknownEncoding(String),
    /// The bytes are not what the encoding says.
    #[error("the body is no {encoding}: {reason}")]
    Corrupt {
        /// `gzip` or `zstd`.
        encoding: &'static str,
        /// What the decompressor said.
        reason: String,
    },
}

impl BodyError {
    /// The value for the header `leveret-error-kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Oversized { .. } | Self::Inflated { .. } => "oversized",
            Self::UnknownEncoding(_) | Self::Corrupt { .. } => "content-encoding",
        }
    }
}

/// The body as the handler gets it. No copy is made of one that is not compressed.
pub(super) fn decode(wire: &Bytes, encoding: Option<&str>, limits: &Limits) -> Result<Bytes, BodyError> {
    if wire.len() > limits.wire {
        return Err(BodyError::Oversized { bytes: wire.len(), limit: limits.wire });
    }
    let encoding = encoding.unwrap_or_default().trim();
    match encoding.to_ascii_lowercase().as_str() {
        // Some clients name the character encoding here.
        "" | "identity" | "utf-8" => Ok(wire.clone()),
        "gzip" | "x-gzip" => inflate("gzip", flate2::read::MultiGzDecoder::new(wire.as_ref()), limits),
        "zstd" => inflate("zstd", unzstd(wire).map_err(|error| corrupt("zstd", &error))?, limits),
        _ => Err(BodyError::UnknownEncoding(encoding.to_owned())),
    }
}

fn unzstd(wire: &Bytes) -> io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(wire.as_ref())?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

fn corrupt(encoding: &'static str, error: &io::Error) -> BodyError {
    BodyError::Corrupt { encoding, reason: error.to_string() }
}

fn inflate(encoding: &'static str, reader: impl Read, limits: &Limits) -> Result<Bytes, BodyError> {
    let mut body = Vec::new();
    // One byte more than the limit tells a body that fills it from one that goes beyond.
    let read = reader.take(limits.inflated as u64 + 1).read_to_end(&mut body);
    match read {
        Err(error) => Err(corrupt(encoding, &error)),
        Ok(_) if body.len() > limits.inflated => Err(BodyError::Inflated { limit: limits.inflated }),
        Ok(_) => Ok(body.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Bytes {
        Encoding::Gzip.compress(bytes).unwrap().into()
    }

    #[test]
    fn compressed_bodies_are_inflated() {
        let text = b"{\"a\":1}".repeat(100);
        let limits = Limits::default();
        assert_eq!(decode(&gzip(&text), Some("gzip"), &limits).unwrap(), text);
        let zstd: Bytes = Encoding::Zstd.compress(&text).unwrap().into();
        assert_eq!(decode(&zstd, Some("ZSTD"), &limits).unwrap(), text);
    }

    #[test]
    fn a_small_body_that_inflates_beyond_the_limit_is_refused() {
        let bomb = gzip(&vec![0; 1 << 20]);
        let limits = Limits { inflated: 1 << 16, ..Limits::default() };
        assert_eq!(decode(&bomb, Some("gzip"), &limits), Err(BodyError::Inflated { limit: 1 << 16 }));
    }

    #[test]
    fn what_is_not_gzip_is_said_to_be_so() {
        let error = decode(&Bytes::from_static(b"plain"), Some("gzip"), &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), "content-encoding");
        assert!(decode(&Bytes::new(), Some("br"), &Limits::default()).unwrap_err().to_string().contains("br"));
    }
}
