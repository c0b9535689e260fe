//! Putting a worker together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use leveret_common::{
    clock::Clock,
    config::{BrokerSettings, InvalidSetting},
    duration,
    limit::{InvalidTerms, LimitName, LimitSettings},
    registry::{About, Instance, TaskAbout},
    task::{Task, TaskDefaults},
    topology::{InvalidName, InvalidQueueSettings, QueueName, Topology},
};

use crate::{
    context::Context,
    control::{ControlSettings, Who},
    exec::{ExecSettings, ExecSettingsError},
    exec_handler::ExecHandler,
    handler::{
        Batch, BatchOptions, Handle, Handler, Job, Registered,
        batch::Batched,
        blocking::{Blocking, BlockingThreads},
        function::{Own, Raw, Typed},
    },
    layer::{Layer, Metrics, TimeLimit, Tracing},
    limits::Limits,
    options::{DEFAULT_CONCURRENCY, PoolOptions, QueueOptions},
    outcome::{Error, Outcome},
    policy::TaskPolicy,
    state::State,
};

/// How long running tasks may go on after a worker was told to stop, unless told otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Threads for functions that block, unless told otherwise.
pub const DEFAULT_BLOCKING_THREADS: usize = 16;

/// A worker that has not been started. Made by [`Worker::builder`].
#[derive(Debug)]
pub struct Worker {
    pub(crate) settings: Arc<BrokerSettings>,
    pub(crate) instance: Instance,
    /// Its share relative to others, where tasks are shared out by weight.
    weight: u32,
    /// How it is steered and announced, if it is.
    pub(crate) control: Option<ControlSettings>,
    pub(crate) pools: Vec<PoolPlan>,
    pub(crate) kinds: HashMap<String, Arc<Registered>>,
    pub(crate) state: Arc<State>,
    pub(crate) limits: BTreeMap<LimitName, LimitSettings>,
    pub(crate) grace: Duration,
    pub(crate) clock: Clock,
}

/// A pool as it was checked.
#[derive(Debug)]
pub(crate) struct PoolPlan {
    pub(crate) concurrency: usize,
    pub(crate) queues: Vec<QueuePlan>,
}

/// A queue of a pool as it was checked.
#[derive(Debug)]
pub(crate) struct QueuePlan {
    pub(crate) name: QueueName,
    pub(crate) weight: u32,
    pub(crate) options: QueueOptions,
}

impl Worker {
    /// Begins a worker for the broker of `settings`.
    pub fn builder(settings: BrokerSettings) -> WorkerBuilder {
        WorkerBuilder {
            settings,
            pools: Vec::new(),
            registrations: Vec::new(),
            changes: Vec::new(),
            layers: Vec::new(),
            task_layers: Vec::new(),
            default_layers: true,
            state: State::default(),
            policy: TaskPolicy::default(),
            blocking: BlockingThreads::new(DEFAULT_BLOCKING_THREADS),
            limits: Vec::new(),
            grace: DEFAULT_GRACE,
            clock: Clock::system(),
            weight: 1,
            control: Some(ControlSettings::default()),
        }
    }

    /// Sets how it is steered from afar and announced; see [`WorkerBuilder::control`].
    #[must_use]
    pub fn control(mut self, settings: ControlSettings) -> Self {
        self.control = Some(settings);
        self
    }

    /// The names of its queues.
    pub(crate) fn queues(&self) -> Vec<QueueName> {
        self.pools.iter().flat_map(|pool| &pool.queues).map(|queue| queue.name.clone()).collect()
    }

    /// Whether it has to know who else is alive: for routes, and for shards with an order.
    pub(crate) fn wants_peers(&self) -> bool {
        let mut queues = self.pools.iter().flat_map(|pool| &pool.queues);
        queues.any(|queue| queue.options.settings.is_routed() || queue.options.settings.is_ordered())
    }

    /// What it says about itself when it starts.
    pub(crate) fn who(&self) -> Who {
        let about = |(name, kind): (&String, &Arc<Registered>)| TaskAbout {
            name: name.clone(),
            queue: Some(kind.queue.clone()),
            schema: kind.schema.clone(),
        };
        let mut tasks: Vec<_> = self.kinds.iter().map(about).collect();
        tasks.sort_by(|one, other| one.name.cmp(&other.name));
        Who {
            name: self.settings.name.clone(),
            instance: self.instance,
            weight: self.weight,
            about: About::this_process(self.clock.now(), tasks),
        }
    }

    /// The queues of this worker, with their tiers and dead-letter queues, and that of the limits that it shares.
    ///
    /// # Errors
    /// [`InvalidName`] when the namespace breaks the rules of names.
    pub fn topology(&self) -> Result<Topology, InvalidName> {
        let empty = Topology::new(&self.settings.namespace)?.worker(&self.settings.name);
        let empty = if Limits::are_shared(&self.limits) { empty.limits() } else { empty };
        let queues = self.pools.iter().flat_map(|pool| &pool.queues);
        Ok(queues.fold(empty, |topology, queue| topology.queue(queue.name.clone(), queue.options.settings.clone())))
    }
}

/// Puts a [`Worker`] together.
#[must_use = "call `build`"]
pub struct WorkerBuilder {
    settings: BrokerSettings,
    pools: Vec<PoolOptions>,
    registrations: Vec<Registration>,
    changes: Vec<(String, PolicyChange)>,
    layers: Vec<Arc<dyn Layer>>,
    task_layers: Vec<(String, Arc<dyn Layer>)>,
    default_layers: bool,
    state: State,
    policy: TaskPolicy,
    blocking: BlockingThreads,
    limits: Vec<(String, LimitSettings)>,
    grace: Duration,
    clock: Clock,
    weight: u32,
    control: Option<ControlSettings>,
}

/// A change of what holds for one task.
type PolicyChange = Box<dyn FnOnce(TaskPolicy) -> TaskPolicy + Send>;

/// A handler, and what its task says of itself.
struct Registration {
    name: String,
    /// The queue that the task is published to by default.
    queue: String,
    /// What the task itself says, over the worker's policy.
    policy: PolicyChange,
    /// The JSON Schema of its arguments, if there is one.
    schema: Option<serde_json::Value>,
    handler: Box<dyn Handle>,
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks: Vec<_> = self.registrations.iter().map(|registration| &registration.name).collect();
        f.debug_struct("WorkerBuilder")
            .field("name", &self.settings.name)
            .field("tasks", &tasks)
            .field("pools", &self.pools)
            .finish_non_exhaustive()
    }
}

impl WorkerBuilder {
    /// Sets the worker's name, shown in logs, in the console and on dead letters. Replicas may share it. Default: that
    /// of the broker settings.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Consumes from a queue: `.queue("mail", 8)` runs eight tasks of it at once. Without any, the worker consumes
    /// from the queues of its tasks' defaults.
    pub fn queue(self, name: &str, options: impl Into<QueueOptions>) -> Self {
        let options = options.into();
        self.pool(PoolOptions::concurrency(options.concurrency).queue_with(name, 1, options))
    }

    /// Consumes from several queues with the same runners, in turns by weight.
    pub fn pool(mut self, pool: PoolOptions) -> Self {
        self.pools.push(pool);
        self
    }

    /// What holds for tasks that say nothing themselves. Default: eight attempts, `2s..1h` between them, ten
    /// minutes for each.
    pub fn policy(mut self, policy: TaskPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Changes what holds for one task, over what it says of itself.
    pub fn policy_for(mut self, task: &str, change: impl FnOnce(TaskPolicy) -> TaskPolicy + Send + 'static) -> Self {
        self.changes.push((task.to_owned(), Box::new(change)));
        self
    }

    /// Limits how many tasks run at once, and how many begin in a time. All workers with a limit of this name share it,
    /// unless it is per worker.
    pub fn limit(mut self, name: impl Into<String>, settings: LimitSettings) -> Self {
        self.limits.push((name.into(), settings));
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

    /// Sets its share relative to other workers, where tasks are shared out by weight. Default 1.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets how it is steered from afar and announced. By default it is, and beats every two seconds.
    pub fn control(mut self, settings: ControlSettings) -> Self {
        self.control = Some(settings);
        self
    }

    /// Hears no commands, and says nothing of itself: nobody can list it, steer it, or pause its queues everywhere.
    pub fn without_control(mut self) -> Self {
        self.control = None;
        self
    }

    /// Shares a value with all handlers, which find it by its type: see [`Context::state`].
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Puts a layer around the attempts at all tasks; the first that is added is the outermost.
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }

    /// Puts a layer around the attempts at one task, inside of those for all.
    pub fn layer_for(mut self, task: &str, layer: impl Layer) -> Self {
        self.task_layers.push((task.to_owned(), Arc::new(layer)));
        self
    }

    /// Leaves out [`Tracing`], [`Metrics`] and [`TimeLimit`], which are there by default. Without the last, no task
    /// has a timeout, unless it is a command or an HTTP call.
    pub fn without_default_layers(mut self) -> Self {
        self.default_layers = false;
        self
    }

    /// How many functions that block may run at once, on threads of their own. Applies to those that are added after
    /// it. Default 16.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.blocking = BlockingThreads::new(threads);
        self
    }

    /// Runs tasks of type `T` with an async function: `async fn send(cx: Context, job: Job<SendEmail>) ->
    /// Result<Outcome, Error>`. A function that returns `Result<(), Error>` or `Result<Reply<T>, Error>` will do too.
    pub fn task<T, F, R, O>(self, function: F) -> Self
    where
        T: Task,
        F: Fn(Context, Job<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, Error>> + Send + 'static,
        O: Into<Outcome> + 'static,
    {
        self.typed::<T>(Box::new(Typed::new(function)))
    }

    /// Runs tasks of type `T` with a function that blocks its thread, such as one that computes for long or reads
    /// files. When its time is over the attempt is given up, but the thread is only free once the function returns:
    /// it should look at [`Context::cancellation`] now and then.
    pub fn task_blocking<T, F, O>(self, function: F) -> Self
    where
        T: Task,
        F: Fn(Context, Job<T>) -> Result<O, Error> + Send + Sync + 'static,
        O: Into<Outcome> + 'static,
    {
        let threads = self.blocking.clone();
        self.typed::<T>(Box::new(Blocking::new(function, threads)))
    }

    /// Runs tasks of type `T` several at a time, each settled by itself; see [`Batch`].
    pub fn task_batch<T, F, R>(self, options: BatchOptions, function: F) -> Self
    where
        T: Task,
        F: Fn(Batch<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.typed::<T>(Box::new(Batched::new(options, function)))
    }

    /// Runs tasks with a handler of one's own type.
    pub fn handler<H: Handler>(self, handler: H) -> Self {
        self.typed::<H::Task>(Box::new(Own(Arc::new(handler))))
    }

    /// Runs tasks named `name` with an async function that gets the body as it came, of any media type.
    pub fn raw<F, R, O>(self, name: &str, policy: TaskPolicy, function: F) -> Self
    where
        F: Fn(Context, Bytes) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, Error>> + Send + 'static,
        O: Into<Outcome> + 'static,
    {
        self.register(name, "default", move |_| policy, None, Box::new(Raw(function)))
    }

    /// Runs tasks named `name` as a command or an HTTP call.
    ///
    /// # Errors
    /// [`ExecSettingsError`] when the settings cannot work.
    pub fn exec(self, name: &str, settings: &ExecSettings) -> Result<Self, ExecSettingsError> {
        let handler = ExecHandler::new(settings)?;
        let defaults = settings.defaults();
        let policy = move |policy| overridden(policy, &defaults);
        Ok(self.register(name, &settings.queue, policy, None, Box::new(handler)))
    }

    fn typed<T: Task>(self, handler: Box<dyn Handle>) -> Self {
        let defaults = T::DEFAULTS;
        let policy = move |policy| overridden(policy, &defaults);
        self.register(T::NAME, defaults.queue, policy, T::schema(), handler)
    }

    fn register(
        mut self,
        name: &str,
        queue: &str,
        policy: impl FnOnce(TaskPolicy) -> TaskPolicy + Send + 'static,
        schema: Option<serde_json::Value>,
        handler: Box<dyn Handle>,
    ) -> Self {
        self.registrations.push(Registration {
            name: name.to_owned(),
            queue: queue.to_owned(),
            policy: Box::new(policy),
            schema,
            handler,
        });
        self
    }

    /// Checks it all.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(mut self) -> Result<Worker, BuildError> {
        self.settings.check()?;
        if self.registrations.is_empty() {
            return Err(BuildError::NoTasks);
        }
        if self.pools.is_empty() {
            // As often as there are tasks of a queue, it is named once.
            let names: BTreeSet<_> = self.registrations.iter().map(|registration| registration.queue.clone()).collect();
            for name in names {
                self = self.queue(&name, DEFAULT_CONCURRENCY);
            }
        }
        let mut pools = plan(std::mem::take(&mut self.pools))?;
        let kinds = self.kinds()?;
        let limits = limits(std::mem::take(&mut self.limits))?;
        fit_consumer_timeout(&mut pools, &kinds, self.settings.consumer_timeout)?;
        Ok(Worker {
            settings: Arc::new(self.settings),
            instance: Instance::new(),
            weight: self.weight,
            control: self.control,
            pools,
            kinds,
            state: Arc::new(self.state),
            limits,
            grace: self.grace,
            clock: self.clock,
        })
    }

    fn kinds(&mut self) -> Result<HashMap<String, Arc<Registered>>, BuildError> {
        let mut kinds = HashMap::new();
        for Registration { name, queue, policy, schema, handler } in std::mem::take(&mut self.registrations) {
            let mut policy = policy(self.policy.clone());
            for (_, change) in self.changes.extract_if(.., |(task, _)| *task == name) {
                policy = change(policy);
            }
            if policy.timeout.is_zero() {
                return Err(BuildError::NoTime { task: name });
            }
            let kind = Registered { queue, policy, schema, layers: self.layers_of(&name).into(), handler };
            if kinds.insert(name.clone(), Arc::new(kind)).is_some() {
                return Err(BuildError::TwoHandlers { task: name });
            }
        }
        // What is left is for a task that has no handler, most likely a slip of the pen.
        let changed = self.changes.iter().map(|(task, _)| task);
        let layered = self.task_layers.iter().map(|(task, _)| task);
        match changed.chain(layered).find(|task| !kinds.contains_key(*task)) {
            Some(task) => Err(BuildError::NoHandler { task: task.clone() }),
            None => Ok(kinds),
        }
    }

    fn layers_of(&self, task: &str) -> Vec<Arc<dyn Layer>> {
        let mut layers: Vec<Arc<dyn Layer>> = Vec::new();
        if self.default_layers {
            layers.extend([Arc::new(Tracing) as Arc<dyn Layer>, Arc::new(Metrics)]);
        }
        layers.extend(self.layers.iter().cloned());
        layers.extend(self.task_layers.iter().filter(|(name, _)| name == task).map(|(_, layer)| layer.clone()));
        if self.default_layers {
            layers.push(Arc::new(TimeLimit));
        }
        layers
    }
}

/// The policy with what a task says of itself.
fn overridden(mut policy: TaskPolicy, task: &TaskDefaults) -> TaskPolicy {
    policy.timeout = task.timeout.unwrap_or(policy.timeout);
    policy.retry = task.retry_policy(&policy.retry);
    policy.long |= task.long;
    policy
}

/// Refuses tasks that may be unacknowledged for longer than the broker allows: it would give them to another worker
/// while they run. What is fetched ahead waits for what runs before it, and the broker's clock is running meanwhile: so
/// no more is fetched than can run at once where that would take too long.
fn fit_consumer_timeout(
    pools: &mut [PoolPlan],
    kinds: &HashMap<String, Arc<Registered>>,
    limit: Duration,
) -> Result<(), BuildError> {
    let short = kinds.iter().filter(|(_, kind)| !kind.policy.long);
    let Some((task, kind)) = short.max_by_key(|(_, kind)| kind.policy.timeout) else { return Ok(()) };
    let timeout = kind.policy.timeout;
    if timeout >= limit {
        let (timeout, limit) = (duration::format(timeout), duration::format(limit));
        return Err(BuildError::TooLong { task: task.clone(), timeout, limit });
    }
    for QueuePlan { options, .. } in pools.iter_mut().flat_map(|pool| &mut pool.queues) {
        let turns = usize::from(options.effective_prefetch()).div_ceil(options.concurrency);
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        // A prefetch that was chosen is trusted: short tasks are given long timeouts by default.
        if options.prefetch.is_none() && timeout.saturating_mul(turns) >= limit {
            options.prefetch = u16::try_from(options.concurrency).ok();
        }
    }
    Ok(())
}

/// Checks the limits.
fn limits(given: Vec<(String, LimitSettings)>) -> Result<BTreeMap<LimitName, LimitSettings>, BuildError> {
    let mut limits = BTreeMap::new();
    for (name, settings) in given {
        settings.check().map_err(|reason| BuildError::Limit { name: name.clone(), reason })?;
        if limits.insert(LimitName::new(&name)?, settings).is_some() {
            return Err(BuildError::TwiceTheLimit { name });
        }
    }
    Ok(limits)
}

/// Checks the pools.
fn plan(pools: Vec<PoolOptions>) -> Result<Vec<PoolPlan>, BuildError> {
    let mut seen = BTreeSet::new();
    let mut plans = Vec::new();
    for pool in pools {
        let mut queues = Vec::new();
        for (queue, weight, mut options) in pool.queues {
            options.concurrency = pool.concurrency;
            if options.concurrency == 0 || options.concurrency > usize::from(u16::MAX) {
                return Err(BuildError::Concurrency { queue, concurrency: options.concurrency });
            }
            options.settings.check().map_err(|source| BuildError::Queue { queue: queue.clone(), source })?;
            let name = QueueName::new(&queue)?;
            if !seen.insert(name.clone()) {
                return Err(BuildError::TwiceTheQueue { queue });
            }
            queues.push(QueuePlan { name, weight, options });
        }
        if queues.is_empty() {
            return Err(BuildError::EmptyPool);
        }
        plans.push(PoolPlan { concurrency: pool.concurrency, queues });
    }
    Ok(plans)
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
