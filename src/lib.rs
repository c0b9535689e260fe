#![doc = include_str!("../README.md")]

pub use leveret_common::{
    client::{Client, ClientError, Publish},
    clock::{Clock, UnixMillis},
    config::{BrokerSettings, BrokerUrl, TlsSettings},
    headers::{HeaderValue, Headers},
    link::{ConnectError, PublishError},
    message::Message,
    retry::{Backoff, RetryPolicy, Tiers},
    route::Route,
    task::{Task, TaskDefaults, TaskId},
    topology::{QueueName, QueueSettings, Topology},
};
pub use leveret_macros::Task;
pub use leveret_producer::{Producer, RunningProducer};
pub use leveret_worker::{
    builder::{BuildError, QueueOptions, Worker, WorkerBuilder},
    context::Context,
    handler::{Job, TaskPolicy},
    outcome::{Error, Outcome},
    run::{RunningWorker, StartError, Stopper},
};

/// The crate of what both ends of a queue agree on, whole.
pub use leveret_common as common;
/// The crate of schedules and the cron producer, whole.
pub use leveret_producer as producer;
/// The crate of the worker, whole.
pub use leveret_worker as worker;
