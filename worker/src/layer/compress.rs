use futures_util::future::BoxFuture;
use leveret_common::wire::Encoding;

use super::{Layer, Next};
use crate::{context::Context, outcome::Ended};

/// Compresses with zstd, from a size on, the bodies of the tasks that follow a task. What comes in is decompressed
/// without it, and what a client publishes by itself is compressed by its setting `compress_over`.
#[derive(Clone, Copy, Debug)]
pub struct Compress {
    over: usize,
}

impl Compress {
    /// Compresses bodies of more than so many bytes.
    pub const fn over(bytes: usize) -> Self {
        Self { over: bytes }
    }
}

impl Layer for Compress {
    fn around<'a>(&'a self, context: &'a Context, next: Next<'a>) -> BoxFuture<'a, Ended> {
        Box::pin(async move {
            let ended = next.run(context).await;
            context.change_follow_ups(|message| {
                if message.size() > self.over { message.compress(Encoding::Zstd) } else { message }
            });
            ended
        })
    }
}
