//! Putting a worker together.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use leveret_common::{
    clock::Clock,
    config::BrokerSettings,
    limit::LimitSettings,
    registry::Instance,
    task::{Task, TaskDefaults},
};

pub use crate::{build_error::BuildError, plan::Worker};
use crate::{
    context::Context,
    control::ControlSettings,
    exec::{ExecSettings, ExecSettingsError},
    exec_handler::ExecHandler,
    handler::{
        Batch, BatchOptions, Handle, Handler, Job, Registered,
        batch::Batched,
        blocking::{Blocking, BlockingThreads},
        function::{Own, Raw, Typed},
    },
    layer::{Layer, Metrics, TimeLimit, Tracing},
    options::{DEFAULT_CONCURRENCY, PoolOptions, QueueOptions},
    outcome::{Error, Outcome},
    plan,
    policy::TaskPolicy,
    state::State,
};

/// How long running tasks may go on after a worker was told to stop, unless told otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Threads for functions that block, unless told otherwise.
pub const DEFAULT_BLOCKING_THREADS: usize = 16;

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

    /// Shares a value with all handlers, which find it by its type: see [`Context::state`]. Give the type of a value
    /// that has a type parameter nobody else fixes, such as `mpsc::unbounded_channel::<u32>()`: the compiler may infer
    /// another one than the handler asks for.
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
        let mut pools = plan::pools(std::mem::take(&mut self.pools))?;
        let kinds = self.kinds()?;
        let limits = plan::limits(std::mem::take(&mut self.limits))?;
        plan::fit_consumer_timeout(&mut pools, &kinds, self.settings.consumer_timeout)?;
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
