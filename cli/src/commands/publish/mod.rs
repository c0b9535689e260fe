//! `leveret publish`: publishes one task or many, and waits for the result if asked to.

mod outcome;
mod payload;
mod reply;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use leveret::{BrokerSettings, Client, Message, QueueName, Route, TaskId, common::duration};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Exit, Failure},
    session::Session,
    settings::Settings,
};

use outcome::{NotPublished, Published};
use payload::{Payload, Payloads};
use reply::Replies;

/// Publish a task, and wait until the broker has confirmed it
///
/// Prints the task's id; of many, one a line, or their number on a terminal.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  leveret publish image.thumbnail --queue images --payload '{"file": "hare.png"}'
  leveret publish report.build --payload-file report.json --wait 30s
  jq -c '.[]' orders.json | leveret publish order.paid --lines"#)]
pub(crate) struct Publish {
    /// Name of the task
    task: String,
    /// Queue to publish to [default: that of the task in leveret.toml, or `default`]
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// The task's arguments, as JSON [default: null]
    #[arg(long, value_name = "JSON", group = "source")]
    payload: Option<String>,
    /// Read the arguments from this file; - is standard input
    #[arg(long, value_name = "FILE", group = "source")]
    payload_file: Option<PathBuf>,
    /// Publish a task for each line of standard input, which holds its arguments
    #[arg(long, group = "source")]
    lines: bool,
    /// Take the payload as it is, any bytes
    #[arg(long)]
    raw: bool,
    /// Media type of a raw payload [default: application/octet-stream]
    #[arg(long, value_name = "TYPE", requires = "raw")]
    content_type: Option<String>,
    /// Not to run before so much time has gone by, such as 10s or 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    delay: Option<Duration>,
    /// Not to run any more once so much time has gone by
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    expires_in: Option<Duration>,
    /// How long one attempt may run
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// How many attempts there may be, the first included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: Option<u32>,
    /// Task id, 1 to 255 bytes [default: a new UUID]
    #[arg(long, conflicts_with_all = ["lines", "count"])]
    id: Option<TaskId>,
    /// Affinity: tasks with the same key belong together
    #[arg(long)]
    key: Option<String>,
    /// How it is given to a worker: round-robin, weighted, random, hash, least-loaded, sticky:<worker>, broadcast,
    /// first-alive or competing. For queues with a `route`
    #[arg(long)]
    route: Option<Route>,
    /// A header of the message; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Publish it so many times, each time as a task of its own
    #[arg(long, value_name = "N", conflicts_with = "lines", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Wait so long for the result and print it: exit code 0 if the task is done, 1 if it is dead, 75 if neither
    #[arg(long, value_name = "TIME", value_parser = duration::parse, conflicts_with_all = ["lines", "count"])]
    wait: Option<Duration>,
}

impl Publish {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let settings = session.settings()?;
        let queue = self.queue(&settings)?;
        if self.lines {
            return self.publish_all(&session, settings.broker, &queue, Payloads::lines(self.raw)).await;
        }
        // What is wrong with the payload is said before the broker is asked anything.
        let body = self.body()?;
        match self.wait {
            Some(patience) => self.publish_and_wait(&session, settings.broker, &queue, body, patience).await,
            None => {
                let payloads = Payloads::same(body, self.count.unwrap_or(1));
                self.publish_all(&session, settings.broker, &queue, payloads).await
            }
        }
    }

    async fn publish_all(
        &self,
        session: &Session,
        broker: BrokerSettings,
        queue: &QueueName,
        payloads: Payloads,
    ) -> Result<Exit, Failure> {
        let window = broker.publish_window;
        let client = session.client(broker).await?;
        let many = payloads.length != Some(1);
        let progress = if many {
            session.output.progress(payloads.length, "publishing")
        } else {
            indicatif::ProgressBar::hidden()
        };
        // On a terminal a list of a thousand ids helps nobody.
        let count_only = many && io::stdout().is_terminal();
        let list = !session.output.is_json() && !count_only;
        let stop = CancellationToken::new();
        let mut outcome = Published::default();
        let last_tried = AtomicU64::new(0);
        let mut confirms = Box::pin(
            payloads
                .stream
                .take_until(stop.clone().cancelled_owned())
                .map(|payload| async {
                    let Payload { number, body } = payload?;
                    last_tried.store(number, Relaxed);
                    publish_one(&client, number, self.message(queue.as_str(), body)).await
                })
                .buffered(window),
        );
        while let Some(confirmed) = confirms.next().await {
            progress.inc(1);
            match confirmed {
                Ok(id) => {
                    outcome.published += 1;
                    if list {
                        writeln!(io::stdout(), "{id}")?;
                    } else {
                        outcome.ids.push(id);
                    }
                }
                Err(failed) => {
                    // What is on its way already comes to its end; no more is begun.
                    stop.cancel();
                    outcome.failed.push(failed);
                }
            }
        }
        drop(confirms);
        outcome.last_tried = last_tried.load(Relaxed);
        progress.finish_and_clear();
        client.close().await;
        if !list {
            session.output.report(&outcome)?;
        }
        outcome.exit(many)
    }

    async fn publish_and_wait(
        &self,
        session: &Session,
        broker: BrokerSettings,
        queue: &QueueName,
        body: Bytes,
        patience: Duration,
    ) -> Result<Exit, Failure> {
        let client = session.client(broker).await?;
        let replies = Replies::subscribe(&client).await?;
        let message = self.message(queue.as_str(), body).reply_to(replies.queue(), None);
        let id = client.publish_message(message).await?;
        session.output.remark(format_args!("published {id}, waiting for its result"));
        let result = replies.result(&id, patience).await?;
        client.close().await;
        let exit = result.exit();
        let outcome =
            Published { published: 1, last_tried: 1, ids: vec![id], failed: Vec::new(), result: Some(result) };
        session.output.report(&outcome)?;
        Ok(exit)
    }

    /// The message with this payload.
    fn message(&self, queue: &str, body: Bytes) -> Message {
        let content_type = match (&self.content_type, self.raw) {
            (Some(content_type), _) => content_type,
            (None, true) => "application/octet-stream",
            (None, false) => "application/json",
        };
        let mut message = Message::raw(&self.task, body, content_type).queue(queue);
        if let Some(id) = &self.id {
            message = message.id(id.clone());
        }
        if let Some(delay) = self.delay {
            message = message.delay(delay);
        }
        if let Some(ttl) = self.expires_in {
            message = message.expires_in(ttl);
        }
        if let Some(timeout) = self.timeout {
            message = message.timeout(timeout);
        }
        if let Some(attempts) = self.max_attempts {
            message = message.max_attempts(attempts);
        }
        if let Some(key) = &self.key {
            message = message.key(key);
        }
        if let Some(route) = &self.route {
            message = message.route(route);
        }
        for (name, value) in &self.headers {
            message = message.header(name, value.as_str());
        }
        message
    }

    /// Checks what clap cannot, and gives the queue.
    fn queue(&self, settings: &Settings) -> Result<QueueName, Failure> {
        let wrong = |text: String| Failure::new(Exit::Usage, text);
        if self.task.is_empty() || self.task.len() > 255 {
            return Err(wrong("a task's name has 1 to 255 bytes: give another".to_owned()));
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(wrong("a --timeout of zero leaves the task no time: give a longer one".to_owned()));
        }
        let of_the_task = settings.tasks.get(&self.task).map(|task| task.queue.as_str());
        let queue = self.queue.as_deref().or(of_the_task).unwrap_or("default");
        QueueName::new(queue).map_err(|error| wrong(error.to_string()))
    }

    /// The payload, unless each line is one.
    fn body(&self) -> Result<Bytes, Failure> {
        let body = match (&self.payload, &self.payload_file) {
            (Some(text), _) => Bytes::from(text.clone()),
            (None, Some(path)) => payload::read(path)?,
            (None, None) if self.raw => Bytes::new(),
            (None, None) => Bytes::from_static(b"null"),
        };
        if !self.raw {
            payload::check_json(&body).map_err(|error| Failure::new(Exit::Usage, format!("the payload {error}")))?;
        }
        Ok(body)
    }
}

async fn publish_one(client: &Client, number: u64, message: Message) -> Result<TaskId, NotPublished> {
    let id = message.task_id().clone();
    client.publish_message(message).await.map_err(|error| NotPublished::refused(number, id, error))
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write a name and a value, such as tenant=acme".to_owned()),
    }
}
