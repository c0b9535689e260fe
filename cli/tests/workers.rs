//! `leveret workers` against control planes that run in this process.

mod common;

use common::{PATIENCE, Site};
use leveret_testkit::{Broker, Vhost, eventually};
use leveret_tests::{settings, steered::Steered};
use serde_json::json;

use leveret::worker::control::ControlSettings;

async fn steered(vhost: &Vhost, name: &str, queues: &[&str]) -> Steered {
    Steered::start(settings(vhost.url()), name, queues, ControlSettings::default()).await.listens().await
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_shown_and_watched() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "");
    assert_eq!(site.run(&["workers"]).await.expect(0).stdout, "no workers\n");
    let a = steered(&vhost, "mail-1", &["mail"]).await;
    let b = steered(&vhost, "mail-2", &["mail", "bulk"]).await;

    let listed = site.run(&["workers"]).await.expect(0).stdout;
    let rows = rows(&listed);
    assert_eq!(rows[0], ["WORKER", "INSTANCE", "HOST", "STATE", "UP", "BUSY", "QUEUES"]);
    assert_eq!((rows[1][0], rows[1][1], rows[1][3]), ("mail-1", a.instance.to_string().as_str(), "running"));
    assert_eq!(rows[2][5..], ["2/8", "mail", "1/4,", "bulk", "1/4"]);
    let listed = site.run(&["workers", "--json"]).await.expect(0).json();
    assert_eq!(listed["workers"][1]["instance"], b.instance.to_string());
    assert_eq!(listed["workers"][1]["presence"], "live");

    for whom in ["mail-2", &b.instance.to_string()] {
        let shown = site.run(&["workers", "show", whom, "--json"]).await.expect(0).json();
        assert_eq!(shown["workers"].as_array().unwrap().len(), 1);
        assert_eq!(shown["workers"][0]["tasks"][0]["schema"]["type"], "object");
    }
    let text = site.run(&["workers", "show", "mail-2"]).await.expect(0).stdout;
    assert!(text.contains("queue     bulk: 1 of 4 busy, prefetch 8, attached\n"), "{text}");
    assert!(text.contains("task      mail.send {\"properties\""), "{text}");
    let nobody = site.run(&["workers", "show", "mail-3"]).await.expect(1).stderr;
    assert!(nobody.contains("no worker named \"mail-3\" is there"), "{nobody}");

    // Who watches sees them come and go.
    let mut watching = site.watch(&["workers", "--watch", "100ms", "--json"]);
    let all = |workers: &serde_json::Value| workers["workers"].as_array().is_some_and(|workers| workers.len() == 2);
    watching.until(all).await;
    a.stop().await;
    watching
        .until(|workers| workers["workers"].as_array().unwrap().iter().any(|row| row["presence"] == "offline"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_run_are_listed_and_cancelled() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "");
    assert_eq!(site.run(&["workers", "running"]).await.expect(0).stdout, "nothing runs\n");
    let worker = steered(&vhost, "mail-1", &["mail"]).await;
    worker.double.run("one", "mail.send", "mail");
    worker.double.run("two", "mail.sort", "mail");
    let text = site.run(&["workers", "running", "--queue", "mail"]).await.expect(0).stdout;
    let rows = rows(&text);
    assert_eq!(rows[1][..4], ["one", "mail.send", "mail", "1"]);
    assert_eq!(rows[1][5..], ["3/10", "resizing", "mail-1"]);
    let json = site.run(&["workers", "running", "--json"]).await.expect(0).json();
    assert_eq!((&json["total"], &json["tasks"][1]["id"]), (&json!(2), &json!("two")));

    let cancel = ["workers", "cancel", "two", "--reason", "wrong list"];
    assert_eq!(site.run(&cancel).await.expect(0).stdout, "1 cancelled\n");
    let again = site.run(&cancel).await.expect(1).stdout;
    assert_eq!(again, "no such task runs at the 1 workers that have answered\n");
    site.run(&["workers", "cancel", "--task", "mail.send"]).await.expect(0);
    let later = site.run(&["workers", "cancel", "three", "--remember", "1h"]).await.expect(0).stdout;
    assert_eq!(later, "remembered by 1 workers\n");
    assert_eq!(worker.double.told(), ["cancel two wrong list", "cancel one -", "revoke three - 3600s None"]);
    site.run(&["workers", "cancel"]).await.expect(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_listed_as_each_worker_knows_them() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "");
    let none = site.run(&["workers", "limits"]).await.expect(0).stdout;
    assert_eq!(none, "no worker that has answered has limits\n");
    let _worker = steered(&vhost, "mail-1", &["mail"]).await;
    let listed = site.run(&["workers", "limits"]).await.expect(0).stdout;
    let rows = rows(&listed);
    assert_eq!(rows[0], ["LIMIT", "AT", "ONCE", "RATE", "COUNTS", "HELD", "WAITING", "WORKER"]);
    assert_eq!(rows[1], ["api", "5", "this", "worker", "2", "1", "mail-1"]);
    let listed = site.run(&["workers", "limits", "--worker", "mail-1", "--json"]).await.expect(0).json();
    let limit = &listed["limits"][0];
    assert_eq!((&limit["in_force"], &limit["concurrency"]), (&json!({"concurrency": 5}), &json!(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_paused_here_and_everywhere_and_told_as_such() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "[queues.mail]\n");
    let worker = steered(&vhost, "mail-1", &["mail"]).await;
    let paused = site.run(&["workers", "pause", "mail", "--reason", "here"]).await.expect(0);
    assert_eq!(paused.stdout, format!("mail-1 {}  ok\n", worker.instance));
    assert!(paused.stderr.contains("--everywhere"), "{}", paused.stderr);
    site.run(&["workers", "resume", "mail"]).await.expect(0);
    site.run(&["workers", "pause", "mail", "--everywhere", "--reason", "new schema"]).await.expect(0);
    let text = site.run(&["queues"]).await.expect(0).stdout;
    assert!(text.contains("\nmail is paused everywhere: new schema (guest at "), "{text}");
    let json = site.run(&["queues", "--json"]).await.expect(0).json();
    assert_eq!(json["queues"][0]["paused"]["reason"], "new schema");
    let still = site.run(&["workers", "resume", "mail"]).await.expect(0).stdout;
    assert!(still.contains("paused everywhere: new schema"), "{still}");
    let resumed = site.run(&["workers", "resume", "mail", "--everywhere"]).await.expect(0).stdout;
    assert!(resumed.starts_with("resumed everywhere\n"), "{resumed}");
    assert_eq!(worker.double.told(), ["pause mail here", "resume mail", "pause mail new schema", "resume mail"]);
    let json = site.run(&["queues", "--json"]).await.expect(0).json();
    assert_eq!(json["queues"][0].get("paused"), None);
    // Nobody need be there to hear it.
    worker.stop().await;
    site.run(&["workers", "pause", "mail", "--everywhere"]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_told_by_exit_codes() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "");
    let nowhere = site.run(&["workers", "ping"]).await.expect(1).stderr;
    assert!(nowhere.contains("start a worker"), "{nowhere}");
    let worker = steered(&vhost, "mail-1", &["mail"]).await;
    site.run(&["workers", "ping"]).await.expect(0);
    site.run(&["workers", "concurrency", "mail", "9", "--worker", "mail-1"]).await.expect(0);
    site.run(&["workers", "limit", "api", "--rate", "100/s"]).await.expect(0);
    site.run(&["workers", "drain", "--instance", &worker.instance.to_string()]).await.expect(0);
    let wanted = ["concurrency mail 9", "limit api None Some(\"100/s\")", "drain"];
    assert_eq!(worker.double.told(), wanted);
    let refused = site.run(&["workers", "log", "debug"]).await.expect(1).stdout;
    assert!(refused.contains("refused: "), "{refused}");
    let refused = site.run(&["workers", "concurrency", "other", "9", "--worker", "mail-1"]).await.expect(1).stdout;
    assert!(refused.contains("does not consume from queue \"other\""), "{refused}");
    // One who says no whom is not taken to mean everyone.
    site.run(&["workers", "stop"]).await.expect(2);
    site.run(&["workers", "limit", "api"]).await.expect(2);
    site.run(&["workers", "concurrency", "mail", "0"]).await.expect(2);
    site.run(&["workers", "stop", "--all", "--json"]).await.expect(0);
    eventually(PATIENCE, async || worker.double.told().contains(&"stop".to_owned())).await;
    site.run(&["workers", "ping", "--worker", "other"]).await.expect(1);
}
