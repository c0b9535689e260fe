//! What a URL is sent, and what becomes of its answer.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    http::{HeaderMap, Method, Response, StatusCode},
    routing::any,
};
use leveret_worker::exec::{ExecFailure, ExecFailureKind, ExecSettings, ExecSettingsError, ExecStatus, Executor};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{request, run};

/// A server that answers as its paths say: its address, such as `http://127.0.0.1:34567`.
async fn server() -> String {
    let router = Router::new()
        .route("/echo", any(echo))
        .route("/status/{status}", any(|Path(status): Path<u16>| async move { answer(status, None) }))
        .route(
            "/status/{status}/after/{seconds}",
            any(|Path((status, seconds)): Path<(u16, String)>| async move { answer(status, Some(seconds)) }),
        )
        .route("/moved", any(|| async { answer_with(302, "location", "/echo", "") }))
        .route("/large", any(|| async { Body::from(vec![b'x'; 10 << 20]) }))
        .route("/endless", any(|| async { Body::from_stream(futures_util::stream::repeat_with(chunk)) }))
        .route("/silent", any(|| async { std::future::pending::<StatusCode>().await }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn chunk() -> Result<Bytes, Infallible> {
    Ok(Bytes::from_static(&[b'y'; 4096]))
}

/// What arrived, as JSON.
async fn echo(method: Method, headers: HeaderMap, body: String) -> String {
    let mut seen: serde_json::Map<String, Value> =
        headers.iter().map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap()))).collect();
    seen.insert("method".to_owned(), json!(method.as_str()));
    seen.insert("body".to_owned(), json!(body));
    Value::Object(seen).to_string()
}

fn answer(status: u16, retry_after: Option<String>) -> Response<Body> {
    answer_with(status, "retry-after", &retry_after.unwrap_or_default(), "the order is unknown\n")
}

fn answer_with(status: u16, name: &str, value: &str, body: &'static str) -> Response<Body> {
    let mut response = Response::builder().status(status);
    if !value.is_empty() {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).unwrap()
}

async fn fails(settings: &ExecSettings) -> ExecFailure {
    run(settings, request("{}")).await.unwrap_err()
}

#[tokio::test]
async fn the_payload_and_the_facts_arrive() {
    let mut settings = ExecSettings::http(server().await + "/echo?token=1");
    settings.http.as_mut().unwrap().headers = [("Authorization", "Bearer secret")].into_iter().collect();
    let mut asked = request(r#"{"pages": 3}"#);
    asked.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let output = run(&settings, asked).await.unwrap();
    assert_eq!(output.status, ExecStatus::Http(200));
    let seen = output.result();
    for (name, value) in [
        ("method", "POST"),
        ("body", r#"{"pages": 3}"#),
        ("content-type", "application/json"),
        ("authorization", "Bearer secret"),
        ("leveret-task", "image.thumbnail"),
        ("leveret-task-id", "order-17"),
        ("idempotency-key", "order-17"),
        ("leveret-queue", "images"),
        ("leveret-attempt", "2"),
        ("leveret-max-attempts", "5"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        assert_eq!(seen[name], value, "{name} in {seen}");
    }
}

#[tokio::test]
async fn a_get_has_no_body() {
    let mut settings = ExecSettings::http(server().await + "/echo");
    settings.http.as_mut().unwrap().method = "GET".to_owned();
    let seen = run(&settings, request("{}")).await.unwrap().result();
    assert_eq!((&seen["method"], &seen["body"]), (&json!("GET"), &json!("")));
    assert_eq!(seen.get("content-type"), None);
}

#[tokio::test]
async fn the_status_decides_whether_another_attempt_makes_sense() {
    let server = server().await;
    for (status, kind) in [
        (400, ExecFailureKind::Permanent),
        (404, ExecFailureKind::Permanent),
        (408, ExecFailureKind::Retryable),
        (425, ExecFailureKind::Retryable),
        (429, ExecFailureKind::Retryable),
        (500, ExecFailureKind::Retryable),
        (503, ExecFailureKind::Retryable),
    ] {
        let failure = fails(&ExecSettings::http(format!("{server}/status/{status}"))).await;
        assert_eq!((failure.kind, failure.retry_after), (kind, None), "{status}");
        let (told, body) = (format!("/status/{status} answered {status}"), ": the order is unknown");
        assert!(failure.message.contains(&told) && failure.message.ends_with(body), "{failure}");
    }
    assert!(run(&ExecSettings::http(format!("{server}/status/204")), request("")).await.is_ok());
}

#[tokio::test]
async fn the_lists_of_statuses_can_be_set() {
    let server = server().await;
    let mut settings = ExecSettings::http(format!("{server}/status/404"));
    settings.http.as_mut().unwrap().success = [404..=404].into_iter().collect();
    assert_eq!(run(&settings, request("")).await.unwrap().status, ExecStatus::Http(404));
    settings.http.as_mut().unwrap().success = [200..=200].into_iter().collect();
    settings.http.as_mut().unwrap().retry = [404..=404].into_iter().collect();
    assert_eq!(fails(&settings).await.kind, ExecFailureKind::Retryable);
}

#[tokio::test]
async fn retry_after_is_honoured_within_reason() {
    let server = server().await;
    for (path, wait) in [
        ("/status/429/after/7", Some(Duration::from_secs(7))),
        ("/status/503/after/0", Some(Duration::ZERO)),
        ("/status/503/after/99999999999", Some(Duration::from_secs(86_400))),
        ("/status/503/after/soon", None),
        ("/status/404/after/7", None),
    ] {
        assert_eq!(fails(&ExecSettings::http(format!("{server}{path}"))).await.retry_after, wait, "{path}");
    }
}

#[tokio::test]
async fn a_redirect_is_reported_not_followed() {
    let failure = fails(&ExecSettings::http(server().await + "/moved?token=secret")).await;
    assert_eq!(failure.kind, ExecFailureKind::Permanent);
    assert!(failure.message.contains("a redirect to /echo"), "{failure}");
    assert!(!failure.message.contains("secret"), "{failure}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_on() {
    let mut settings = ExecSettings::http(server().await + "/silent");
    settings.timeout = Some(Duration::from_millis(50));
    let failure = fails(&settings).await;
    assert_eq!(failure.kind, ExecFailureKind::TimedOut);
    assert!(failure.message.ends_with("/silent gave no answer within 50ms"), "{failure}");

    settings.timeout = None;
    let asked = request("");
    asked.cancelled.cancel();
    assert_eq!(run(&settings, asked).await.unwrap_err().kind, ExecFailureKind::Cancelled);
}

#[tokio::test]
async fn a_server_that_is_not_there_may_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failure = fails(&ExecSettings::http(format!("http://{address}/"))).await;
    assert_eq!(failure.kind, ExecFailureKind::Retryable);
    assert!(failure.message.contains("could not connect"), "{failure}");
    assert!(failure.message.to_lowercase().contains("refused"), "{failure}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_success() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _ = socket.read(&mut head).await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of").await.unwrap();
    });
    let failure = fails(&ExecSettings::http(format!("http://{address}/"))).await;
    assert_eq!(failure.kind, ExecFailureKind::Retryable);
    assert!(failure.message.contains("got no whole answer"), "{failure}");
}

#[tokio::test]
async fn a_body_is_kept_up_to_the_limit() {
    let server = server().await;
    for path in ["/large", "/endless"] {
        let output = run(&ExecSettings::http(format!("{server}{path}")), request("")).await.unwrap();
        assert_eq!((output.stdout.len(), output.truncated), (65_536, true), "{path}");
    }
}

#[tokio::test]
async fn an_id_that_no_header_can_hold_fails_for_good() {
    let mut asked = request("");
    asked.task_id = "a\nb".to_owned();
    let failure = run(&ExecSettings::http(server().await + "/echo"), asked).await.unwrap_err();
    assert_eq!(failure.kind, ExecFailureKind::Permanent);
    assert!(failure.message.contains("leveret-task-id"), "{failure}");
}

#[tokio::test]
async fn https_needs_no_preparation_by_the_program() {
    // A machine without CA certificates is told so; anything else must be ready to call.
    if let Err(error) = Executor::new(&ExecSettings::http("https://localhost/")) {
        assert!(matches!(error, ExecSettingsError::Client { .. }), "{error}");
    }
}
