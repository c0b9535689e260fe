//! What systemd is told by a service of `Type=notify`.

mod common;

use std::time::Duration;

use common::{PATIENCE, Site};
use leveret_testkit::{Broker, FaultProxy};
use nix::sys::signal::Signal;
use tokio::{net::UnixDatagram, time::timeout};

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_a_worker_is_ready_alive_and_stopping() {
    let vhost = Broker::shared().await.vhost().await;
    let proxy = FaultProxy::to(vhost.url()).await;
    proxy.refuse();
    let site = Site::at(proxy.url(), "[tasks.a]\ncommand = \"true\"\n");
    let socket = UnixDatagram::bind(site.path("notify")).unwrap();
    let path = site.path("notify").display().to_string();
    let mut worker = site.start_with(&["worker"], &[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "200000")]);
    let hear = async || {
        let mut buffer = [0; 4096];
        let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("something is said").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim().to_owned()
    };
    let until = async |wanted: &str| {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last: &String| !last.starts_with(wanted)) {
            heard.push(hear().await);
        }
        heard
    };
    // A broker that is away is no reason to start the worker anew.
    until("WATCHDOG=1").await;
    let heard = until("WATCHDOG=1").await;
    assert!(!heard.iter().any(|said| said == "READY=1"), "{heard:?}");
    proxy.resume();
    until("READY=1").await;
    until("STATUS=working").await;
    until("WATCHDOG=1").await;
    worker.signal(Signal::SIGTERM);
    until("STOPPING=1").await;
    assert_eq!(timeout(Duration::from_secs(20), worker.ended()).await.unwrap(), 0);
}
