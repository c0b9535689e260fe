//! The heart of the centre: decides about ticks, each exactly once, and publishes them.
//!
//! | file | what is in it |
//! |---|---|
//! | `run.rs` | [`Engine`]: starts and stops all of it |
//! | `lease.rs` | the shards that are this centre's, for as long as it beats |
//! | `agenda.rs` | what is due within the next moments; all else stays in the database |
//! | `ticker.rs` | the loop: looks, takes turns, collects what the broker has confirmed |
//! | `look.rs` | what the loop reads in the database, and what it tidies there |
//! | `turn.rs` | a turn: everything that is due becomes decisions and messages, in one transaction |
//! | `decide.rs` | which ticks of a schedule run, and which were missed |
//! | `record.rs` | writes down that tasks are published, and tells followers |
//! | `settle.rs` | what came of publishes, on its way into the database |
//! | `overlap.rs` | what becomes of a tick whose predecessor has not ended |
//! | `plans.rs` | definitions that were read, so that they need not be read each time |
//! | `dispatch.rs` | publishes, and says what came of it |
//! | `declare.rs` | declares queues that are not there |
//! | `cancel.rs` | tells workers to stop runs |
//! | `stats.rs` | what is counted and measured |
//!
//! All centres are active. Each holds a fair part of the shards, by a lease that it renews by beating; what it decides
//! holds only if the shard is still its own when the transaction is committed. So a centre that was stopped, or whose
//! clock leaped, changes nothing any more.

mod agenda;
mod cancel;
mod decide;
mod declare;
mod dispatch;
mod lease;
mod look;
mod overlap;
mod plans;
mod record;
mod run;
mod settle;
mod stats;
mod ticker;
mod turn;

pub use declare::QueueSettingsOf;
pub use run::{Engine, EngineError, EngineOptions, RunningEngine};
pub use stats::{EngineHealth, EngineStats};
