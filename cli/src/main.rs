//! The binary `leveret`: parse, run one command, say how it ended.

mod api;
mod arguments;
mod commands;
mod failure;
mod output;
mod service;
mod session;
mod settings;
mod signals;
mod systemd;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use crate::{
    arguments::Arguments,
    failure::{Exit, Failure},
    output::Output,
    session::Session,
};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return not_parsed(&error),
    };
    // Nothing chooses a TLS implementation by itself. An error says that one is chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let output = Output::new(arguments.global.json, arguments.global.quiet);
    let session = Session::new(arguments.global, output.clone());
    let ended = run(session, arguments.command);
    ended.unwrap_or_else(|failure| output.failure(&failure)).into()
}

/// Help and version end here, with 0, and what clap finds wrong, with 2.
fn not_parsed(error: &clap::Error) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8);
    if code == 0 || !std::env::args_os().any(|argument| argument == "--json") {
        let _ = error.print();
        return ExitCode::from(code);
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Output::new(true, false).failure(&Failure::new(Exit::Usage, line)).into()
}

fn run(session: Session, command: arguments::Command) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // On a thread of the runtime, not beside it: a future that wakes often need not cross threads.
    let ended = runtime.block_on(async { tokio::spawn(commands::run(session, command)).await });
    // A read of standard input that nobody waits for any more must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended?
}
