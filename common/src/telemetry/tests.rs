use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::dispatcher::with_default;
use tracing::instrument::WithSubscriber;

use super::http::{Health, bind, serve};
use super::*;
use crate::headers::Headers;
use crate::metrics::{Instruments, Published, TaskEnd, UNKNOWN_TASK};
use crate::trace_context::{Attempt, TraceContext};

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }

    fn json(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn pipeline(&self, settings: &TelemetrySettings) -> (Telemetry, Dispatch) {
        let log = self.clone();
        build(settings, "test-1", "worker", move || log.clone(), false).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn settings(log: &str, format: LogFormat) -> TelemetrySettings {
    TelemetrySettings { log: log.to_owned(), format, ..TelemetrySettings::default() }
}

fn attempt(number: u32) -> Attempt<'static> {
    Attempt { task_id: "0190-a", task: "image.thumbnail", queue: "images", attempt: number, deferred: false }
}

fn remote(sampled: bool) -> TraceContext {
    let mut headers = Headers::default();
    let parent = format!("00-{TRACE:032x}-00f067aa0ba902b7-{:02x}", u8::from(sampled));
    headers.insert("traceparent", parent).unwrap();
    TraceContext::read(&headers).unwrap()
}

#[tokio::test]
async fn a_json_line_inside_a_task_says_which_task() {
    let log = Log::default();
    let (_telemetry, dispatch) = log.pipeline(&settings("warn", LogFormat::Json));
    async {
        let span = attempt(2).span(Some(&remote(true)));
        let work = async { tracing::warn!(level = 3, queue = "inner", error = %"a \"b\"\nc", "resized") };
        span.instrument(work).await;
        span.ended(TaskEnd::Retried, Some("timeout"));
        span.in_scope(|| tracing::warn!("settled"));
    }
    .with_subscriber(dispatch)
    .await;
    let [resized, settled] = &log.json()[..] else { panic!("two lines: {}", log.text()) };
    assert_eq!(resized["message"], "resized");
    assert_eq!(resized["level"], "WARN");
    assert_eq!(resized["field.level"], 3);
    assert_eq!(resized["error"], "a \"b\"\nc");
    assert_eq!(resized["task_id"], "0190-a");
    assert_eq!(resized["task"], "image.thumbnail");
    assert_eq!(resized["attempt"], 2);
    assert_eq!(resized["queue"], "inner", "a field of the line itself wins");
    assert_eq!(resized["trace_id"], format!("{TRACE:032x}"));
    assert!(resized.get("messaging.system").is_none());
    assert_eq!([&settled["outcome"], &settled["error.type"], &settled["queue"]], ["retried", "timeout", "images"]);
}

#[test]
fn a_human_line_cannot_be_forged() {
    let log = Log::default();
    let (_telemetry, dispatch) = log.pipeline(&settings("info", LogFormat::Human));
    with_default(&dispatch, || {
        attempt(1).span(None).in_scope(|| tracing::info!(path = "a b", size = 7, "got \x1b[2J\nfake {}", 1));
    });
    let text = log.text();
    let (_time, rest) = text.split_once(' ').unwrap();
    let own = " INFO leveret_common::telemetry::tests: got \\u{1b}[2J\\nfake 1 path=\"a b\" size=7";
    assert_eq!(rest, format!("{own} task_id=0190-a task=image.thumbnail queue=images attempt=1\n"));
}

#[test]
fn the_message_comes_first_wherever_it_stands_in_the_code() {
    let log = Log::default();
    let (_telemetry, dispatch) = log.pipeline(&settings("info", LogFormat::Human));
    with_default(&dispatch, || tracing::info!(items = 3, message = "order stored"));
    assert!(log.text().ends_with(": order stored items=3\n"), "{}", log.text());
}

#[test]
fn payloads_of_returned_messages_are_never_logged() {
    let log = Log::default();
    for filter in ["trace", "lapin=trace"] {
        let (_telemetry, dispatch) = log.pipeline(&settings(filter, LogFormat::Human));
        with_default(&dispatch, || {
            tracing::warn!(target: "lapin::returned_messages", "payload");
            tracing::error!(target: "lapin::returned_messages", "payload");
        });
    }
    assert_eq!(log.text(), "");
}

#[test]
fn libraries_below_are_held_to_warnings_unless_named() {
    let heard = |filter: &str| {
        let log = Log::default();
        let (_telemetry, dispatch) = log.pipeline(&settings(filter, LogFormat::Human));
        with_default(&dispatch, || {
            tracing::info!(target: "hyper::client", "info");
            tracing::warn!(target: "hyper::client", "warn");
            tracing::error!(target: "hyper::client", "error");
        });
        log.text().lines().count()
    };
    assert_eq!(["trace", "info", "error", "off", "info,hyper=info"].map(heard), [2, 2, 1, 0, 3]);
}

#[test]
fn lapin_speaks_only_when_it_is_named() {
    let heard = |filter: &str| {
        let log = Log::default();
        let (_telemetry, dispatch) = log.pipeline(&settings(filter, LogFormat::Human));
        with_default(&dispatch, || tracing::error!(target: "lapin::channel", "what we say as well"));
        log.text().lines().count()
    };
    assert_eq!(["trace", "info", "info,lapin=warn"].map(heard), [0, 0, 1]);
}

#[test]
fn the_span_of_a_task_can_be_switched_off() {
    let log = Log::default();
    let (_telemetry, dispatch) = log.pipeline(&settings("info,leveret::task=off", LogFormat::Json));
    with_default(&dispatch, || attempt(1).span(None).in_scope(|| tracing::info!("line")));
    assert_eq!(log.json()[0].get("task_id"), None);
}

#[test]
fn wrong_settings_are_errors_that_name_them() {
    let message =
        |settings: &TelemetrySettings| build(settings, "test-1", "worker", io::sink, false).unwrap_err().to_string();
    let defaults = TelemetrySettings::default;
    assert!(message(&TelemetrySettings { log: "info=loud".into(), ..defaults() }).contains("log"));
    assert!(message(&TelemetrySettings { sample: f64::NAN, ..defaults() }).contains("sample"));
    for otlp in ["collector:4318", "localhost", "ftp://localhost/"] {
        assert!(message(&TelemetrySettings { otlp: Some(otlp.into()), ..defaults() }).contains(otlp));
    }
    assert!(serde_json::from_str::<TelemetrySettings>(r#"{"format":"json","sample":0.5}"#).is_ok());
    assert!(serde_json::from_str::<TelemetrySettings>(r#"{"fromat":"json"}"#).is_err());
}

/// A collector that keeps what it is sent, path and body.
async fn collector() -> (String, Arc<Mutex<Vec<(String, Bytes)>>>) {
    type Kept = Arc<Mutex<Vec<(String, Bytes)>>>;
    async fn keep(State(kept): State<Kept>, uri: axum::http::Uri, body: Bytes) {
        kept.lock().push((uri.path().to_owned(), body));
    }
    let kept = Kept::default();
    let routes = Router::new().route("/v1/{signal}", post(keep)).with_state(kept.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, kept)
}

/// Runs attempts with spans exported; gives the log and the bodies that carried spans and metrics.
async fn exported(sample: f64, attempts: &[(u32, Option<TraceContext>)]) -> (Vec<Value>, Vec<u8>, Vec<u8>) {
    let (address, kept) = collector().await;
    let log = Log::default();
    let settings = TelemetrySettings { otlp: Some(address), sample, ..settings("info", LogFormat::Json) };
    let (telemetry, dispatch) = log.pipeline(&settings);
    let task = Instruments::new(&opentelemetry::metrics::MeterProvider::meter(&telemetry.meters, "leveret"));
    task.task("images", "image.thumbnail").never_ran(TaskEnd::Done);
    async {
        for (number, remote) in attempts {
            let work = async {
                let forwarded = TraceContext::current().unwrap();
                tracing::info!(forwarded = forwarded.traceparent(), "ran");
            };
            attempt(*number).span(remote.as_ref()).instrument(work).await;
        }
    }
    .with_subscriber(dispatch)
    .await;
    telemetry.shutdown().await;
    let kept = kept.lock();
    let of = |path: &str| kept.iter().filter(|(at, _)| at == path).flat_map(|(_, body)| body.to_vec()).collect();
    (log.json(), of("/v1/traces"), of("/v1/metrics"))
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

fn logged_trace(line: &Value) -> u128 {
    u128::from_str_radix(line["trace_id"].as_str().unwrap(), 16).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_attempt_continues_the_publishers_trace() {
    let (log, spans, metrics) = exported(0.0, &[(1, Some(remote(true)))]).await;
    assert!(contains(&spans, &TRACE.to_be_bytes()));
    assert!(contains(&spans, b"process image.thumbnail"));
    assert!(contains(&metrics, b"leveret.tasks.finished"));
    assert_eq!(logged_trace(&log[0]), TRACE);
    let forwarded = log[0]["forwarded"].as_str().unwrap();
    assert!(forwarded.starts_with(&format!("00-{TRACE:032x}-")) && forwarded.ends_with("-01"));
    assert!(!forwarded.contains("00f067aa0ba902b7"), "the attempt's own span is the parent of what it publishes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempt_starts_a_trace_that_links_to_the_publishers() {
    let (log, spans, _) = exported(0.0, &[(2, Some(remote(true)))]).await;
    let own = logged_trace(&log[0]);
    assert_ne!(own, TRACE);
    assert!(contains(&spans, &own.to_be_bytes()), "recorded, since the publisher's span was");
    assert!(contains(&spans, &TRACE.to_be_bytes()), "the link");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_publisher_does_not_record_is_not_recorded() {
    let unrecorded = [(1, Some(remote(false))), (2, Some(remote(false)))];
    let (log, spans, _) = exported(1.0, &unrecorded).await;
    assert!(spans.is_empty());
    assert!(log.iter().all(|line| line["forwarded"].as_str().unwrap().ends_with("-00")));
    assert_eq!(logged_trace(&log[0]), TRACE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_context_is_recorded_at_the_ratio() {
    let (_, all, _) = exported(1.0, &[(1, None)]).await;
    let (_, none, _) = exported(0.0, &[(1, None)]).await;
    assert!(contains(&all, b"process image.thumbnail"));
    assert!(none.is_empty());
}

/// The whole answer to a GET.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn metrics_shows_every_series_that_is_documented() {
    let (telemetry, _dispatch) = Log::default().pipeline(&TelemetrySettings::default());
    let instruments = Instruments::new(&opentelemetry::metrics::MeterProvider::meter(&telemetry.meters, "leveret"));
    let (task, queue) = (instruments.task("images", "image.thumbnail"), instruments.queue("images"));
    let running = task.started(Some(Duration::from_millis(20)));
    task.started(None).finished(TaskEnd::Done);
    instruments.task("images", UNKNOWN_TASK).never_ran(TaskEnd::Dead);
    queue.set_concurrency(8);
    queue.flushed(100);
    queue.stale_settlement();
    instruments.publish().count(Published::Confirmed, 256);
    let link = instruments.link("consume");
    for up in [true, true, false, true] {
        link.set_connected(up);
    }
    link.set_blocked(true);

    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, Health::new(), telemetry.registry(), stop.clone()));
    let page = get(address, "/metrics").await;
    assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
    for line in [
        r#"leveret_tasks_finished_total{outcome="done",queue="images",task="image.thumbnail"} 1"#,
        r#"leveret_tasks_finished_total{outcome="retried",queue="images",task="image.thumbnail"} 0"#,
        r#"leveret_tasks_finished_total{outcome="dead",queue="images",task="unknown"} 1"#,
        r#"leveret_task_duration_seconds_count{queue="images",task="image.thumbnail"} 1"#,
        r#"leveret_task_wait_seconds_bucket{queue="images",task="image.thumbnail",le="0.025"} 1"#,
        r#"leveret_tasks_running{queue="images",task="image.thumbnail"} 1"#,
        r#"leveret_queue_concurrency{queue="images"} 8"#,
        r#"leveret_acks_flushed_total{queue="images"} 1"#,
        r#"leveret_deliveries_acked_total{queue="images"} 100"#,
        r#"leveret_settlements_stale_total{queue="images"} 1"#,
        r#"leveret_messages_published_total{result="confirmed"} 256"#,
        r#"leveret_messages_published_total{result="unroutable"} 0"#,
        r#"leveret_link_connected{role="consume"} 1"#,
        r#"leveret_link_blocked{role="consume"} 1"#,
        r#"leveret_link_reconnects_total{role="consume"} 1"#,
    ] {
        assert!(page.contains(line), "no {line} in\n{page}");
    }
    drop((running, link));
    let page = get(address, "/metrics").await;
    assert!(page.contains(r#"leveret_tasks_running{queue="images",task="image.thumbnail"} 0"#));
    assert!(page.contains(r#"leveret_link_connected{role="consume"} 0"#));
    stop.cancel();
    server.await.unwrap().unwrap();
}

#[test]
fn the_filter_is_changed_while_it_logs() {
    let log = Log::default();
    let (telemetry, dispatch) = log.pipeline(&settings("info", LogFormat::Human));
    let filter = telemetry.log();
    with_default(&dispatch, || {
        tracing::debug!("before");
        filter.set("leveret_common=debug").unwrap();
        tracing::debug!("after");
        assert!(filter.set("loud,=").unwrap_err().to_string().contains("write a level"));
        tracing::debug!("still");
        filter.set("warn").unwrap();
        tracing::info!("quiet");
    });
    let text = log.text();
    assert!(text.contains("after") && text.contains("still"), "{text}");
    assert!(!text.contains("before") && !text.contains("quiet"), "{text}");
}

#[tokio::test]
async fn ready_names_what_fails_until_nothing_does() {
    let health = Health::new();
    let broker = Arc::new(Mutex::new(Err("not connected".to_owned())));
    let watched = broker.clone();
    health.check("broker", move || watched.lock().clone());
    health.check("store", || Ok(()));
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let alive = health.clone();
    let server = tokio::spawn(serve(listener, health, prometheus::Registry::new(), stop.clone()));

    assert!(get(address, "/live").await.starts_with("HTTP/1.1 200"));
    let consumers = Arc::new(Mutex::new(Ok(())));
    let watched = consumers.clone();
    alive.live_check("consumers", move || watched.lock().clone());
    assert!(get(address, "/live").await.starts_with("HTTP/1.1 200"));
    *consumers.lock() = Err("not subscribed to queue \"mail\" for 300 s".to_owned());
    let dead = get(address, "/live").await;
    assert!(dead.starts_with("HTTP/1.1 503") && dead.contains(r#"{"failing":{"consumers":"not subscribed"#), "{dead}");
    let unready = get(address, "/ready").await;
    assert!(unready.starts_with("HTTP/1.1 503"));
    assert!(unready.ends_with(r#"{"failing":{"broker":"not connected"}}"#));
    *broker.lock() = Ok(());
    let ready = get(address, "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200") && ready.ends_with("ok"));
    stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = bind(&address).await.unwrap_err();
    assert!(error.to_string().contains(&address));
}
