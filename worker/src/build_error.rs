//! Why a worker cannot be built.

use leveret_common::{
    config::InvalidSetting,
    limit::InvalidTerms,
    topology::{InvalidName, InvalidQueueSettings},
};

/// The worker cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No handler was given.
    #[error("the worker has no tasks: add some with `.task(..)`, or as [tasks.\"name\"] tables in leveret.toml")]
    NoTasks,
    /// Two handlers have the same name.
    #[error("two handlers are given for task {task:?}: a task has one handler, so remove or rename one of them")]
    TwoHandlers {
        /// The task.
        task: String,
    },
    /// A queue was given twice.
    #[error("queue {queue:?} is given twice: give it once, with the concurrency that you want")]
    TwiceTheQueue {
        /// The queue.
        queue: String,
    },
    /// The concurrency is out of range.
    #[error("queue {queue:?} cannot run {concurrency} tasks at once: choose 1 to 65535")]
    Concurrency {
        /// The queue.
        queue: String,
        /// What was given.
        concurrency: usize,
    },
    /// The settings of a queue cannot work.
    #[error("queue {queue:?}")]
    Queue {
        /// The queue.
        queue: String,
        /// What is wrong with them.
        source: InvalidQueueSettings,
    },
    /// A pool has no queue.
    #[error("a pool has no queue: name those that its runners are to serve")]
    EmptyPool,
    /// A policy or a layer was given for a task without a handler.
    #[error("task {task:?} has a policy or a layer, and no handler: is its name right?")]
    NoHandler {
        /// The task.
        task: String,
    },
    /// A task may run for longer than the broker leaves a delivery unacknowledged.
    #[error(
        "task {task:?} may run for {timeout}, and RabbitMQ takes back what is not acknowledged within {limit}, to give it \
         to another worker: mark the task `long`, or raise consumer_timeout in RabbitMQ's configuration and in [broker] \
         alike"
    )]
    TooLong {
        /// The task.
        task: String,
        /// Its timeout.
        timeout: String,
        /// The broker's limit, as the settings have it.
        limit: String,
    },
    /// A long task where tasks keep their order.
    #[error(
        "task {task:?} may run for longer than RabbitMQ waits for an acknowledgement, and queue {queue:?} keeps an order, \
         in which no task can be long: consume one of them in a worker of its own, or raise consumer_timeout in RabbitMQ's \
         configuration and in [broker] alike"
    )]
    LongInOrder {
        /// The task.
        task: String,
        /// The queue.
        queue: String,
    },
    /// A timeout of zero.
    #[error("task {task:?} has a timeout of zero, which leaves it no time to run")]
    NoTime {
        /// The task.
        task: String,
    },
    /// A limit admits nothing, or everything.
    #[error("limit {name:?}: {reason}")]
    Limit {
        /// The limit.
        name: String,
        /// What is wrong with it.
        reason: InvalidTerms,
    },
    /// A limit was given twice.
    #[error("limit {name:?} is given twice: give it once, or give one of them another name")]
    TwiceTheLimit {
        /// The limit.
        name: String,
    },
    /// A name breaks the rules.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A setting cannot work.
    #[error(transparent)]
    Settings(#[from] InvalidSetting),
}
