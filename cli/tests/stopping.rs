//! SIGTERM ends worker and producer without losing or repeating anything; a second signal ends them at once.

mod common;

use common::{PATIENCE, Running, Site};
use leveret_testkit::{Broker, Vhost, eventually, eventually_eq};
use nix::sys::signal::Signal;

/// A task that says when it begins, runs until there is a file `go`, and says that it has ended.
const TASK: &str = r#"
[worker]
concurrency = 1
grace = "25s"

[tasks.wait]
command = "echo begun >> said; while [ ! -e go ]; do sleep 0.05; done; echo ended >> said"
"#;

async fn busy_worker(vhost: &Vhost) -> (Site, Running) {
    let site = Site::at(vhost.url(), TASK);
    site.run(&["topology", "apply"]).await.expect(0);
    site.run(&["publish", "wait", "--count", "3"]).await.expect(0);
    let worker = site.start(&["worker"]);
    eventually(PATIENCE, || async { site.read("said") == "begun\n" }).await;
    (site, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_command_is_finished_and_the_rest_given_back() {
    let vhost = Broker::shared().await.vhost().await;
    let (site, mut worker) = busy_worker(&vhost).await;
    worker.signal(Signal::SIGTERM);
    // Given back while the command still runs.
    eventually_eq(PATIENCE, 2, || vhost.ready("default")).await;
    assert_eq!(site.read("said"), "begun\n");
    site.write("go", "");
    assert_eq!(worker.ended().await, 0, "{}", site.read("log"));
    assert_eq!(site.read("said"), "begun\nended\n");
    // The finished one is acknowledged, the others have lost no attempt.
    let left = vhost.take_all("default").await;
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|message| message.header_text("leveret-attempt").is_none()));
    assert!(site.read("log").contains("stopped"), "{}", site.read("log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_gives_back_what_runs() {
    let vhost = Broker::shared().await.vhost().await;
    let (site, mut worker) = busy_worker(&vhost).await;
    worker.signal(Signal::SIGINT);
    eventually(PATIENCE, || async { site.read("log").contains("asked to stop") }).await;
    worker.signal(Signal::SIGINT);
    assert_eq!(worker.ended().await, 0, "{}", site.read("log"));
    eventually_eq(PATIENCE, 3, || vhost.ready("default")).await;
    assert_eq!(site.read("said"), "begun\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_ends_with_its_ticks_confirmed() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(
        vhost.url(),
        "[schedules.fast]\nevery = \"100ms\"\ntask = \"t\"\nqueue = \"ticks\"\npayload = { n = 1 }\n",
    );
    let mut producer = site.start(&["producer"]);
    eventually(PATIENCE, || async { vhost.exists("ticks").await && vhost.ready("ticks").await >= 3 }).await;
    producer.signal(Signal::SIGTERM);
    assert_eq!(producer.ended().await, 0, "{}", site.read("log"));
    let message = vhost.take("ticks").await.unwrap();
    assert_eq!(message.header_text("leveret-schedule").as_deref(), Some("fast"));
    assert_eq!(message.json(), serde_json::json!({ "n": 1 }));
}

#[tokio::test]
async fn a_signal_ends_those_who_still_wait_for_a_broker() {
    let site = Site::at("amqp://127.0.0.1:1", &format!("{TASK}\n[schedules.s]\ntask = \"t\"\ncron = \"0 0 1 1 *\"\n"));
    for command in ["worker", "producer"] {
        let mut running = site.start(&[command]);
        eventually(PATIENCE, || async { site.read("log").contains("no broker answers at 127.0.0.1:1") }).await;
        running.signal(Signal::SIGTERM);
        assert_eq!(running.ended().await, 0, "{}", site.read("log"));
    }
}
