//! What a program does with telemetry: set it up once, serve `/metrics`, shut it down.
#![cfg(feature = "telemetry")]

use leveret_common::metrics::{Instruments, TaskEnd};
use leveret_common::telemetry::{self, TelemetryError, TelemetrySettings, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_program_sets_up_once_and_its_counts_are_served() {
    let settings = TelemetrySettings::default();
    let telemetry = telemetry::init(&settings, "host-1", "worker").unwrap();
    let again = telemetry::init(&settings, "host-1", "worker");
    assert!(matches!(again, Err(TelemetryError::Installed(_))), "{again:?}");
    Instruments::global().task("images", "image.thumbnail").never_ran(TaskEnd::Discarded);

    let listener = http::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(http::serve(listener, http::Health::new(), telemetry.registry(), stop.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let counted = r#"leveret_tasks_finished_total{outcome="discarded",queue="images",task="image.thumbnail"} 1"#;
    assert!(page.contains(counted), "{page}");
    assert!(page.contains(r#"leveret_role="worker""#) && page.contains(r#"service_instance_id="host-1""#), "{page}");
    stop.cancel();
    server.await.unwrap().unwrap();
    telemetry.shutdown().await;
}
