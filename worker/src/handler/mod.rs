//! What runs a task.

pub(crate) mod batch;
pub(crate) mod blocking;
pub(crate) mod function;

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use leveret_common::{metrics::TaskMetrics, task::Task};

pub use batch::{Batch, BatchJob, BatchOptions};

use crate::{
    context::Context,
    layer::Layers,
    limits::Gate,
    outcome::{Ended, Error, ErrorKind, Outcome},
    policy::TaskPolicy,
};

/// The arguments of one task.
#[derive(Clone, Debug)]
pub struct Job<T> {
    /// The arguments.
    pub arguments: T,
}

impl<T> Deref for Job<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.arguments
    }
}

/// A handler as a type of its own, for one that has fields. An async function does for most.
///
/// ```
/// use leveret_common::task::Task;
/// use leveret_worker::{context::Context, handler::{Handler, Job}, outcome::{Error, Outcome}};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct SendEmail { to: String }
/// # impl Task for SendEmail { const NAME: &'static str = "email.send"; }
///
/// struct Mailer { sender: String }
///
/// impl Handler for Mailer {
///     type Task = SendEmail;
///
///     async fn run(&self, _: Context, job: Job<SendEmail>) -> Result<Outcome, Error> {
///         println!("{} writes to {}", self.sender, job.to);
///         Ok(Outcome::Done)
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// The task that it runs.
    type Task: Task;

    /// Runs one attempt.
    fn run(&self, context: Context, job: Job<Self::Task>) -> impl Future<Output = Result<Outcome, Error>> + Send;
}

/// Anything that runs tasks of one kind.
pub(crate) trait Handle: Send + Sync + 'static {
    fn call(&self, context: Context) -> BoxFuture<'static, Ended>;

    /// How long beyond its timeout an attempt may take to come to an end in an orderly way, before it is dropped.
    fn overtime(&self) -> Duration {
        Duration::ZERO
    }
}

/// A handler as it was given to the builder, and what holds for its tasks.
pub(crate) struct Registered {
    /// The queue that the task is published to by default.
    pub(crate) queue: String,
    pub(crate) policy: TaskPolicy,
    /// The JSON Schema of the arguments, if there is one.
    pub(crate) schema: Option<serde_json::Value>,
    pub(crate) layers: Layers,
    pub(crate) handler: Box<dyn Handle>,
}

/// The same at one queue of a running worker.
pub(crate) struct Kind {
    registered: Arc<Registered>,
    pub(crate) metrics: TaskMetrics,
    /// What its tasks have to pass, if a limit is for them.
    pub(crate) gate: Option<Gate>,
}

impl Kind {
    pub(crate) fn new(registered: Arc<Registered>, metrics: TaskMetrics, gate: Option<Gate>) -> Self {
        Self { registered, metrics, gate }
    }
}

impl Deref for Kind {
    type Target = Registered;
    fn deref(&self) -> &Registered {
        &self.registered
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registered.fmt(f)
    }
}

/// The typed arguments of a task.
pub(crate) fn arguments<T: Task>(context: &Context) -> Result<Job<T>, Error> {
    let undecodable = |message: String| Error::of(ErrorKind::Undecodable, message);
    if !is_json(context.content_type()) {
        let found = context.content_type();
        return Err(undecodable(format!("task {} takes application/json, the message says {found:?}", T::NAME)));
    }
    let body = context.body();
    // An empty body stands for `null`, the arguments of a task that takes none.
    let json: &[u8] = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(json)
        .map(|arguments| Job { arguments })
        .map_err(|error| undecodable(format!("the body is not what task {} takes: {error}", T::NAME)))
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json") || essence == "text/json"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_other_media_types() {
        for json in ["application/json", "application/json; charset=utf-8", "application/problem+json"] {
            assert!(is_json(json), "{json}");
        }
        assert!(!is_json("image/png"));
    }
}
