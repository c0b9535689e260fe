use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use leveret_common::{byte_size, retry::Backoff, task::TaskDefaults};
use serde::Deserialize;

use super::StatusSet;

/// A `[tasks."name"]` table of `leveret.toml`: what to run for the task. Exactly one of `command` and `http` is set;
/// [`Executor::new`](super::Executor::new) checks that and all the rest.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ExecSettings {
    /// The command to run.
    pub command: Option<CommandLine>,
    /// The URL to call.
    pub http: Option<HttpSettings>,
    /// Queue that the task is consumed from. Default: `default`.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// How long one attempt may run, such as `"30s"`, unless the task says otherwise. Default: the worker's.
    #[serde(default, with = "leveret_common::duration::option")]
    pub timeout: Option<Duration>,
    /// How often a failed task is tried again after its first attempt, unless the task says otherwise. Default: the
    /// worker's.
    pub retries: Option<u32>,
    /// The delays between attempts, such as `"2s..1h"`, unless the task says otherwise. Default: the worker's.
    pub backoff: Option<Backoff>,
    /// How long after its first failure a task may still be tried, unless the task says otherwise. Default: the
    /// worker's.
    #[serde(default, with = "leveret_common::duration::option")]
    pub give_up_after: Option<Duration>,
    /// Whether it may run for longer than RabbitMQ's consumer timeout, half an hour unless set otherwise there. Default:
    /// false.
    #[serde(default)]
    pub long: bool,
    /// How much of each stream is kept, in bytes or as a size such as `"64KiB"`: the end of standard output and of
    /// standard error, the start of a response's body. What is beyond is read and forgotten, so that a command never
    /// waits for room. Default: 64 KiB.
    #[serde(default = "default_output_limit", deserialize_with = "byte_size::deserialize")]
    pub output_limit: usize,
    /// Commands only: the directory to run in, from which a relative path to the program counts too. Default: the
    /// worker's.
    pub directory: Option<PathBuf>,
    /// Commands only: environment variables to set. The facts about the task (`LEVERET_…`, `TRACEPARENT`) are not among
    /// them.
    #[serde(default)]
    pub environment: NamedValues,
    /// Commands only: whether the command gets the worker's environment, `PATH`, `HOME` and any secrets in it included.
    /// Where it does not, it gets `environment` and the facts about the task and nothing else, not even `PATH`; a
    /// program without a path is then looked up in `environment`'s `PATH` or the system's default one. Default: true.
    pub inherit_environment: Option<bool>,
    /// Commands only: exit codes that mean that another attempt would fail the same way. Default: 64 and 65, which
    /// `sysexits.h` calls usage error and data error. The other codes of that table speak of files, hosts, permissions
    /// and configuration, which somebody may mend before the next attempt. A shell command's 126 and 127 (program not
    /// executable, not found) count as permanent always.
    pub permanent_exit_codes: Option<Vec<i32>>,
    /// Commands only: how long the command has to finish after SIGTERM, when its time is up or its task is cancelled.
    /// SIGTERM goes to its whole process group; after this time, or once the command has exited and its output is
    /// closed, what is left of the group gets SIGKILL. Default: 5 s.
    #[serde(default, with = "leveret_common::duration::option")]
    pub grace: Option<Duration>,
}

impl ExecSettings {
    /// Runs a program with its arguments, without a shell.
    pub fn command(line: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let line = CommandLine::Program(line.into_iter().map(Into::into).collect());
        Self { command: Some(line), ..Self::empty() }
    }

    /// Runs a text with `sh -c`.
    pub fn shell(text: impl Into<String>) -> Self {
        Self { command: Some(CommandLine::Shell(text.into())), ..Self::empty() }
    }

    /// Sends a `POST` to a URL.
    pub fn http(url: impl Into<String>) -> Self {
        Self { http: Some(HttpSettings::new(url)), ..Self::empty() }
    }

    /// What the task says itself; the rest is the worker's.
    pub(crate) fn defaults(&self) -> TaskDefaults {
        let mut defaults = TaskDefaults::new();
        defaults.timeout = self.timeout;
        defaults.retries = self.retries;
        defaults.backoff = self.backoff;
        defaults.give_up_after = self.give_up_after;
        defaults.long = self.long;
        defaults
    }

    fn empty() -> Self {
        Self {
            command: None,
            http: None,
            queue: default_queue(),
            timeout: None,
            retries: None,
            backoff: None,
            give_up_after: None,
            long: false,
            output_limit: default_output_limit(),
            directory: None,
            environment: NamedValues::default(),
            inherit_environment: None,
            permanent_exit_codes: None,
            grace: None,
        }
    }
}

/// The command of a task.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected [\"program\", \"argument\"], or a text for the shell")]
#[non_exhaustive]
pub enum CommandLine {
    /// `["program", "argument"]`: run as it is, without a shell.
    Program(Vec<String>),
    /// `"text"`: run by `sh -c`.
    Shell(String),
}

/// The URL of a task and how to call it.
///
/// Redirects are not followed: they would take the task's headers to another place, or turn a `POST` into a `GET`.
/// Proxies named in the environment are not used.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpSettings {
    /// The URL, `http` or `https`, without user and password: those belong in `headers`.
    pub url: String,
    /// The method. Default: `POST`.
    #[serde(default = "default_method")]
    pub method: String,
    /// Headers to send besides the facts about the task.
    #[serde(default)]
    pub headers: NamedValues,
    /// Statuses that mean that the task is done. Default: 200 to 299.
    #[serde(default = "StatusSet::success")]
    pub success: StatusSet,
    /// Statuses that mean that another attempt may go better. Default: 408, 425, 429 and 500 to 599. Any status that is
    /// in neither list fails the task for good.
    #[serde(default = "StatusSet::retry")]
    pub retry: StatusSet,
}

impl HttpSettings {
    /// A `POST` to a URL, with the defaults for the rest.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: default_method(),
            headers: NamedValues::default(),
            success: StatusSet::success(),
            retry: StatusSet::retry(),
        }
    }
}

/// Names with values that may be secret: debug output shows the names alone.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct NamedValues(BTreeMap<String, String>);

impl NamedValues {
    /// The names with their values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for NamedValues {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for NamedValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn default_queue() -> String {
    "default".to_owned()
}

fn default_output_limit() -> usize {
    64 * 1024
}

fn default_method() -> String {
    "POST".to_owned()
}
