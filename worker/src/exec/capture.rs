use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How many bytes are asked of a pipe at once: what a pipe holds on Linux is 64 KiB.
const READ_SIZE: usize = 16 * 1024;

/// The last bytes of a stream; the ones before are counted and forgotten.
#[derive(Debug)]
pub(super) struct Capture {
    limit: usize,
    kept: Vec<u8>,
    truncated: bool,
}

impl Capture {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, kept: Vec::new(), truncated: false }
    }

    /// Reads the stream to its end, whatever its length: a program must never wait for us to make room.
    ///
    /// An error ends the stream; for a pipe there is none that a caller could act upon.
    pub(super) async fn drain(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = Vec::with_capacity(READ_SIZE);
        while let Ok(1..) = stream.read_buf(&mut buffer).await {
            self.push(&buffer);
            buffer.clear();
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        // Forgetting in large steps moves each byte once on average.
        if self.kept.len() > self.limit.saturating_mul(2).max(READ_SIZE) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let excess = self.kept.len().saturating_sub(self.limit);
        self.truncated |= excess > 0;
        self.kept.drain(..excess);
    }

    /// What was kept, and whether anything was forgotten.
    pub(super) fn finish(mut self) -> (Bytes, bool) {
        self.forget();
        (self.kept.into(), self.truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_bytes_are_kept() {
        let text: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        for (limit, truncated) in [(0, true), (1, true), (4096, true), (999_999, true), (1_000_000, false)] {
            let mut capture = Capture::new(limit);
            capture.drain(Some(&text[..])).await;
            assert!(capture.kept.capacity() <= 4 * limit.max(READ_SIZE), "memory is bounded by the limit");
            assert_eq!(capture.finish(), (Bytes::copy_from_slice(&text[1_000_000 - limit..]), truncated), "{limit}");
        }
    }
}
