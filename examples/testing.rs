//! Tests of handlers and publishes with no broker, in milliseconds: `cargo test --example testing`.
//!
//! `cargo run --example testing` shows what becomes of a task in three days that take no time.

use std::time::Duration;

use leveret::{
    Backoff, BrokerSettings, Client, Context, Error, Job, Outcome, PublishError, Task, TaskPolicy, Worker,
    WorkerBuilder,
};
use leveret_testkit::MemoryBroker;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(name = "invoice.remind", queue = "invoices")]
struct Remind {
    invoice: u64,
    address: String,
}

/// A handler like any other.
async fn remind(cx: Context, job: Job<Remind>) -> Result<Outcome, Error> {
    if !job.address.contains('@') {
        return Err(Error::reject(format!("invoice {} has no address", job.invoice)));
    }
    if cx.attempt() < 3 {
        return Err(Error::retry("the mail server is down"));
    }
    Ok(Outcome::Done)
}

/// The worker as the program starts it; only the broker comes from outside.
fn worker(broker: BrokerSettings) -> WorkerBuilder {
    let policy = TaskPolicy::default().retries(5).backoff(Backoff::constant(Duration::from_secs(3_600)));
    Worker::builder(broker).policy(policy).task(remind)
}

/// What the program publishes when an invoice goes out.
async fn send_invoice(client: &Client, invoice: u64, address: &str) -> Result<(), PublishError> {
    let reminder = Remind { invoice, address: address.to_owned() };
    client.publish(&reminder).delay(Duration::from_secs(3 * 86_400)).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = MemoryBroker::new();
    let mut worker = broker.worker(worker(broker.settings())).await;
    send_invoice(&broker.client().await, 17, "ada@example.org").await?;
    let begun = tokio::time::Instant::now();
    print!("{}", worker.run_to_end().await);
    println!("it is {} now, {:?} later", broker.clock().now().to_rfc3339(), begun.elapsed());
    worker.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use leveret_testkit::{End, TestTask};

    use super::*;

    fn task(address: &str) -> Remind {
        Remind { invoice: 17, address: address.to_owned() }
    }

    #[tokio::test]
    async fn an_invoice_publishes_its_reminder() {
        let broker = MemoryBroker::new();
        broker.declare::<Remind>().await;
        send_invoice(&broker.client().await, 17, "ada@example.org").await.unwrap();
        assert_eq!(broker.require_published::<Remind>(), task("ada@example.org"));
    }

    #[tokio::test]
    async fn a_reminder_without_an_address_is_not_tried_again() {
        let worked = TestTask::of(&task("nobody")).run(remind).await;
        assert!(matches!(worked.end, End::Dead { reason, .. } if reason == "rejected"));
    }

    #[tokio::test]
    async fn a_reminder_is_sent_after_three_days_and_two_attempts_more() {
        let broker = MemoryBroker::new();
        let mut worker = broker.worker(worker(broker.settings())).await;
        send_invoice(&broker.client().await, 17, "ada@example.org").await.unwrap();
        assert!(worker.run_for(Duration::from_secs(3 * 86_400 - 1)).await.is_empty());

        let report = worker.run_for(Duration::from_secs(1)).await;
        assert!(matches!(report.only(), End::Retried { attempt: 2, .. }), "{report}");
        let report = worker.run_for(Duration::from_secs(2 * 3_600)).await;
        assert_eq!(report.last().map(|handled| &handled.end), Some(&End::Done), "{report}");
        assert!(broker.waiting("invoices").is_empty() && broker.dead("invoices").is_empty());
    }
}
