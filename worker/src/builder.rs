//! Putting a worker together.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use leveret_common::{
    clock::Clock,
    config::{BrokerSettings, InvalidSetting},
    task::{Task, TaskDefaults},
    topology::{InvalidName, QueueName, QueueSettings, Topology},
};

use crate::{
    context::Context,
    exec::{ExecSettings, ExecSettingsError},
    exec_handler::ExecHandler,
    handler::{Handle, Job, Kind, Kinds, Raw, TaskPolicy, Typed},
    outcome::{Error, Outcome},
};

/// Tasks that a worker runs at once per queue, unless told otherwise.
pub const DEFAULT_CONCURRENCY: usize = 16;
/// How long running tasks may go on after a worker was told to stop, unless told otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// How a worker consumes from one queue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueueOptions {
    /// Tasks that run at once.
    pub concurrency: usize,
    /// Deliveries that may be here unsettled. Default: the concurrency while that is under 8, twice as many from
    /// there on: a slow task then holds back none that another worker could run.
    pub prefetch: Option<u16>,
    /// The queue's settings at the broker.
    pub settings: QueueSettings,
}

impl QueueOptions {
    /// So many tasks at once.
    pub fn concurrency(concurrency: usize) -> Self {
        Self { concurrency, prefetch: None, settings: QueueSettings::default() }
    }

    /// Sets how many deliveries may be here unsettled.
    #[must_use]
    pub fn prefetch(mut self, prefetch: u16) -> Self {
        self.prefetch = Some(prefetch);
        self
    }

    /// Sets the queue's settings at the broker.
    #[must_use]
    pub fn settings(mut self, settings: QueueSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The prefetch that is used.
    pub fn effective_prefetch(&self) -> u16 {
        let wanted = if self.concurrency < 8 { self.concurrency } else { self.concurrency.saturating_mul(2) };
        self.prefetch.unwrap_or_else(|| u16::try_from(wanted).unwrap_or(u16::MAX)).max(1)
    }
}

impl From<usize> for QueueOptions {
    fn from(concurrency: usize) -> Self {
        Self::concurrency(concurrency)
    }
}

/// A worker that has not been started. Made by [`Worker::builder`].
#[derive(Debug)]
pub struct Worker {
    pub(crate) settings: Arc<BrokerSettings>,
    pub(crate) queues: BTreeMap<QueueName, QueueOptions>,
    pub(crate) kinds: Kinds,
    pub(crate) grace: Duration,
    pub(crate) clock: Clock,
}

impl Worker {
    /// Begins a worker for the broker of `settings`.
    pub fn builder(settings: BrokerSettings) -> WorkerBuilder {
        WorkerBuilder {
            settings,
            queues: Vec::new(),
            kinds: Vec::new(),
            policy: TaskPolicy::default(),
            grace: DEFAULT_GRACE,
            clock: Clock::system(),
        }
    }

    /// The queues of this worker, with their tiers and dead-letter queues.
    ///
    /// # Errors
    /// [`InvalidName`] when the namespace breaks the rules of names.
    pub fn topology(&self) -> Result<Topology, InvalidName> {
        let empty = Topology::new(&self.settings.namespace)?;
        Ok(self
            .queues
            .iter()
            .fold(empty, |topology, (name, options)| topology.queue(name.clone(), options.settings.clone())))
    }
}

/// Puts a [`Worker`] together.
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct WorkerBuilder {
    settings: BrokerSettings,
    queues: Vec<(String, QueueOptions)>,
    kinds: Vec<Registration>,
    policy: TaskPolicy,
    grace: Duration,
    clock: Clock,
}

#[derive(Debug)]
struct Registration {
    name: String,
    /// The queue that the task is published to by default.
    queue: String,
    /// What the task itself says; the rest comes from the worker's policy when it is built.
    policy: PolicyParts,
    handler: Handler,
}

struct Handler(Box<dyn Handle>);

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handler")
    }
}

#[derive(Debug)]
enum PolicyParts {
    Defaults(TaskDefaults),
    Whole(TaskPolicy),
}

impl WorkerBuilder {
    /// Sets the worker's name, shown in logs, in the console and on dead letters. Default: that of the broker
    /// settings.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Consumes from a queue: `.queue("mail", 8)` runs eight tasks of it at once. Without any, the worker consumes
    /// from the queues of its tasks' defaults.
    pub fn queue(mut self, name: &str, options: impl Into<QueueOptions>) -> Self {
        self.queues.push((name.to_owned(), options.into()));
        self
    }

    /// What holds for tasks that say nothing themselves. Default: eight attempts, `2s..1h` between them, ten
    /// minutes for each.
    pub fn policy(mut self, policy: TaskPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How long running tasks may go on after the worker was told to stop. Default 30 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The clock that delays and expiry are read from. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Runs tasks of type `T` with an async function: `async fn send(cx: Context, job: Job<SendEmail>) ->
    /// Result<Outcome, Error>`. A function that returns `Result<(), Error>` will do as well.
    pub fn task<T, F, R, O>(self, function: F) -> Self
    where
        T: Task,
        F: Fn(Context, Job<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, Error>> + Send + 'static,
        O: Into<Outcome> + 'static,
    {
        let defaults = T::DEFAULTS;
        let policy = PolicyParts::Defaults(defaults);
        self.register(T::NAME, defaults.queue, policy, Box::new(Typed::new(function)))
    }

    /// Runs tasks named `name` with an async function that gets the body as it came, of any media type.
    pub fn raw<F, R, O>(self, name: &str, policy: TaskPolicy, function: F) -> Self
    where
        F: Fn(Context, Bytes) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, Error>> + Send + 'static,
        O: Into<Outcome> + 'static,
    {
        self.register(name, "default", PolicyParts::Whole(policy), Box::new(Raw(function)))
    }

    /// Runs tasks named `name` as a command or an HTTP call.
    ///
    /// # Errors
    /// [`ExecSettingsError`] when the settings cannot work.
    pub fn exec(self, name: &str, settings: &ExecSettings) -> Result<Self, ExecSettingsError> {
        let handler = ExecHandler::new(settings)?;
        let policy = PolicyParts::Defaults(settings.defaults());
        Ok(self.register(name, &settings.queue, policy, Box::new(handler)))
    }

    fn register(mut self, name: &str, queue: &str, policy: PolicyParts, handler: Box<dyn Handle>) -> Self {
        self.kinds.push(Registration {
            name: name.to_owned(),
            queue: queue.to_owned(),
            policy,
            handler: Handler(handler),
        });
        self
    }

    /// Checks it all.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<Worker, BuildError> {
        self.settings.check()?;
        if self.kinds.is_empty() {
            return Err(BuildError::NoTasks);
        }
        let mut kinds: Kinds = HashMap::new();
        let mut default_queues = Vec::new();
        for Registration { name, queue, policy, handler } in self.kinds {
            let policy = match policy {
                PolicyParts::Whole(policy) => policy,
                PolicyParts::Defaults(task) => TaskPolicy {
                    timeout: task.timeout.unwrap_or(self.policy.timeout),
                    retry: task.retry_policy(&self.policy.retry),
                },
            };
            if policy.timeout.is_zero() {
                return Err(BuildError::NoTime { task: name });
            }
            default_queues.push(queue);
            let kind = Arc::new(Kind { policy, handler: handler.0 });
            if kinds.insert(name.clone(), kind).is_some() {
                return Err(BuildError::TwoHandlers { task: name });
            }
        }
        let mut queues = BTreeMap::new();
        for (name, options) in self.queues {
            if options.concurrency == 0 || options.concurrency > usize::from(u16::MAX) {
                return Err(BuildError::Concurrency { queue: name, concurrency: options.concurrency });
            }
            if queues.insert(QueueName::new(&name)?, options).is_some() {
                return Err(BuildError::TwiceTheQueue { queue: name });
            }
        }
        if queues.is_empty() {
            for name in default_queues {
                queues.insert(QueueName::new(&name)?, DEFAULT_CONCURRENCY.into());
            }
        }
        Ok(Worker { settings: Arc::new(self.settings), queues, kinds, grace: self.grace, clock: self.clock })
    }
}

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
    /// A timeout of zero.
    #[error("task {task:?} has a timeout of zero, which leaves it no time to run")]
    NoTime {
        /// The task.
        task: String,
    },
    /// A queue's name breaks the rules.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A setting cannot work.
    #[error(transparent)]
    Settings(#[from] InvalidSetting),
}
