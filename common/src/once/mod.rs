//! Work that takes effect once: marks of what has been done, and the seam to where they are kept.
//!
//! RabbitMQ delivers at least once. A worker that is killed between its work and its acknowledgement gets the task
//! again, and a publisher that saw no confirm publishes it again. A [`Mark`] names what must not take effect twice: a
//! task by its id, or all tasks of a name with the same `unique` key within a window. Before the handler runs, the
//! mark is [claimed](OnceStore::claim); the [`Claim`] says whether to run it.
//!
//! ```
//! # use leveret_common::{clock::Clock, once::{Claim, Mark, MemoryOnce, OnceStore}, task::TaskId};
//! # async fn run() -> Result<(), leveret_common::once::OnceError> {
//! let once = MemoryOnce::new(Clock::system());
//! let mark = Mark::of_task(&TaskId::new(), "worker-1");
//! let redelivered = false; // as the broker marks the message
//! match once.claim(&mark, redelivered).await? {
//!     Claim::First => {
//!         // Run the handler; while it runs, extend the claim each third of its lease. Then one of:
//!         once.done(&mark).await?; // it took effect
//!         // once.release(&mark)   // it failed, and will be tried again
//!         // once.forget(&mark)    // it failed for good, or was discarded
//!     }
//!     Claim::Done => {}                // acknowledge: the work was done before
//!     Claim::Duplicate { of: _ } => {} // acknowledge: another task did this, or is at it
//!     Claim::Busy { until: _ } => {}   // another worker is at it: look again then
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`MemoryOnce`] remembers as long as its process lives. `leveret-store` has stores that outlive it, and a way to
//! commit the mark together with the work.

mod key;
mod mark;
mod memory;
mod store;

pub use mark::Mark;
pub use memory::MemoryOnce;
pub use store::{Claim, OnceError, OnceStore};
