//! From `leveret publish` to a command that a worker runs, and back.

mod common;

use common::{PATIENCE, Site};
use leveret_testkit::{Broker, eventually, eventually_eq};

const TASKS: &str = r#"
[worker]
retries = 1
backoff = "10ms"

[tasks."text.upper"]
command = ["tr", "a-z", "A-Z"]

[tasks.broken]
command = "echo no such luck >&2; exit 1"

[tasks.slow]
command = "sleep 60"
queue = "slow"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_task_comes_back_and_its_end_decides_the_exit_code() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), TASKS);
    let _worker = site.start(&["worker"]);
    eventually(PATIENCE, || async { vhost.exists("slow").await && vhost.consumers("slow").await == 1 }).await;

    let done = site.run(&["publish", "text.upper", "--payload", r#"{"a":"hare"}"#, "--wait", "20s", "--json"]).await;
    let json = done.expect(0).json();
    assert_eq!(json["result"]["status"], "done");
    assert_eq!(json["result"]["body"], serde_json::json!({ "A": "HARE" }));
    assert_eq!(json["published"], 1);

    let text = site.feed(&["publish", "text.upper", "--raw", "--payload-file", "-", "--wait", "20s"], "hare\n").await;
    assert_eq!(text.expect(0).stdout, "HARE\n");

    let dead = site.run(&["publish", "broken", "--wait", "20s"]).await.expect(1);
    assert!(dead.stdout.starts_with("dead in attempt 2 (exhausted): "), "{}", dead.stdout);
    assert!(dead.stdout.contains("no such luck"), "{}", dead.stdout);

    let unknown = site.run(&["publish", "unheard-of", "--wait", "20s", "--json"]).await.expect(1).json();
    assert_eq!(unknown["result"]["body"]["reason"], "unknown-task");

    let waiting = site.run(&["publish", "slow", "--wait", "300ms"]).await.expect(75);
    assert!(waiting.stderr.contains("has not ended within 300ms"), "{}", waiting.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_travel_with_the_message() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "[queues.mail]\n");
    site.run(&["topology", "apply"]).await.expect(0);
    let options = "--queue mail --id order-17 --key eu --header tenant=acme --max-attempts 3 --timeout 5s --delay 1h \
                   --expires-in 2h";
    let arguments: Vec<_> =
        ["publish", "mail.send", "--payload", "[1]"].into_iter().chain(options.split(' ')).collect();
    assert_eq!(site.run(&arguments).await.expect(0).stdout, "order-17\n");
    let message = eventually(PATIENCE, || vhost.take("mail")).await;
    assert_eq!(message.id().as_deref(), Some("order-17"));
    assert_eq!(message.task().as_deref(), Some("mail.send"));
    assert_eq!(message.json(), serde_json::json!([1]));
    for (name, value) in
        [("leveret-key", "eu"), ("tenant", "acme"), ("leveret-max-attempts", "3"), ("leveret-timeout-ms", "5000")]
    {
        assert_eq!(message.header_text(name).as_deref(), Some(value), "{name}");
    }
    let time = |name| message.header_text(name).and_then(|ms| ms.parse::<i64>().ok()).unwrap();
    assert_eq!((time("leveret-expires-at") - time("leveret-not-before")) / 1000, 3600);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_and_each_count_is_a_task() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "");
    site.run(&["topology", "apply"]).await.expect(0);

    let lines = site.feed(&["publish", "t", "--lines"], "{\"n\":1}\n\n{\"n\":2}\r\n\"three\"").await.expect(0);
    assert_eq!(lines.stdout.lines().count(), 3);
    eventually_eq(PATIENCE, 3, || vhost.ready("default")).await;
    let bodies: Vec<_> = vhost.take_all("default").await.iter().map(leveret_testkit::Message::json).collect();
    assert_eq!(bodies, [serde_json::json!({ "n": 1 }), serde_json::json!({ "n": 2 }), serde_json::json!("three")]);

    let counted = site.run(&["publish", "t", "--count", "2500", "--json"]).await.expect(0).json();
    assert_eq!(counted["published"], 2500);
    let ids: std::collections::HashSet<_> = counted["ids"].as_array().unwrap().iter().collect();
    assert_eq!(ids.len(), 2500);
    eventually_eq(PATIENCE, 2500, || vhost.ready("default")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_after_a_wrong_line_is_published() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "");
    site.run(&["topology", "apply"]).await.expect(0);
    let ended = site.feed(&["publish", "t", "--lines", "--json"], "1\n2\n{oops\n4\n").await.expect(1);
    let json = ended.json();
    assert_eq!((&json["published"], &json["failed"][0]["number"]), (&2.into(), &3.into()));
    assert!(ended.stderr.contains("none after number 3 was tried"), "{}", ended.stderr);
    eventually_eq(PATIENCE, 2, || vhost.ready("default")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_no_queue_takes_is_an_error() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "");
    let ended = site.run(&["publish", "t", "--queue", "nowhere"]).await.expect(1);
    assert!(ended.stderr.contains("no queue takes \"nowhere\""), "{}", ended.stderr);
    assert!(ended.stderr.contains("leveret topology apply"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1);
    let many = site.run(&["publish", "t", "--queue", "nowhere", "--count", "3", "--json"]).await.expect(1);
    assert_eq!(many.json()["published"], 0);
    assert_eq!(many.json()["failed"][0]["number"], 1);
}

#[tokio::test]
async fn a_wrong_payload_is_refused_before_the_broker_is_asked() {
    let site = Site::at("amqp://127.0.0.1:1", "");
    let ended = site.run(&["publish", "t", "--payload", "{oops"]).await.expect(2);
    assert!(ended.stderr.contains("the payload is no JSON"), "{}", ended.stderr);
    for wrong in [&["publish", "t", "--queue", "a.b"][..], &["publish", ""], &["publish", "t", "--delay", "soon"]] {
        site.run(wrong).await.expect(2);
    }
}
