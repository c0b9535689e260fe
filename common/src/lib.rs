//! What both ends of a Leveret queue must agree on: the wire contract, the topology and the link to the broker.
//!
//! | module | what is in it |
//! |---|---|
//! | [`task`] | [`Task`](task::Task), a typed task, and [`TaskId`](task::TaskId) |
//! | [`message`] | [`Message`](message::Message), what a publisher sends |
//! | [`wire`] | messages to and from AMQP: properties, headers, body |
//! | [`topology`] | every exchange, queue and binding as one value: declare, compare, export |
//! | [`retry`] | when a failed task runs again, and the tiers that delay it |
//! | [`limit`] | how many tasks run at once and begin in a time: the `[limits]` tables |
//! | [`link`] | connections, the publisher, the consumer, the channel pool |
//! | [`client`] | [`Client`](client::Client), which publishes tasks |
//! | [`dead_letters`] | [`DeadLetters`](dead_letters::DeadLetters): look at them, replay them, remove them |
//! | [`config`] | the `[broker]` and `[queues]` tables of `leveret.toml` |
//! | [`clock`] | the one clock, which tests can hold still |
//! | [`metrics`], [`trace_context`], `telemetry` | what is counted, traced and logged |

pub mod client;
pub mod clock;
pub mod config;
pub mod dead_letters;
pub mod duration;
pub mod headers;
pub mod limit;
pub mod link;
pub mod message;
pub mod metrics;
pub mod retry;
pub mod task;
#[cfg(feature = "telemetry")]
pub mod telemetry;
pub mod topology;
pub mod trace_context;
pub mod wire;
