#![doc = include_str!("../README.md")]

pub use leveret_common::{
    client::{Client, ClientError, Publish},
    clock::{Clock, UnixMillis},
    config::{BrokerSettings, BrokerUrl, TlsSettings},
    headers::{HeaderValue, Headers},
    limit::{LimitSettings, Rate},
    link::{ConnectError, PublishError},
    message::Message,
    retry::{Backoff, RetryPolicy, Tiers},
    task::{Task, TaskDefaults, TaskId},
    topology::{QueueName, QueueSettings, Topology},
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
/// The crate of the worker, whole.
pub use leveret_worker as worker;
