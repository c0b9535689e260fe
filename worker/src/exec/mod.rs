//! Tasks that run a command or call a URL: work for people who write no Rust.
//!
//! Each `[tasks."name"]` table of `leveret.toml` is one [`ExecSettings`], from which one [`Executor`] is made:
//!
//! ```toml
//! [tasks."image.thumbnail"]
//! command = ["convert", "-", "-resize", "128x128", "-"]
//! timeout = "30s"
//!
//! [tasks."order.paid"]
//! http = { url = "https://shop.example/hooks/paid", headers = { authorization = "Bearer secret" } }
//! retries = 8
//! ```
//!
//! # What the work is given
//!
//! | fact | a command finds it in | a URL finds it in |
//! |---|---|---|
//! | the arguments, as they came in the message | standard input | the body (none for `GET` and `HEAD`) |
//! | their content type | `LEVERET_CONTENT_TYPE` | `content-type` |
//! | task name | `LEVERET_TASK` | `leveret-task` |
//! | task id, the same on every attempt | `LEVERET_TASK_ID` | `leveret-task-id`, `idempotency-key` |
//! | queue | `LEVERET_QUEUE` | `leveret-queue` |
//! | attempt, from 1 | `LEVERET_ATTEMPT` | `leveret-attempt` |
//! | attempts in all | `LEVERET_MAX_ATTEMPTS` | `leveret-max-attempts` |
//! | W3C trace context, if the message carried one | `TRACEPARENT` | `traceparent` |
//!
//! # What decides
//!
//! | the work | the task |
//! |---|---|
//! | exits with 0; answers with a status in `success` (2xx) | is done; standard output or the body is its result |
//! | exits with a code in `permanent_exit_codes` (64 and 65); cannot be found or run | fails for good |
//! | exits with any other code; dies of a signal | fails, to be tried again |
//! | answers with a status in `retry` (408, 425, 429, 5xx); cannot be reached | fails, to be tried again, not before `Retry-After` |
//! | answers with any other status, a redirect too | fails for good |
//! | is still running at the timeout, or when the task is cancelled | is stopped: see [`ExecSettings::grace`] |
//!
//! # What is left behind
//!
//! Nothing. A command is the leader of its own process group, and the group ends with it: whatever is still in the group
//! when the command exits, at the timeout, on cancellation or when the future of [`Executor::run`] is dropped is killed.
//! A process that leaves the group on purpose (`setsid`) is no longer ours and lives on.

mod capture;
mod command;
mod failure;
mod group;
mod http;
mod output;
mod request;
mod settings;
mod settings_error;
mod status_set;

use std::{sync::Arc, time::Duration};

pub use failure::{ExecFailure, ExecFailureKind};
pub use output::{ExecOutput, ExecStatus};
pub use request::ExecRequest;
pub use settings::{CommandLine, ExecSettings, HttpSettings, NamedValues};
pub use settings_error::ExecSettingsError;
pub use status_set::StatusSet;

/// Runs the tasks of one `[tasks."name"]` table. A clone is cheap and shares the HTTP connections.
#[derive(Clone, Debug)]
pub struct Executor(Arc<Runner>);

#[derive(Debug)]
enum Runner {
    Command(command::CommandRunner),
    Http(http::HttpRunner),
}

impl Executor {
    /// Checks the settings and makes what runs them. Nothing is started or called yet.
    ///
    /// # Errors
    /// When the settings contradict themselves or a part of them cannot be used; the message says which and the way out.
    pub fn new(settings: &ExecSettings) -> Result<Self, ExecSettingsError> {
        if settings.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(ExecSettingsError::ZeroTimeout);
        }
        let runner = match (&settings.command, &settings.http) {
            (Some(line), None) => Runner::Command(command::CommandRunner::new(line, settings)?),
            (None, Some(http)) => Runner::Http(http::HttpRunner::new(http, settings)?),
            (Some(_), Some(_)) => return Err(ExecSettingsError::Both),
            (None, None) => return Err(ExecSettingsError::Neither),
        };
        Ok(Self(Arc::new(runner)))
    }

    /// How much longer than its timeout an attempt may take at most, to let a command finish and be killed: its grace
    /// and 5 s. A request is given up at the timeout.
    pub fn overtime(&self) -> Duration {
        match &*self.0 {
            Runner::Command(command) => command.overtime(),
            Runner::Http(_) => Duration::ZERO,
        }
    }

    /// Runs one attempt to its end.
    ///
    /// The future may be dropped at any time: a request is given up, a command's process group is killed at once.
    /// It has to run on a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// When the attempt failed; [`ExecFailure::kind`] says whether another attempt makes sense.
    pub async fn run(&self, request: ExecRequest) -> Result<ExecOutput, ExecFailure> {
        match &*self.0 {
            Runner::Command(command) => command.run(&request).await,
            Runner::Http(http) => http.run(&request).await,
        }
    }
}
