//! The handler behind a `[tasks."name"]` table: each attempt is one command or one HTTP call.

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    context::Context,
    exec::{ExecFailure, ExecFailureKind, ExecRequest, ExecSettings, ExecSettingsError, Executor},
    handler::Handle,
    outcome::{Ended, Error, ErrorKind, Outcome},
};

/// Runs the tasks of one table.
pub(crate) struct ExecHandler(Executor);

impl ExecHandler {
    pub(crate) fn new(settings: &ExecSettings) -> Result<Self, ExecSettingsError> {
        Ok(Self(Executor::new(settings)?))
    }
}

impl Handle for ExecHandler {
    fn call(&self, context: Context) -> BoxFuture<'static, Ended> {
        let executor = self.0.clone();
        let request = ExecRequest {
            task: context.task().to_owned(),
            task_id: context.id().to_string(),
            queue: context.queue().to_owned(),
            attempt: context.attempt(),
            max_attempts: context.max_attempts(),
            content_type: context.content_type().to_owned(),
            payload: context.body().clone(),
            traceparent: context.trace().map(|trace| trace.traceparent().to_owned()),
            timeout: Some(context.timeout()),
            cancelled: context.cancellation(),
        };
        async move {
            match executor.run(request).await {
                Ok(output) => Ok(Outcome::Result(output.result())),
                Err(failure) => Err(failed(failure)),
            }
        }
        .boxed()
    }

    fn overtime(&self) -> Duration {
        // The executor keeps the time itself, so that a command is asked to end before it is killed.
        self.0.overtime()
    }
}

fn failed(failure: ExecFailure) -> Error {
    let kind = match (failure.kind, failure.retry_after) {
        (ExecFailureKind::Retryable, Some(delay)) => ErrorKind::RetryAfter(delay),
        (ExecFailureKind::Retryable, None) => ErrorKind::Retry,
        (ExecFailureKind::Permanent, _) => ErrorKind::Reject,
        (ExecFailureKind::TimedOut, _) => ErrorKind::TimedOut,
        (ExecFailureKind::Cancelled, _) => ErrorKind::Stopped,
    };
    Error::of(kind, failure.message)
}
