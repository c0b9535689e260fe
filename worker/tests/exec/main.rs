//! Tasks that run commands and call URLs: real processes, a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod command;
mod http;
#[cfg(target_os = "linux")]
mod leftovers;
mod settings;

use std::time::Duration;

use bytes::Bytes;
use leveret_worker::exec::{ExecFailure, ExecOutput, ExecRequest, ExecSettings, Executor};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, shorter than anybody waits for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn request(payload: impl Into<Bytes>) -> ExecRequest {
    ExecRequest {
        task: "image.thumbnail".to_owned(),
        task_id: "order-17".to_owned(),
        queue: "images".to_owned(),
        attempt: 2,
        max_attempts: 5,
        content_type: "application/json".to_owned(),
        payload: payload.into(),
        traceparent: None,
        timeout: None,
        cancelled: CancellationToken::new(),
    }
}

async fn run(settings: &ExecSettings, request: ExecRequest) -> Result<ExecOutput, ExecFailure> {
    let executor = Executor::new(settings).expect("usable settings");
    tokio::time::timeout(PATIENCE, executor.run(request)).await.expect("the attempt ends")
}

/// Waits until the condition holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}
