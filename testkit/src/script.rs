//! Running the project's own scripts and the clients they install.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// What a program said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output without the white space around it.
    pub stdout: String,
    /// Standard error as it is.
    pub stderr: String,
}

/// The folder of the workspace: the scripts and the broker's state lie there.
pub(crate) fn project() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Runs a program to its end and panics unless it exits with 0 before the deadline.
pub(crate) async fn run(mut command: Command, input: &str, deadline: Duration) -> Output {
    let what = format!("{:?}", command.as_std());
    let spawned =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
    let stdin = child.stdin.take();
    let whole = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that ends without reading its input closes the pipe: its exit code tells more than we could.
                drop(stdin.write_all(input.as_bytes()).await);
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output
    };
    let output = match timeout(deadline, whole).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => panic!("{what} cannot be waited for: {error}"),
        Err(_) => panic!("{what} has not ended within {deadline:?}"),
    };
    let stdout = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{what} failed ({}):\n{stderr}{stdout}", output.status);
    Output { stdout, stderr }
}
