//! The runtime of the link: one thread of its own, so that a busy handler never starves heartbeats or acks.

use std::{future::Future, sync::OnceLock};

use tokio::runtime::{Builder, Handle, Runtime};

pub use tokio::task::JoinHandle;

/// Runs a future on the link's runtime, for work that must go on however busy the caller's runtime is.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    handle().spawn(future)
}

/// The handle of the link's runtime, started at first use and kept for the life of the process.
pub(super) fn handle() -> Handle {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    // One worker is as fast as two here: lapin reads and writes on a thread of its own per connection.
    let start = || Builder::new_multi_thread().worker_threads(1).thread_name("leveret-link").enable_all().build().ok();
    match RUNTIME.get_or_init(start) {
        Some(runtime) => runtime.handle().clone(),
        // No thread could be started: the caller's own runtime does the work.
        None => Handle::current(),
    }
}
