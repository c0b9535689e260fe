//! The messages of `tests/fixtures` mean the same to a client in another language, through a real broker.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test reports by failing")]

#[path = "../fixtures/calls.rs"]
mod calls;

use std::path::PathBuf;

use leveret::{
    Client, Clock, Context, Error, HeaderValue, Message, Outcome, QueueOptions, TaskPolicy, UnixMillis, Worker,
    common::wire::header,
};
use leveret_testkit::{eventually_eq, foreign};
use leveret_tests::{PATIENCE, Place, start, within};
use serde_json::{Value, json};
use tokio::sync::mpsc;

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(file)
}

fn fixtures(file: &str) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(path(file)).unwrap()).unwrap()
}

async fn pika(place: &Place, what: &str, file: &str) -> String {
    let path = path(file);
    foreign::pika("fixtures.py", &[place.vhost.url(), what, path.to_str().unwrap()], "").await.stdout
}

/// A header of the simple types, without its type.
fn plain(value: &Value) -> Option<&Value> {
    let Some(typed) = value.as_object() else { return Some(value) };
    typed.iter().find(|(kind, _)| kind.contains("int")).map(|(_, number)| number)
}

fn compare(entry: &Value, context: &Context, body: &[u8]) {
    let (name, read) = (&entry["name"], &entry["read"]);
    let policy = TaskPolicy::default();
    if let Some(id) = read["id"].as_str() {
        assert_eq!(context.id().as_str(), id, "{name}");
    }
    let default = json!("application/json");
    let seen = json!({
        "task": context.task(),
        "content_type": context.content_type(),
        "attempt": context.attempt(),
        "max_attempts": context.max_attempts(),
        "timeout_ms": context.timeout().as_millis() as u64,
        "key": context.key(),
        "schedule": context.schedule().map(|(name, tick)| json!([name, tick.0])),
    });
    let or = |name: &str, default: Value| read.get(name).cloned().unwrap_or(default);
    let meant = json!({
        "task": read["task"],
        "content_type": or("content_type", default),
        "attempt": or("attempt", json!(1)),
        "max_attempts": or("max_attempts", json!(policy.retry.max_attempts)),
        "timeout_ms": or("timeout_ms", json!(policy.timeout.as_millis() as u64)),
        "key": read["key"],
        "schedule": read["schedule"],
    });
    assert_eq!(seen, meant, "{name}");
    let mut headers = context.headers().to_json();
    // A quorum queue adds its own count.
    headers.remove("x-delivery-count");
    let sent = entry["headers"].as_object().cloned().unwrap_or_default();
    assert!(headers.keys().eq(sent.keys().collect::<std::collections::BTreeSet<_>>()), "{name}: {headers:?}");
    for (header, value) in &sent {
        if let Some(value) = plain(value) {
            assert_eq!(&headers[header], value, "{name}: {header}");
        }
    }
    if let Some(text) = read.get("body").unwrap_or(&entry["body"])["text"].as_str() {
        assert_eq!(body, text.as_bytes(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pika_publishes_is_read_or_parked_as_it_says() {
    let place = Place::new().await;
    let (seen, mut runs) = mpsc::unbounded_channel();
    let mut worker = Worker::builder(place.settings.clone()).queue("default", QueueOptions::concurrency(1));
    for task in ["mail.send", "image.thumbnail", "ünïcode.täsk"] {
        let seen = seen.clone();
        worker = worker.raw(task, TaskPolicy::default(), move |context, body| {
            let _ = seen.send((context, body));
            async { Ok::<_, Error>(Outcome::Done) }
        });
    }
    let worker = start(worker).await;
    let entries = fixtures("in.json");
    assert_eq!(pika(&place, "publish", "in.json").await, entries.len().to_string());

    for entry in entries.iter().filter(|entry| entry.get("read").is_some()) {
        let (context, body) = within("a task is run", runs.recv()).await.unwrap();
        compare(entry, &context, &body);
    }
    let parked: Vec<_> = entries.iter().filter_map(|entry| Some((entry, entry.get("parked")?))).collect();
    eventually_eq(PATIENCE, parked.len() as u32, || place.vhost.ready("default.dead")).await;
    for ((entry, parked), dead) in parked.into_iter().zip(place.vhost.take_all("default.dead").await) {
        let name = &entry["name"];
        let headers = [header::DEAD_REASON, header::ERROR_KIND, header::ERROR].map(|name| dead.header_text(name));
        for (found, part) in headers.iter().zip(["reason", "kind", "error"]) {
            assert!(found.is_some(), "{name}: no {part}");
            if let Some(wanted) = parked[part].as_str() {
                assert_eq!(found.as_deref(), Some(wanted), "{name}");
            }
        }
        assert_eq!(dead.header_text(header::QUEUE).as_deref(), Some("default"), "{name}");
        assert_eq!(
            dead.properties.kind().as_ref().map(ToString::to_string),
            entry["properties"]["type"].as_str().map(str::to_owned),
            "{name}"
        );
        if let Some(text) = entry["body"]["text"].as_str() {
            assert_eq!(dead.body, text.as_bytes(), "{name}");
        }
    }
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
    assert!(runs.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_client_publishes_is_what_pika_reads() {
    let place = Place::new().await;
    for queue in ["default", "images"] {
        let worker = Worker::builder(place.settings.clone()).queue(queue, 1);
        start(worker.raw("any", TaskPolicy::default(), async |_, _| Ok::<_, Error>(Outcome::Done))).await.stop().await;
    }
    let entries = fixtures("out.json");
    let client = Client::open(place.settings.clone(), Clock::held(UnixMillis(1_700_000_000_123))).unwrap();
    for entry in &entries {
        client.publish_message(calls::message(&entry["calls"])).await.unwrap();
    }
    client.close().await;
    assert_eq!(pika(&place, "compare", "out.json").await, entries.len().to_string());
}
