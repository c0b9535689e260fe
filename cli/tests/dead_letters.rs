//! From a task that fails, through `leveret dead`, back to its queue.

mod common;

use common::{PATIENCE, Site};
use leveret_testkit::{Broker, eventually_eq};
use serde_json::json;

const TASKS: &str = r#"
[worker]
retries = 0

[tasks.broken]
command = "echo no such luck >&2; exit 1"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_shown_replayed_and_removed() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), TASKS);
    site.run(&["topology", "apply"]).await.expect(0);
    let mut worker = site.start(&["worker"]);
    for id in ["a", "b"] {
        site.run(&["publish", "broken", "--id", id, "--payload", r#"{"hare":1}"#, "--wait", "20s"]).await.expect(1);
    }
    site.run(&["publish", "unheard-of", "--id", "c", "--wait", "20s"]).await.expect(1);
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    worker.ended().await;

    let listed = site.run(&["dead", "list", "--json"]).await.expect(0).json();
    assert_eq!((listed["depth"].as_u64(), listed["dead_letters"].as_array().map(Vec::len)), (Some(3), Some(3)));
    let unknown = site.run(&["dead", "list", "--reason", "unknown-task"]).await.expect(0).stdout;
    assert!(unknown.contains("unheard-of") && !unknown.contains("broken"), "{unknown}");
    let grouped = site.run(&["dead", "list", "--group", "--json"]).await.expect(0).json();
    assert_eq!((&grouped["groups"][0]["count"], &grouped["groups"][0]["task"]), (&json!(2), &json!("broken")));

    let shown = site.run(&["dead", "show", "a", "--json"]).await.expect(0).json();
    assert_eq!((&shown["body"], &shown["reason"]), (&json!({ "hare": 1 }), &json!("exhausted")));
    assert!(shown["error"].as_str().unwrap().contains("no such luck"), "{shown}");
    let text = site.run(&["dead", "show", "a"]).await.expect(0).stdout;
    assert!(text.contains("leveret-dead-reason: exhausted") && text.contains("\"hare\": 1"), "{text}");
    assert!(site.run(&["dead", "show", "z"]).await.expect(1).stderr.contains("\"z\""));

    let amended = site.run(&["dead", "amend", "b", "--payload", "[2]", "--stay"]).await.expect(0).stdout;
    assert_eq!(amended, "the task b is changed, and stays a dead letter\n");
    assert_eq!(site.run(&["dead", "show", "b", "--json"]).await.expect(0).json()["body"], json!([2]));
    site.run(&["dead", "amend", "z", "--payload", "[2]"]).await.expect(1);
    site.run(&["dead", "amend", "b"]).await.expect(2);

    // What changes something wants to be told what.
    site.run(&["dead", "replay", "--queue", "default"]).await.expect(2);
    site.run(&["dead", "replay", "--all"]).await.expect(2);
    site.run(&["dead", "replay", "--queue", "default", "--all", "--id", "a"]).await.expect(2);
    site.run(&["dead", "purge", "--queue", "default", "--all"]).await.expect(2);
    site.run(&["dead", "replay", "--queue", "default", "--id", "z"]).await.expect(1);

    let would = site.run(&["dead", "replay", "--queue", "default", "--task", "broken", "--dry-run"]).await.expect(0);
    assert_eq!(would.stdout, "2 of 3 in default.dead would be replayed\n");
    let arguments = ["dead", "replay", "--queue", "default", "--task", "broken", "--rate", "100/s", "--json"];
    let replayed = site.run(&arguments).await.expect(0).json();
    assert_eq!((&replayed["replayed"], &replayed["left"]), (&json!(2), &json!(1)));
    eventually_eq(PATIENCE, 2, || vhost.ready("default")).await;
    let purged = site.run(&["dead", "purge", "--queue", "default", "--all", "--yes"]).await.expect(0);
    assert_eq!(purged.stdout, "1 removed from default.dead, 0 left there\n");
    assert_eq!(site.run(&["dead", "list"]).await.expect(0).stdout, "no dead letters\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_message_is_replayed_when_there_is_a_queue_for_it() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "[queues.mail]\n");
    site.run(&["topology", "apply"]).await.expect(0);
    let named = lapin::BasicProperties::default().with_type("send".into()).with_message_id("a".into());
    vhost.publish("leveret.tasks", "letters.eu", named, "{}").await;
    assert!(site.run(&["dead", "list", "--lost"]).await.expect(0).stdout.contains("unroutable"));
    let stays = site.run(&["dead", "replay", "--lost", "--all"]).await.expect(0).stdout;
    assert_eq!(stays, "0 replayed from leveret.lost, 1 left there\n");
    site.write("leveret.toml", &format!("[broker]\nurl = \"{}\"\n[queues.letters]\n", vhost.url()));
    site.run(&["topology", "apply"]).await.expect(0);
    let moved = site.run(&["dead", "replay", "--lost", "--all"]).await.expect(0).stdout;
    assert_eq!(moved, "1 replayed from leveret.lost, 0 left there\n");
    assert_eq!(vhost.take("letters").await.and_then(|message| message.id()).as_deref(), Some("a"));
}
