use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    pin::{Pin, pin},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{FusedFuture, join, join3},
};
use leveret_common::duration;
use rustix::process::Signal;
use tokio::{
    io::AsyncWriteExt,
    process::{ChildStdin, Command},
    time::timeout,
};

use super::{
    CommandLine, ExecFailure, ExecFailureKind, ExecOutput, ExecRequest, ExecSettings, ExecSettingsError, ExecStatus,
    NamedValues, capture::Capture, group::ProcessGroup, output::last_words, request::deadline,
};

/// Exit codes of `sysexits.h` that speak of the task itself: EX_USAGE and EX_DATAERR.
const PERMANENT_EXIT_CODES: [i32; 2] = [64, 65];
/// Exit codes with which a shell says that a program is not executable or not found.
const SHELL_EXIT_CODES: [i32; 2] = [126, 127];
const GRACE: Duration = Duration::from_secs(5);
/// How long the output may stay open after the command has exited. What the command wrote is in the pipe by then; only a
/// process that it left behind can still hold it open.
const LINGER: Duration = Duration::from_secs(1);
/// How long the kernel may take over SIGKILL: a process that waits for a dead disk does not hear it.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Runs a command for each task.
#[derive(Debug)]
pub(super) struct CommandRunner {
    program: String,
    arguments: Vec<String>,
    /// How messages call the command.
    label: String,
    directory: Option<PathBuf>,
    environment: NamedValues,
    inherit_environment: bool,
    permanent_exit_codes: Vec<i32>,
    output_limit: usize,
    timeout: Option<Duration>,
    grace: Duration,
}

/// What ended the wait for a command.
enum End {
    Exited,
    TimedOut,
    Cancelled,
}

impl CommandRunner {
    pub(super) fn new(line: &CommandLine, settings: &ExecSettings) -> Result<Self, ExecSettingsError> {
        let mut permanent_exit_codes = settings.permanent_exit_codes.clone().unwrap_or(PERMANENT_EXIT_CODES.into());
        if let Some(&code) = permanent_exit_codes.iter().find(|code| !(1..=255).contains(*code)) {
            return Err(ExecSettingsError::ExitCode { code });
        }
        let (program, arguments, label) = match line {
            CommandLine::Program(line) => {
                let (program, arguments) = line.split_first().ok_or(ExecSettingsError::NoProgram)?;
                (program.clone(), arguments.to_vec(), format!("`{program}`"))
            }
            CommandLine::Shell(text) if text.trim().is_empty() => return Err(ExecSettingsError::NoProgram),
            CommandLine::Shell(text) => {
                permanent_exit_codes.extend(SHELL_EXIT_CODES);
                ("sh".to_owned(), vec!["-c".to_owned(), text.clone()], "the shell command".to_owned())
            }
        };
        if program.is_empty() {
            return Err(ExecSettingsError::NoProgram);
        }
        if arguments.iter().chain([&program]).any(|text| text.contains('\0')) {
            return Err(unusable("`command`", "it contains a NUL character"));
        }
        check_environment(&settings.environment)?;
        Ok(Self {
            program,
            arguments,
            label,
            directory: settings.directory.clone(),
            environment: settings.environment.clone(),
            inherit_environment: settings.inherit_environment.unwrap_or(true),
            permanent_exit_codes,
            output_limit: settings.output_limit,
            timeout: settings.timeout,
            grace: settings.grace.unwrap_or(GRACE),
        })
    }

    pub(super) fn overtime(&self) -> Duration {
        self.grace + KILL_PATIENCE
    }

    pub(super) async fn run(&self, request: &ExecRequest) -> Result<ExecOutput, ExecFailure> {
        let mut group = ProcessGroup::spawn(&mut self.prepare(request)).map_err(|error| self.not_started(&error))?;
        let limit = request.timeout.or(self.timeout);
        let leader = group.leader();
        let (stdin, stdout, stderr) = (leader.stdin.take(), leader.stdout.take(), leader.stderr.take());
        let (mut printed, mut complained) = (Capture::new(self.output_limit), Capture::new(self.output_limit));
        let end = {
            let pipes = join3(feed(stdin, &request.payload), printed.drain(stdout), complained.drain(stderr));
            let mut pipes = pin!(pipes.map(|_| ()).fuse());
            let end = tokio::select! {
                biased;
                () = group.exited() => End::Exited,
                () = request.cancelled.cancelled() => End::Cancelled,
                () = deadline(limit) => End::TimedOut,
                // The pipes are served meanwhile; that they are closed does not mean that the command has exited.
                () = async { closed(pipes.as_mut()).await; std::future::pending().await } => End::Exited,
            };
            self.finish(&end, &mut group, pipes).await;
            end
        };
        let status = group.end();
        let (stdout, truncated) = printed.finish();
        let (stderr, _) = complained.finish();
        let failed = |kind, what: String| Err(ExecFailure::new(kind, explain(what, &stdout, &stderr)));
        match (end, status) {
            (End::TimedOut, _) => {
                let limit = duration::format(limit.unwrap_or_default());
                failed(
                    ExecFailureKind::TimedOut,
                    format!("{} did not finish within {limit} and was stopped", self.label),
                )
            }
            (End::Cancelled, _) => {
                failed(ExecFailureKind::Cancelled, format!("{} was stopped because its task was cancelled", self.label))
            }
            (End::Exited, Some(status)) if status.success() => {
                Ok(ExecOutput { status: ExecStatus::Exit(0), stdout, stderr, truncated })
            }
            (End::Exited, status) => {
                let permanent = status
                    .and_then(|status| status.code())
                    .is_some_and(|code| self.permanent_exit_codes.contains(&code));
                let kind = if permanent { ExecFailureKind::Permanent } else { ExecFailureKind::Retryable };
                failed(kind, format!("{} {}", self.label, how_it_ended(status)))
            }
        }
    }

    fn prepare(&self, request: &ExecRequest) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        if !self.inherit_environment {
            command.env_clear();
        }
        command.envs(self.environment.iter());
        command.envs(request.facts().map(|(variable, _, value)| (variable, value)));
        command.env("LEVERET_CONTENT_TYPE", &request.content_type);
        match &request.traceparent {
            Some(traceparent) => command.env("TRACEPARENT", traceparent),
            // The worker's own trace, if it was started within one, is not the task's.
            None => command.env_remove("TRACEPARENT"),
        };
        command
    }

    /// Waits for what is still to come after the end: the rest of the output, or the exit that was asked for.
    async fn finish(&self, end: &End, group: &mut ProcessGroup, pipes: Pin<&mut impl FusedFuture<Output = ()>>) {
        if let End::Exited = end {
            if timeout(LINGER, closed(pipes)).await.is_err() {
                tracing::warn!(command = %self.label, "kills a process left behind, which holds the output open");
            }
            return;
        }
        group.signal(Signal::TERM);
        if timeout(self.grace, join(group.exited(), closed(pipes))).await.is_err() {
            group.signal(Signal::KILL);
            timeout(KILL_PATIENCE, group.exited()).await.ok();
        }
    }

    fn not_started(&self, error: &io::Error) -> ExecFailure {
        let program = &self.program;
        match (error.kind(), &self.directory) {
            (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, Some(directory)) if !directory.is_dir() => {
                ExecFailure::permanent(format!(
                    "the directory `{}` to run `{program}` in does not exist",
                    directory.display()
                ))
            }
            (io::ErrorKind::NotFound, _) => ExecFailure::permanent(format!(
                "program `{program}` was not found: install it on this worker, or give its full path in `command`"
            )),
            (io::ErrorKind::PermissionDenied, _) => ExecFailure::permanent(format!(
                "program `{program}` may not be run by this worker: check that it is executable, and its directory readable"
            )),
            (io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong, _) => ExecFailure::permanent(format!(
                "program `{program}` cannot be given this task's id or headers as environment variables: {error}"
            )),
            // Out of processes, memory or file descriptors, most likely: that passes.
            _ => ExecFailure::retryable(format!("program `{program}` could not be started: {error}")),
        }
    }
}

/// Writes the payload to the command. It may well exit, or close its input, without reading to the end.
async fn feed(stdin: Option<ChildStdin>, payload: &Bytes) {
    if let Some(mut stdin) = stdin {
        stdin.write_all(payload).await.ok();
    }
}

/// Resolves once the pipes are closed, at once if they were closed before.
async fn closed(pipes: Pin<&mut impl FusedFuture<Output = ()>>) {
    if !pipes.is_terminated() {
        pipes.await;
    }
}

fn how_it_ended(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "ended, but its exit code was lost".to_owned() };
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(6)) => "was ended by SIGABRT: it aborted".to_owned(),
        (None, Some(9)) => "was ended by SIGKILL: the system may have run out of memory".to_owned(),
        (None, Some(11)) => "was ended by SIGSEGV: it crashed".to_owned(),
        (None, Some(15)) => "was ended by SIGTERM".to_owned(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// Adds the last words of the command, from standard output when there is nothing on standard error.
fn explain(what: String, stdout: &Bytes, stderr: &Bytes) -> String {
    let said = if stderr.trim_ascii().is_empty() { stdout } else { stderr };
    if said.trim_ascii().is_empty() {
        return what;
    }
    format!("{what}: {}", last_words(said))
}

fn check_environment(environment: &NamedValues) -> Result<(), ExecSettingsError> {
    for (name, value) in environment.iter() {
        if name.starts_with("LEVERET_") || name == "TRACEPARENT" {
            return Err(ExecSettingsError::Reserved { name: name.to_owned() });
        }
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(unusable(
                &format!("environment variable {name:?}"),
                "a name is not empty and has no `=` in it",
            ));
        }
        if value.contains('\0') {
            return Err(unusable(&format!("environment variable `{name}`"), "its value contains a NUL character"));
        }
    }
    Ok(())
}

fn unusable(what: &str, reason: &'static str) -> ExecSettingsError {
    ExecSettingsError::Unusable { what: what.to_owned(), reason }
}
