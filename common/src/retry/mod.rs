//! When a failed task runs again, and the tiers of queues that any delay is made of.
//!
//! | file | what is in it |
//! |---|---|
//! | `backoff.rs` | [`Backoff`], the delays between attempts, with their [`Jitter`] |
//! | `text.rs` | a backoff as text: `2s..1h`, `linear 10s..5m`, `1s,5s,30s`, `30s equal` |
//! | `policy.rs` | [`RetryPolicy`]: how often, with which delays, for how long, upon which failures |
//! | `tiers.rs` | [`Tiers`], the delays that have a queue of their own |

mod backoff;
mod policy;
mod text;
mod tiers;

#[cfg(test)]
pub(crate) use backoff::tests::any_backoff;
pub use backoff::{Backoff, Jitter};
pub use policy::{Decide, Failed, Retry, RetryPolicy};
pub use text::{InvalidBackoff, Problem};
pub use tiers::{InvalidTiers, Tiers};
