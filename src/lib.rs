#![doc = include_str!("../README.md")]

#[cfg(feature = "schema")]
pub use leveret_common::schemars;
#[doc(hidden)]
pub use leveret_common::task::__private;
pub use leveret_common::{
    client::{Client, ClientError, Publish},
    clock::{Clock, UnixMillis},
    config::{BrokerSettings, BrokerUrl, TlsSettings},
    headers::{HeaderValue, Headers},
    limit::{LimitSettings, Rate},
    link::{ConnectError, PublishError},
    message::Message,
    once,
    retry::{Backoff, Failed, Jitter, Retry, RetryPolicy, Tiers},
    route::Route,
    task::{Task, TaskDefaults, TaskId, Unique},
    topology::{QueueName, QueueSettings, Topology},
    wire::Encoding,
};
pub use leveret_macros::Task;
pub use leveret_producer::{Producer, RunningProducer};
pub use leveret_worker::{
    builder::{BuildError, Worker, WorkerBuilder},
    context::{Cancelled, Context, Progress},
    handler::{Batch, BatchJob, BatchOptions, Handler, Job},
    layer::{self, Layer, Next},
    options::{PoolOptions, QueueOptions},
    outcome::{Ended, Error, Outcome, Reply},
    policy::TaskPolicy,
    run::{RunningWorker, StartError, Stopper},
    steering::Steering,
};

/// The crate of what both ends of a queue agree on, whole.
pub use leveret_common as common;
/// The crate of schedules and the cron producer, whole.
pub use leveret_producer as producer;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
/// The crate of the stores: marks of what was done, and the outbox.
pub use leveret_store as store;
/// The crate of the worker, whole.
pub use leveret_worker as worker;
