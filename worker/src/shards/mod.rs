//! A worker's part in queues in shards: which it is subscribed to, gates and barriers, and what a failure does to the
//! order.

mod control;
mod order;
mod subscriptions;

pub use control::Control;
pub use order::{AfterFailure, HOLD_AT_MOST, after_failure};
pub use subscriptions::{OpenInlet, ShardSettings, Shards};
