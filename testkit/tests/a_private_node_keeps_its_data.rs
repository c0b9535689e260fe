//! A private node can be stopped, killed and restarted: same address, same messages, and the shared broker untouched.

use std::time::Duration;

use lapin::BasicProperties;
use leveret_testkit::{Broker, Node, eventually_eq};

#[tokio::test]
async fn a_durable_message_survives_restart_and_kill() {
    let shared = Broker::shared().await;
    let node = Node::private("keeps-data").await;
    assert_ne!(shared.url(), node.url());
    let vhost = node.broker().vhost().await;
    vhost.declare("work").await;
    let persistent = BasicProperties::default().with_delivery_mode(2);
    vhost.publish("", "work", persistent.clone(), "before the restart").await;

    node.restart().await;
    eventually_eq(Duration::from_secs(30), true, async || vhost.exists("work").await).await;
    eventually_eq(Duration::from_secs(30), 1, async || vhost.ready("work").await).await;

    vhost.publish("", "work", persistent, "before the kill").await;
    node.kill().await;
    node.start().await;
    eventually_eq(Duration::from_secs(30), true, async || vhost.exists("work").await).await;
    eventually_eq(Duration::from_secs(30), 2, async || vhost.ready("work").await).await;
    assert!(shared.vhost().await.queues().await.is_empty());
}
