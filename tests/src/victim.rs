//! A worker in a process of its own, to be killed.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{Place, within};

/// A worker in a process of its own; see `tests/src/bin/victim.rs`. Its program is `env!("CARGO_BIN_EXE_victim")`,
/// which only a test can name.
#[derive(Debug)]
pub struct Victim {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    /// It may have begun tasks already; only of a queue without any can one wait until it is [`attached`](Self::attached).
    pub fn start(program: &str, place: &Place, concurrency: usize, delivery_limit: u32) -> Self {
        Self::spawn(program, place, &[concurrency.to_string(), delivery_limit.to_string()])
    }

    /// One whose tasks are long, for a broker with this consumer timeout.
    pub fn with_long_tasks(program: &str, place: &Place, consumer_timeout: Duration) -> Self {
        Self::spawn(program, place, &["1".to_owned(), "100".to_owned(), consumer_timeout.as_millis().to_string()])
    }

    fn spawn(program: &str, place: &Place, arguments: &[String]) -> Self {
        let mut command = Command::new(program);
        command.arg(place.vhost.url()).args(arguments).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Waits until the broker delivers to it.
    pub async fn attached(mut self) -> Self {
        assert!(self.line().await.is_null());
        self
    }

    async fn line(&mut self) -> Value {
        let line = within("the worker process says something", self.lines.next_line()).await.unwrap();
        serde_json::from_str(&line.unwrap()).unwrap()
    }

    /// The next attempt: the task's id, the number of the attempt, and whether it was given out before.
    pub async fn run(&mut self) -> (String, u32, bool) {
        let mut line = self.line().await;
        if line.is_null() {
            line = self.line().await;
        }
        serde_json::from_value(line).unwrap()
    }

    /// SIGKILL: no handler, no goodbye.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}
