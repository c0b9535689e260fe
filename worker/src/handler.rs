//! What runs a task.

use std::{collections::HashMap, fmt, marker::PhantomData, ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use leveret_common::{retry::RetryPolicy, task::Task};

use crate::{
    context::Context,
    outcome::{Error, ErrorKind, Outcome},
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

/// What holds for one kind of task at a worker.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskPolicy {
    /// How often it is tried, and how long it waits in between.
    pub retry: RetryPolicy,
    /// How long one attempt may run.
    pub timeout: Duration,
}

impl Default for TaskPolicy {
    /// Eight attempts, `2s..1h` between them, ten minutes for each.
    fn default() -> Self {
        Self { retry: RetryPolicy::default(), timeout: Duration::from_secs(600) }
    }
}

impl TaskPolicy {
    /// Sets how often a failed task is tried again after the first attempt.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retry.max_attempts = retries.saturating_add(1);
        self
    }

    /// Sets the delays between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: leveret_common::retry::Backoff) -> Self {
        self.retry.backoff = backoff;
        self
    }

    /// Sets how often it is tried, how long it waits in between and when it is given up.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how long one attempt may run.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Anything that runs tasks of one kind.
pub(crate) trait Handle: Send + Sync + 'static {
    fn call(&self, context: Context, body: Bytes) -> BoxFuture<'static, Result<Outcome, Error>>;

    /// How long beyond its timeout an attempt may take to come to an end in an orderly way, before it is dropped.
    fn overtime(&self) -> Duration {
        Duration::ZERO
    }
}

/// A handler and what holds for its tasks.
pub(crate) struct Kind {
    pub(crate) policy: TaskPolicy,
    pub(crate) handler: Box<dyn Handle>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Handlers by the names of their tasks.
pub(crate) type Kinds = HashMap<String, Arc<Kind>>;

/// An async function of the context and the typed arguments.
pub(crate) struct Typed<T, F> {
    function: F,
    task: PhantomData<fn(T)>,
}

impl<T, F> Typed<T, F> {
    pub(crate) fn new(function: F) -> Self {
        Self { function, task: PhantomData }
    }
}

impl<T, F, R, O> Handle for Typed<T, F>
where
    T: Task,
    F: Fn(Context, Job<T>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, Error>> + Send + 'static,
    O: Into<Outcome> + 'static,
{
    fn call(&self, context: Context, body: Bytes) -> BoxFuture<'static, Result<Outcome, Error>> {
        match arguments(&context, &body) {
            Ok(arguments) => {
                let running = (self.function)(context, Job { arguments });
                Box::pin(async move { running.await.map(Into::into) })
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

fn arguments<T: Task>(context: &Context, body: &Bytes) -> Result<T, Error> {
    let undecodable = |message: String| Error::of(ErrorKind::Undecodable, message);
    if !is_json(context.content_type()) {
        let found = context.content_type();
        return Err(undecodable(format!("task {} takes application/json, the message says {found:?}", T::NAME)));
    }
    // An empty body stands for `null`, the arguments of a task that takes none.
    let json: &[u8] = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(json)
        .map_err(|error| undecodable(format!("the body is not what task {} takes: {error}", T::NAME)))
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json") || essence == "text/json"
}

/// An async function of the context and the body as it came.
pub(crate) struct Raw<F>(pub(crate) F);

impl<F, R, O> Handle for Raw<F>
where
    F: Fn(Context, Bytes) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, Error>> + Send + 'static,
    O: Into<Outcome> + 'static,
{
    fn call(&self, context: Context, body: Bytes) -> BoxFuture<'static, Result<Outcome, Error>> {
        let running = (self.0)(context, body);
        Box::pin(async move { running.await.map(Into::into) })
    }
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
