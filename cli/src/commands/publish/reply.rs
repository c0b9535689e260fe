//! The result of a task, through a queue of our own that it is sent to.

use std::{
    io::{self, Write},
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    message::Delivery,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use leveret::{
    Client, Headers, TaskId,
    common::{
        duration,
        link::ChannelPool,
        wire::{header, short},
    },
};
use serde::Serialize;
use serde_json::Value;

use crate::failure::{Exit, Failure};

/// How a task ended.
#[derive(Debug, Serialize)]
pub(super) struct TaskResult {
    /// `done`, `dead` or `cancelled`.
    status: String,
    /// The attempt that ended it.
    attempt: i64,
    /// The result; of a dead task what went wrong, of a cancelled one why.
    body: Value,
}

impl TaskResult {
    fn of(delivery: &Delivery) -> Self {
        let headers = delivery.properties.headers().clone().map(Headers::from).unwrap_or_default();
        let body = serde_json::from_slice(&delivery.data)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&delivery.data).into_owned()));
        Self {
            status: headers.get_str(header::STATUS).unwrap_or("done").to_owned(),
            attempt: headers.get_i64(header::ATTEMPT).unwrap_or(1),
            body,
        }
    }

    /// The exit code that says how the task ended.
    pub(super) fn exit(&self) -> Exit {
        if self.status == "done" { Exit::Done } else { Exit::Failed }
    }

    pub(super) fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.status != "done" {
            let part = |name: &str| self.body[name].as_str().unwrap_or("unknown").to_owned();
            if self.status == "cancelled" {
                return writeln!(out, "cancelled in attempt {}: {}", self.attempt, part("error"));
            }
            return writeln!(out, "dead in attempt {} ({}): {}", self.attempt, part("reason"), part("error"));
        }
        match &self.body {
            Value::String(text) => writeln!(out, "{}", text.trim_end_matches('\n')),
            body => writeln!(out, "{body:#}"),
        }
    }
}

/// A queue for replies, which goes with its connection.
pub(super) struct Replies {
    queue: String,
    consumer: lapin::Consumer,
    // A channel that goes back to its pool may be closed, and the consumer with it.
    _pool: ChannelPool,
}

impl Replies {
    pub(super) async fn subscribe(client: &Client) -> Result<Self, Failure> {
        let pool = ChannelPool::new(client.link().clone());
        let channel = pool.get().await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(ShortString::default(), options, FieldTable::default()).await?;
        let queue = declared.name().to_string();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let name = short("queue", &queue)?;
        let consumer = channel.basic_consume(name, ShortString::default(), options, FieldTable::default()).await?;
        drop(channel);
        Ok(Self { queue, consumer, _pool: pool })
    }

    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    /// The result of task `id`.
    pub(super) async fn result(mut self, id: &TaskId, patience: Duration) -> Result<TaskResult, Failure> {
        let answer = async {
            while let Some(delivery) = self.consumer.next().await {
                let delivery = delivery?;
                if delivery.properties.correlation_id().as_ref().is_some_and(|found| found.as_str() == id.as_str()) {
                    return Ok(TaskResult::of(&delivery));
                }
            }
            let text =
                format!("the connection was lost while task {id} was waited for: it goes on, but its result is lost");
            Err(Failure::new(Exit::Unavailable, text))
        };
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let waited = duration::format(patience);
                let text = format!(
                    "task {id} is published, and has not ended within {waited}: see whether a worker consumes its queue"
                );
                Err(Failure::new(Exit::NoAnswer, text))
            }
        }
    }
}
