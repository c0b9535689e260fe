//! The demo on a virtual host of its own: it balances, it notices when it does not, and it leaves nothing behind.

mod common;

use common::{PATIENCE, Site};
use leveret_testkit::{Broker, eventually, eventually_eq};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_balances_though_a_worker_is_killed_and_nothing_is_left_behind() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "");
    // The second time right after the first.
    for _ in 0..2 {
        let ended = site.run(&["demo", "--for", "4s", "--json"]).await.expect(0);
        let ledger = ended.json();
        assert_eq!((&ledger["balanced"], &ledger["lost"]), (&json!(true), &json!(0)), "{ledger}");
        let count = |name: &str| ledger[name].as_u64().unwrap();
        assert_eq!(count("published"), count("done") + count("dead") + count("waiting"), "{ledger}");
        assert!(count("done") >= 20 && count("done_after_a_failure") >= 1, "{ledger}");
        for source in ["Rust client", "words-every-2s", "hash-every-3s"] {
            assert!(ledger["sources"][source].as_u64().unwrap() > 0, "{ledger}");
        }
        assert_eq!(ledger["reasons"][0]["task"], "demo.average", "{ledger}");
        assert_eq!(ledger["killed"]["worker"], "worker-2", "{ledger}");
        assert_eq!(ledger["killed"]["running"], ledger["killed"]["done"], "{ledger}");
        // The queue that keeps a second demo away goes with its connection, which RabbitMQ 4.3 does a moment later.
        eventually_eq(PATIENCE, Vec::<String>::new(), async || vhost.queues().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_stolen_is_missing_in_the_ledger() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "");
    let stealing = async {
        // The task with the bug ends there.
        let dead = "leveret-demo-text.dead";
        eventually(PATIENCE, async || vhost.exists(dead).await).await;
        eventually(PATIENCE, || vhost.take(dead)).await
    };
    let arguments = ["demo", "--for", "5s", "--json"];
    let (ended, _) = futures_util::future::join(site.run(&arguments), stealing).await;
    let ended = ended.expect(1);
    let ledger = ended.json();
    assert_eq!((&ledger["balanced"], &ledger["lost"]), (&json!(false), &json!(1)), "{ledger}");
    assert!(ended.stderr.contains("does not balance"), "{}", ended.stderr);
}
