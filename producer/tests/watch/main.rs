//! What a centre sees of tasks and workers, on both databases and a real broker.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

mod stage;

mod deaths;
mod follow;
mod rate;
mod retain;
mod search;
mod shared;
mod store;
mod workers;
