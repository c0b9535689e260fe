//! The examples of `docs/protocol.md` are run as they stand, at a broker of the test's own.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test reports by failing")]

use std::{collections::BTreeSet, path::Path};

use leveret::{Context, Error, Job, Outcome, Task, Worker};
use leveret_testkit::foreign;
use leveret_tests::{Place, start, within};
use serde::{Deserialize, Serialize};
use tokio::{process::Command, sync::mpsc};

#[derive(Serialize, Deserialize, Task)]
#[task(name = "mail.send")]
struct SendMail {
    to: String,
}

/// The example in this language, with the test's broker in place of the reader's.
fn example(language: &str, place: &Place) -> String {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let document = std::fs::read_to_string(document).unwrap();
    let Some((_, after)) = document.split_once(&format!("```{language}\n")) else { panic!("no example in {language}") };
    let (code, _) = after.split_once("```").unwrap();
    assert!(code.contains(URL), "{code}");
    code.replace(URL, place.vhost.url())
}

const URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

#[tokio::test(flavor = "multi_thread")]
async fn each_example_publishes_a_task_that_is_run() {
    let place = Place::new().await;
    let (seen, mut runs) = mpsc::unbounded_channel();
    let worker = Worker::builder(place.settings.clone()).queue("default", 1);
    let worker = worker.task(move |context: Context, job: Job<SendMail>| {
        let _ = seen.send((context, job.arguments.to));
        async { Ok::<_, Error>(Outcome::Done) }
    });
    let worker = start(worker).await;
    let mut run = async || within("the example's task is run", runs.recv()).await.unwrap();

    let python = tempfile::Builder::new().suffix(".py").tempfile().unwrap();
    std::fs::write(&python, example("python", &place)).unwrap();
    foreign::pika(python.path().to_str().unwrap(), &[], "").await;
    let (context, to) = run().await;
    assert_eq!((context.task(), to.as_str()), ("mail.send", "ann@example.org"));

    // Node finds amqplib from here, and git does not look here.
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/node_modules");
    let javascript = tempfile::Builder::new().suffix(".mjs").tempfile_in(modules).unwrap();
    std::fs::write(&javascript, example("js", &place)).unwrap();
    foreign::amqplib(javascript.path().to_str().unwrap(), &[], "").await;
    let (context, to) = run().await;
    assert_eq!((context.task(), to.as_str(), context.id().as_str().len()), ("mail.send", "ann@example.org", 36));
    let not_before = context.headers().get_i64("leveret-not-before").unwrap();
    assert!(context.clock().now().0 >= not_before, "it was run before its time");

    let shell = Command::new("sh").args(["-euc", &example("sh", &place)]).status();
    assert!(within("the shell", shell).await.unwrap().success());
    let (context, to) = run().await;
    assert_eq!((context.task(), to.as_str(), context.max_attempts()), ("mail.send", "ann@example.org", 3));
    worker.stop().await;
}

/// The table of the contract says what the topology is.
#[test]
fn the_topology_is_the_one_of_the_contract() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let document = std::fs::read_to_string(document).unwrap();
    let topology = leveret::Topology::new("leveret").unwrap().queue("mail".parse().unwrap(), Default::default());
    let topology = topology.centre().deaths();
    for exchange in topology.exchanges() {
        let alternate = exchange.arguments.get("alternate-exchange").map(|_| "`leveret.lost`").unwrap_or("–");
        let row = format!("| `{}` | {} | {alternate} |", exchange.name, exchange.kind);
        assert!(document.contains(&row), "{row}");
    }
    let names: BTreeSet<_> = topology.queues().iter().flat_map(|queue| queue.arguments.keys().copied()).collect();
    for argument in names {
        assert!(document.contains(&format!("`{argument}`")), "{argument} is missing");
    }
}

/// The event that the contract shows is one as it is written, and each kind is in its table.
#[test]
fn events_are_those_of_the_contract() {
    use leveret::common::event::{Happening, Progress, TaskEvent};
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let document = std::fs::read_to_string(document).unwrap();
    let (_, after) = document.split_once("```json\n{\"event\":").unwrap();
    let (shown, _) = after.split_once("```").unwrap();
    let shown: serde_json::Value = serde_json::from_str(&format!("{{\"event\":{shown}")).unwrap();
    let event: TaskEvent = serde_json::from_value(shown.clone()).unwrap();
    assert_eq!(serde_json::to_value(&event).unwrap(), shown);

    let (error_kind, error, retry_at) = ("error".to_owned(), "no such host".to_owned(), leveret::UnixMillis(9));
    let dead = leveret::common::wire::DeadReason::Expired;
    for what in [
        Happening::Started { waited_ms: Some(1) },
        Happening::Progress(Progress { cursor: 1, total: Some(2), note: Some("half".to_owned()) }),
        Happening::done(1, Some(&serde_json::json!(3))),
        Happening::Failed { ran_ms: 1, error_kind: error_kind.clone(), error: error.clone(), retry_at },
        Happening::Snoozed { ran_ms: 1, retry_at },
        Happening::Dead { ran_ms: Some(1), reason: dead, error_kind, error },
        Happening::Cancelled { ran_ms: Some(1), reason: Some("a person".to_owned()) },
        Happening::Discarded { ran_ms: 1, reason: Some("too old".to_owned()) },
    ] {
        let fields = serde_json::to_value(&what).unwrap();
        let fields = fields.as_object().unwrap();
        let start = format!("| `{}` | `{}` |", what.routing_key(), fields["event"].as_str().unwrap());
        let row = document.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row {start}"));
        for field in fields.keys().filter(|field| *field != "event") {
            assert!(row.contains(&format!("`{field}`")), "{field}: {row}");
        }
    }
}
