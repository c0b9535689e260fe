//! Clients in other languages, as their users run them.
//!
//! `tests/foreign/install` puts them in place; it is called at the first use and does nothing when they are there.
//! The scripts are those in `tests/foreign/`, and each says at its top what it takes.

use std::{path::PathBuf, time::Duration};

use tokio::{process::Command, sync::OnceCell};

pub use crate::script::Output;
use crate::script::{project, run};

const INSTALL_DEADLINE: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(60);

fn folder() -> PathBuf {
    project().join("tests/foreign")
}

async fn installed() {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let install = async || {
        run(Command::new(folder().join("install")), "", INSTALL_DEADLINE).await;
    };
    INSTALLED.get_or_init(install).await;
}

/// Runs a Python script of `tests/foreign/` with pika at hand, `input` on its standard input.
///
/// # Panics
/// Unless it exits with 0 within a minute.
pub async fn pika(script: &str, args: &[&str], input: &str) -> Output {
    python(script, args, input, DEADLINE).await
}

/// Runs a Python script of `tests/foreign/` with all of its `requirements.txt` at hand, `input` on its standard input.
///
/// # Panics
/// Unless it exits with 0 before the deadline.
pub async fn python(script: &str, args: &[&str], input: &str, deadline: Duration) -> Output {
    installed().await;
    let mut python = Command::new(folder().join(".venv/bin/python"));
    python.arg(folder().join(script)).args(args);
    run(python, input, deadline).await
}

/// Asks a REST interface whatever its OpenAPI document allows, and what it does not, with `st run` of schemathesis.
///
/// # Panics
/// Unless it exits with 0, which says that all answers were as the document has them, within `deadline`.
pub async fn schemathesis(args: &[&str], deadline: Duration) -> Output {
    installed().await;
    let mut command = Command::new(folder().join(".venv/bin/st"));
    // What it finds it would keep in the folder that it is started in.
    let place = std::env::temp_dir();
    command.arg("run").args(args).current_dir(place).env("NO_COLOR", "1").env("COLUMNS", "160");
    run(command, "", deadline).await
}

/// Runs a Node.js script of `tests/foreign/` with amqplib at hand, `input` on its standard input.
///
/// # Panics
/// Unless it exits with 0 within a minute.
pub async fn amqplib(script: &str, args: &[&str], input: &str) -> Output {
    installed().await;
    let mut node = Command::new("node");
    node.arg(folder().join(script)).args(args);
    run(node, input, DEADLINE).await
}

/// Runs `amqp-publish`, the command-line client of Debian's package amqp-tools.
///
/// # Panics
/// Unless it exits with 0 within a minute.
pub async fn amqp_publish(url: &str, args: &[&str], body: &str) -> Output {
    installed().await;
    let mut command = Command::new("amqp-publish");
    command.args(["--url", url]).args(args).args(["--body", body]);
    run(command, "", DEADLINE).await
}
