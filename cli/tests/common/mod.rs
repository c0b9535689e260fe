//! The binary as a user has it: in a directory of its own with a `leveret.toml`, without our environment.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with a `leveret.toml`.
pub(crate) struct Site {
    directory: TempDir,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    /// A directory whose `leveret.toml` is `config`.
    pub(crate) fn new(config: &str) -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap() };
        site.write("leveret.toml", config);
        site
    }

    /// The same, for the broker at `url`, which is not in `config`.
    pub(crate) fn at(url: &str, config: &str) -> Self {
        Self::new(&format!("[broker]\nurl = \"{url}\"\n\n{config}"))
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    /// Runs `leveret` with these arguments to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        self.feed(arguments, "").await
    }

    /// The same with `input` on standard input.
    pub(crate) async fn feed(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not read its input may have closed it already.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("leveret {arguments:?} has not ended in {PATIENCE:?}")).unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts `leveret` with these arguments, to run beside the test. Its log goes to the file `log`.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(arguments, &[])
    }

    /// The same, with these variables in its environment.
    pub(crate) fn start_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Running { child: command.spawn().unwrap() }
    }

    /// The same; what it prints goes to the file `printed`.
    pub(crate) fn start_printing(&self, arguments: &[&str]) -> Running {
        let file = |name| fs::File::create(self.path(name)).unwrap();
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(file("printed")).stderr(file("log"));
        Running { child: command.spawn().unwrap() }
    }

    /// Starts `leveret` with these arguments, to read its lines of JSON as they come.
    pub(crate) fn watch(&self, arguments: &[&str]) -> Watching {
        let mut child = self.command(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Watching { lines, _child: child }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_leveret")));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_remove("AMQP_URL")
            .env_remove("LEVERET_CONFIG")
            .env_remove("LEVERET_API")
            .env_remove("LEVERET_TOKEN")
            .env_remove("LEVERET_CONTEXT")
            .env("XDG_CONFIG_HOME", self.directory.path())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

impl Ended {
    /// Panics with what was said unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {}", self.stdout))
    }
}

/// A `leveret` whose lines of JSON are read as they come. Dropping it kills it.
pub(crate) struct Watching {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Watching {
    /// Reads until a line holds.
    pub(crate) async fn until(&mut self, holds: impl Fn(&Value) -> bool) {
        let reading = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if holds(&serde_json::from_str(&line).unwrap()) {
                    return;
                }
            }
            panic!("it has ended");
        };
        timeout(PATIENCE, reading).await.expect("no such line in time");
    }
}

/// A `leveret` that runs beside the test. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it has not ended");
        kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }

    /// Waits for its end and gives its exit code.
    pub(crate) async fn ended(&mut self) -> i32 {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("leveret has not ended in time").unwrap();
        status.code().unwrap_or(-1)
    }
}
