//! A real RabbitMQ for every test, and the faults to go with it.
//!
//! - [`Broker::shared`] finds the broker, or starts it through `rabbitmq/up`; [`Broker::vhost`] gives a test its own
//!   virtual host, so tests run side by side without seeing each other.
//! - [`Vhost`] looks into queues, takes messages out, closes connections as an operator would, and has [`User`]s who may
//!   not do everything.
//! - [`Node::private`] is a broker that one test may stop, kill and start again.
//! - [`FaultProxy`] stands between a client and the broker and cuts, refuses, stalls or delays.
//! - [`Postgres::shared`] and [`Redis::shared`] do for databases what the broker does: a test has its own [`Database`],
//!   or its own prefix of keys.
//! - [`eventually`] waits for a condition with a deadline; nothing here sleeps and hopes.
//! - [`foreign`] runs clients in other languages: pika, npm's amqplib and `amqp-publish`.
//!
//! A helper that cannot do its work panics and says why, because that is what fails a test. Every wait has a deadline.
//! This is the one library of the workspace that reads the environment (`AMQP_URL`, `POSTGRES_URL`, `REDIS_URL`): it runs in tests only, where no
//! binary stands in front of it.

#![expect(clippy::panic, reason = "a test helper reports by failing the test")]

mod broker;
mod eventually;
pub mod foreign;
mod management;
mod message;
mod node;
mod proxy;
mod script;
mod services;
mod user;
mod vhost;

pub use broker::Broker;
pub use eventually::{Answer, eventually, eventually_eq};
pub use message::Message;
pub use node::{ClientCertificates, Node};
pub use proxy::{Direction, FaultProxy};
pub use services::{Database, Postgres, Redis};
pub use user::{Permissions, User};
pub use vhost::{Connection, Depth, Vhost};
