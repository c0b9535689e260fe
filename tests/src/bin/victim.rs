//! A worker in a process of its own, to be killed: `victim URL CONCURRENCY DELIVERY_LIMIT [CONSUMER_TIMEOUT_MS]`. With
//! the last its tasks are long ones.
//!
//! It does what a task's arguments say: `"hang"` never ends, anything else is done. It says `null` on standard output
//! when the broker delivers to it, and then a line for each attempt: `["<id>", <attempt>, <redelivered>]`.

use std::{io::Write, time::Duration};

use leveret::{Context, Error, Job, Outcome, QueueSettings, TaskPolicy, Worker};
use leveret_tests::{Probe, quick, settings};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, concurrency, delivery_limit, long @ ..] = arguments.as_slice() else {
        return Err("usage: victim URL CONCURRENCY DELIVERY_LIMIT [CONSUMER_TIMEOUT_MS]".into());
    };
    let mut settings = settings(url);
    if let [timeout] = long {
        settings.consumer_timeout = Duration::from_millis(timeout.parse()?);
    }
    let mut queue = quick(concurrency.parse()?);
    queue.settings = QueueSettings { delivery_limit: delivery_limit.parse()?, ..queue.settings };
    let worker = Worker::builder(settings)
        .name("victim")
        .policy(TaskPolicy::default().long(!long.is_empty()))
        .queue("default", queue)
        .task(async |context: Context, job: Job<Probe>| {
            say(&json!([context.id().as_str(), context.attempt(), context.is_redelivered()]));
            if job.0 == "hang" {
                std::future::pending::<()>().await;
            }
            Ok::<_, Error>(Outcome::Done)
        })
        .build()?
        .start()
        .await?;
    worker.attached().await?;
    say(&Value::Null);
    worker.wait().await;
    Ok(())
}

/// One line, out at once: what a killed process has not yet written is never seen.
fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    // The test that reads may be over.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
