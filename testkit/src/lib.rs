//! Tests of tasks, with RabbitMQ and without.
//!
//! Without: [`MemoryBroker`] is a broker in the memory of the test, under a clock that stands still. The client and the
//! worker are the real ones.
//!
//! ```no_run
//! # async fn example(builder: impl Fn(leveret_common::config::BrokerSettings) -> leveret_worker::builder::WorkerBuilder) {
//! let broker = leveret_testkit::MemoryBroker::new();
//! let mut worker = broker.worker(builder(broker.settings())).await;
//! // Publish through `broker.client().await`, then:
//! let report = worker.run_to_end().await;
//! assert_eq!(report.len(), 1, "{report}");
//! # }
//! ```
//!
//! With, and the feature `broker`: a real RabbitMQ for every test, and the faults to go with it.
//!
//! - `Broker::shared` finds the broker, or starts it through `rabbitmq/up`; `Broker::vhost` gives a test its own
//!   virtual host, so tests run side by side without seeing each other.
//! - `Vhost` looks into queues, takes messages out, closes connections as an operator would, and has `User`s who may
//!   not do everything.
//! - `Node::private` is a broker that one test may stop, kill and start again.
//! - `FaultProxy` stands between a client and the broker and cuts, refuses, stalls or delays.
//! - `Postgres::shared` and `Redis::shared` do for databases what the broker does: a test has its own `Database`, or its
//!   own prefix of keys.
//! - `foreign` runs clients in other languages: pika, npm's amqplib and `amqp-publish`.
//!
//! [`eventually`] waits for a condition with a deadline; nothing here sleeps and hopes.
//!
//! A helper that cannot do its work panics and says why, because that is what fails a test. Every wait has a deadline.
//! These alone read the environment (`AMQP_URL`, `POSTGRES_URL`, `REDIS_URL`): they run in tests only, where no binary
//! stands in front of them.

#![expect(clippy::panic, reason = "a test helper reports by failing the test")]

#[cfg(feature = "broker")]
mod broker;
mod eventually;
#[cfg(feature = "broker")]
pub mod foreign;
#[cfg(feature = "broker")]
mod management;
mod memory;
mod message;
#[cfg(feature = "broker")]
mod node;
#[cfg(feature = "broker")]
mod proxy;
#[cfg(feature = "broker")]
mod script;
#[cfg(feature = "broker")]
mod services;
#[cfg(feature = "broker")]
mod user;
#[cfg(feature = "broker")]
mod vhost;

#[cfg(feature = "broker")]
pub use broker::Broker;
pub use eventually::{Answer, eventually, eventually_eq};
pub use memory::{End, Handled, MemoryBroker, Report, TestTask, TestWorker, Worked};
pub use message::Message;
#[cfg(feature = "broker")]
pub use node::{ClientCertificates, Node};
#[cfg(feature = "broker")]
pub use proxy::{Direction, FaultProxy};
#[cfg(feature = "broker")]
pub use services::{Database, Postgres, Redis};
#[cfg(feature = "broker")]
pub use user::{Permissions, User};
#[cfg(feature = "broker")]
pub use vhost::{Connection, Depth, Vhost};
