use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// One attempt at a task, as an [`Executor`](super::Executor) is given it.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Name of the task on the wire.
    pub task: String,
    /// Id of the task, the same on every attempt.
    pub task_id: String,
    /// Queue that the task came from.
    pub queue: String,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// How many attempts there may be in all.
    pub max_attempts: u32,
    /// Content type of the payload.
    pub content_type: String,
    /// The arguments, byte for byte as the message carried them, once inflated.
    pub payload: Bytes,
    /// W3C trace context to hand on.
    pub traceparent: Option<String>,
    /// How long the attempt may run. `None` means the timeout of the settings; without that there is no limit.
    pub timeout: Option<Duration>,
    /// Stops the attempt when it is cancelled.
    pub cancelled: CancellationToken,
}

impl ExecRequest {
    /// The facts about the attempt, each under its name as environment variable and as header.
    pub(super) fn facts(&self) -> [(&'static str, &'static str, String); 5] {
        [
            ("LEVERET_TASK", "leveret-task", self.task.clone()),
            ("LEVERET_TASK_ID", "leveret-task-id", self.task_id.clone()),
            ("LEVERET_QUEUE", "leveret-queue", self.queue.clone()),
            ("LEVERET_ATTEMPT", "leveret-attempt", self.attempt.to_string()),
            ("LEVERET_MAX_ATTEMPTS", "leveret-max-attempts", self.max_attempts.to_string()),
        ]
    }
}

/// Resolves after `timeout`, never when there is none.
pub(super) async fn deadline(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}
