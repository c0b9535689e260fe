//! A client of another make: whichever of `amqp-publish` and Python's pika is installed.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::stage::{RESULTS, TEXT};
use crate::failure::{Exit, Failure};

/// Publishes the task on its standard input; all else comes by the environment.
const PIKA: &str = "
import json, os, sys, pika
connection = pika.BlockingConnection(pika.URLParameters(os.environ['AMQP_URL']))
channel = connection.channel()
channel.confirm_delivery()
properties = pika.BasicProperties(type='demo.words', content_type='application/json', delivery_mode=2,
                                  reply_to=os.environ['REPLY_TO'])
channel.basic_publish(os.environ['EXCHANGE'], os.environ['ROUTING_KEY'], sys.stdin.buffer.read(), properties,
                      mandatory=True)
connection.close()
";

/// A client of another make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    AmqpPublish,
    Pika,
}

impl Foreign {
    /// The first that is installed.
    pub(super) async fn find() -> Option<Self> {
        if answers(Command::new("amqp-publish").arg("--help")).await {
            return Some(Self::AmqpPublish);
        }
        answers(Command::new("python3").args(["-c", "import pika"])).await.then_some(Self::Pika)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AmqpPublish => "amqp-publish",
            Self::Pika => "pika",
        }
    }

    /// Publishes a task without a message id: neither can tell us one, so the arguments carry a ticket.
    pub(super) async fn publish(self, url: &str, exchange: &str, file: &str, ticket: &str) -> Result<(), Failure> {
        let body = arguments(file, ticket).to_string();
        let mut command = match self {
            Self::AmqpPublish => {
                let mut command = Command::new("amqp-publish");
                command.arg(format!("--url={url}"));
                command.args(["--exchange", exchange, "--routing-key", TEXT, "--reply-to", RESULTS, "--persistent"]);
                // It cannot set the property `type`, so the task's name is a header.
                command.args(["--content-type", "application/json", "--header", "leveret-task: demo.words"]);
                command.args(["--body", &body]);
                command
            }
            Self::Pika => {
                let mut command = Command::new("python3");
                command.args(["-c", PIKA]);
                command
                    .env("AMQP_URL", url)
                    .env("EXCHANGE", exchange)
                    .env("ROUTING_KEY", TEXT)
                    .env("REPLY_TO", RESULTS);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        // Ctrl-C is for the demo.
        command.process_group(0);
        let failed = |text: &str| Failure::new(Exit::Failed, format!("{} could not publish: {text}", self.name()));
        let mut process = command.spawn()?;
        if let Some(mut input) = process.stdin.take() {
            // amqp-publish does not read it.
            let _ = input.write_all(body.as_bytes()).await;
        }
        let ended = timeout(Duration::from_secs(10), process.wait_with_output()).await;
        let output = ended.map_err(|_| failed("no answer within 10 s"))??;
        if output.status.success() { Ok(()) } else { Err(failed(String::from_utf8_lossy(&output.stderr).trim())) }
    }
}

fn arguments(file: &str, ticket: &str) -> Value {
    json!({ "files": [file], "ticket": ticket })
}

async fn answers(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    matches!(timeout(Duration::from_secs(5), quiet.status()).await, Ok(Ok(status)) if status.success())
}
