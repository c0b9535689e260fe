//! What both ends of a Leveret queue must agree on: the wire contract, the topology and the link to the broker.
//!
//! | module | what is in it |
//! |---|---|
//! | [`task`] | [`Task`](task::Task), a typed task, and [`TaskId`](task::TaskId) |
//! | [`message`] | [`Message`](message::Message), what a publisher sends |
//! | [`wire`] | messages to and from AMQP: properties, headers, body |
//! | [`topology`] | every exchange, queue and binding as one value: declare, compare, export |
//! | [`route`] | which worker gets a task: the strategies |
//! | [`shards`] | queues in shards: change their number while they are at work, share them out among workers |
//! | [`retry`] | when a failed task runs again, and the tiers that delay it |
//! | [`limit`] | how many tasks run at once and begin in a time: the `[limits]` tables |
//! | [`link`] | connections, the publisher, the consumer, the channel pool |
//! | [`client`] | [`Client`](client::Client), which publishes tasks |
//! | [`dead_letters`] | [`DeadLetters`](dead_letters::DeadLetters): look at them, replay them, remove them |
//! | [`once`] | [`Mark`](once::Mark) and [`OnceStore`](once::OnceStore): work that takes effect once |
//! | [`control`] | [`Control`](control::Control): commands to workers, and pauses that last |
//! | [`counts`] | how many messages wait where |
//! | [`registry`] | [`Registry`](registry::Registry): which workers there are |
//! | [`event`] | [`Events`](event::Events): what becomes of tasks, for whoever listens |
//! | [`config`] | the `[broker]` and `[queues]` tables of `leveret.toml` |
//! | [`clock`] | the one clock, which tests can hold still |
//! | [`metrics`], [`trace_context`], `telemetry` | what is counted, traced and logged |

pub mod byte_size;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod counts;
pub mod dead_letters;
pub mod duration;
pub mod event;
pub mod headers;
pub mod limit;
pub mod link;
pub mod message;
pub mod metrics;
pub mod once;
pub mod registry;
pub mod retry;
pub mod route;
mod schema;
pub mod shards;
pub mod task;
#[cfg(feature = "telemetry")]
pub mod telemetry;
pub mod topology;
pub mod trace_context;
pub mod wire;

/// The crate of JSON Schemas, for `#[derive(schemars::JsonSchema)]` with `#[schemars(crate = "leveret::schemars")]`.
#[cfg(feature = "schema")]
pub use schemars;
