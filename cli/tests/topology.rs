//! `leveret topology` and `leveret queues` against a broker.

mod common;

use common::{PATIENCE, Site};
use leveret_testkit::{Broker, eventually_eq};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_declared_and_then_there() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "[queues.mail]\n[tasks.a]\ncommand = \"true\"\nqueue = \"images\"\n");
    let before = site.run(&["topology", "diff", "--json"]).await.expect(1).json();
    let missing = before["differences"].as_array().unwrap();
    assert!(missing.iter().all(|difference| difference["difference"] == "missing"));
    assert!(missing.iter().any(|difference| difference["part"]["queue"] == "images.dead"));
    assert!(vhost.queues().await.is_empty());

    let applied = site.run(&["topology", "apply", "--json"]).await.expect(0).json();
    assert_eq!(applied["created"].as_array().unwrap().len(), missing.len());
    assert_eq!(vhost.queues().await.len(), 1 + 2 * 8);
    let after = site.run(&["topology", "diff"]).await.expect(0);
    assert_eq!(after.stdout, "the broker holds what the configuration says\n");
    let again = site.run(&["topology", "apply", "--json"]).await.expect(0).json();
    assert_eq!(again["created"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_argument_is_named_with_both_values_and_nothing_is_changed() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "[queues.mail]\nmax_length = 500\n");
    site.run(&["topology", "apply"]).await.expect(0);
    let other = Site::at(
        vhost.url(),
        "[queues.mail]\nmax_length = 600\n[queues.new]\n[tasks.a]\ncommand = \"true\"\nqueue = \"mail\"\n",
    );
    let diff = other.run(&["topology", "diff"]).await.expect(1);
    assert!(diff.stdout.contains("queue \"mail\" has x-max-length = 500, the topology says 600\n"), "{}", diff.stdout);
    for command in [&["topology", "apply"][..], &["worker", "-q"]] {
        let ended = other.run(command).await.expect(1);
        let said = ended.stderr.lines().last().unwrap_or_default();
        assert!(said.contains("queue \"mail\" has x-max-length = 500, the topology says 600"), "{said}");
        assert!(said.contains("delete it"), "{said}");
    }
    assert!(!vhost.exists("new").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_counted_without_the_management_api() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "[queues.mail]\n");
    let absent = site.run(&["queues"]).await.expect(0);
    assert!(absent.stdout.lines().nth(1).unwrap().contains('-'), "{}", absent.stdout);
    assert!(absent.stderr.contains("leveret topology apply"), "{}", absent.stderr);

    site.run(&["topology", "apply"]).await.expect(0);
    site.run(&["publish", "t", "--queue", "mail", "--count", "3"]).await.expect(0);
    vhost.publish("leveret.tasks", "unheard-of", lapin::BasicProperties::default(), "1").await;
    vhost.publish("", "mail.retry.1h", lapin::BasicProperties::default(), "1").await;
    vhost.publish("leveret.dead", "mail", lapin::BasicProperties::default(), "1").await;
    let counts = async || site.run(&["queues", "--json"]).await.expect(0).json();
    let wanted = serde_json::json!({
        "queues": [{ "queue": "mail", "ready": 3, "delayed": 1, "dead": 1, "consumers": 0 }],
        "lost": 1,
    });
    eventually_eq(PATIENCE, wanted, counts).await;
    let text = site.run(&["queues"]).await.expect(0).stdout;
    let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["QUEUE", "READY", "DELAYED", "DEAD", "CONSUMERS"]);
    assert_eq!(rows[1], ["mail", "3", "1", "1", "0"]);
    assert!(text.contains("1 lost"), "{text}");
}

#[tokio::test]
async fn the_export_is_what_the_repository_ships() {
    let site = Site::new("");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../rabbitmq/definitions.json");
    site.run(&["topology", "export", "--check", shipped]).await.expect(0);

    let exported = site.run(&["topology", "export", "--vhost", "shop"]).await.expect(0).json();
    assert_eq!(exported["vhosts"][0]["name"], "shop");
    assert!(exported["queues"].as_array().unwrap().iter().all(|queue| queue["vhost"] == "shop"));
    site.run(&["topology", "export", "--output", "mine.json"]).await.expect(0);
    site.run(&["topology", "export", "--check", "mine.json"]).await.expect(0);
    site.write("leveret.toml", "[queues.other]\n");
    let stale = site.run(&["topology", "export", "--check", "mine.json"]).await.expect(1);
    assert!(stale.stderr.contains("leveret topology export --output mine.json"), "{}", stale.stderr);
}

#[tokio::test]
async fn the_topology_is_shown_without_a_broker() {
    let site = Site::at("amqp://127.0.0.1:1", "[queues.mail]\n");
    let json = site.run(&["topology", "show", "--json"]).await.expect(0).json();
    let queue = json["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == "mail").unwrap();
    assert_eq!(queue["arguments"]["x-queue-type"], "quorum");
    assert!(json["bindings"].as_array().unwrap().iter().any(|binding| binding["routing_key"] == "mail.#"));
    let text = site.run(&["topology", "show"]).await.expect(0).stdout;
    assert!(text.contains("mail.retry.1h"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_in_shards_is_declared_counted_and_resharded() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "[queues.mail]\nshards = 2\norder = false\n");
    site.run(&["topology", "apply"]).await.expect(0);
    assert_eq!(
        site.run(&["topology", "diff"]).await.expect(0).stdout,
        "the broker holds what the configuration says\n"
    );
    site.run(&["publish", "t", "--queue", "mail", "--count", "20"]).await.expect(0);
    let counts = async || site.run(&["queues", "--json"]).await.expect(0).json()["queues"][0].clone();
    let wanted =
        serde_json::json!({ "queue": "mail", "shards": 2, "ready": 20, "delayed": 0, "dead": 0, "consumers": 0 });
    eventually_eq(PATIENCE, wanted, counts).await;

    let resharded = site.run(&["queues", "reshard", "mail", "--to", "3"]).await.expect(0);
    assert_eq!(resharded.stdout, "mail has 3 shards\n");
    assert!(resharded.stderr.contains("mail.02 takes tasks"), "{}", resharded.stderr);
    assert!(resharded.stderr.contains("write `shards = 3` into [queues.mail]"), "{}", resharded.stderr);
    let diff = site.run(&["topology", "diff"]).await.expect(1).stdout;
    assert!(diff.contains("has 3 shards, the topology says 2 shards"), "{diff}");
    let exported = site.run(&["topology", "export", "--json"]).await.expect(0).json();
    assert!(!exported["bindings"].to_string().contains("mail.shards"), "a file cannot hold their order");

    let plain = Site::at(vhost.url(), "[queues.mail]\n");
    let refused = plain.run(&["queues", "reshard", "mail", "--to", "3"]).await.expect(1);
    assert!(refused.stderr.contains("is not in shards"), "{}", refused.stderr);
    let refused = plain.run(&["topology", "apply"]).await.expect(1);
    assert!(refused.stderr.contains("queue \"mail\" has 3 shards, the topology says none"), "{}", refused.stderr);
    let wrong = Site::at(vhost.url(), "[queues.mail]\nshards = 2\nroute = \"hash\"\n");
    let refused = wrong.run(&["config", "check"]).await.expect(64);
    assert!(refused.stderr.contains("go by their key"), "{}", refused.stderr);
}
