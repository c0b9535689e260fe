//! Every test has a virtual host to itself, sees what is in it, and leaves nothing behind.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::{
    BasicProperties,
    options::BasicConsumeOptions,
    types::{AMQPValue, FieldTable},
};
use leveret_testkit::{Broker, Depth, eventually, eventually_eq};

const SOON: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_queue_of_one_is_not_seen_in_another() {
    let broker = Broker::shared().await;
    let (one, other) = (broker.vhost().await, broker.vhost().await);
    one.declare("work").await;
    assert_ne!(one.name(), other.name());
    assert!(one.exists("work").await);
    assert!(!other.exists("work").await);
    assert_eq!(one.queues().await, ["work"]);
    assert!(other.queues().await.is_empty());
}

#[tokio::test]
async fn messages_are_looked_at_and_taken_whole() {
    let vhost = Broker::shared().await.vhost().await;
    vhost.declare("work").await;
    let mut headers = FieldTable::default();
    headers.insert("leveret-attempt".into(), AMQPValue::LongLongInt(2));
    let properties =
        BasicProperties::default().with_type("sum".into()).with_message_id("m-1".into()).with_headers(headers);
    vhost.publish("", "work", properties, b"[1,2]").await;
    vhost.publish("", "work", BasicProperties::default(), "second").await;
    assert_eq!(vhost.ready("work").await, 2);

    let seen = vhost.peek("work", 1).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].task().as_deref(), Some("sum"));
    assert_eq!(seen[0].id().as_deref(), Some("m-1"));
    assert_eq!(seen[0].header_text("leveret-attempt").as_deref(), Some("2"));
    assert_eq!(seen[0].json(), serde_json::json!([1, 2]));
    // RabbitMQ 4.3 answers the close of a channel before it has put back what the channel held.
    eventually_eq(SOON, 2, async || vhost.ready("work").await).await;

    let taken = vhost.take_all("work").await;
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().any(|message| message.body == b"second"));
    assert_eq!(vhost.ready("work").await, 0);
    assert!(vhost.take("work").await.is_none());
}

#[tokio::test]
async fn a_consumer_is_counted_and_its_connection_can_be_closed() {
    let vhost = Broker::shared().await.vhost().await;
    vhost.declare("work").await;
    vhost.publish("", "work", BasicProperties::default(), "held").await;
    let client = lapin::Connection::connect_with_runtime(
        vhost.url(),
        lapin::ConnectionProperties::default().with_connection_name("under test".into()),
        async_rs::Runtime::tokio_current(),
    )
    .await
    .unwrap();
    let channel = client.create_channel().await.unwrap();
    let mut consumer = channel
        .basic_consume("work".into(), "c".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .unwrap();
    let held = consumer.next().await.unwrap().unwrap();
    assert_eq!(held.data, b"held");
    assert_eq!(vhost.consumers("work").await, 1);
    eventually_eq(SOON, Depth { ready: 0, unacked: 1, consumers: 1 }, async || vhost.depth("work").await).await;

    let seen = eventually(SOON, async || vhost.connections().await.pop()).await;
    assert_eq!(seen.client_name, "under test");
    assert_eq!(vhost.close_connections().await, 1);
    eventually(SOON, async || !client.status().connected()).await;
    eventually_eq(SOON, 1, async || vhost.ready("work").await).await;
}

#[tokio::test]
async fn nothing_is_left_when_the_test_ends() {
    let broker = Broker::shared().await;
    let left = broker.vhost().await;
    let witness = broker.vhost().await;
    left.declare("work").await;
    let name = left.name().to_owned();
    drop(left);
    let all = witness.api("vhosts?columns=name").await;
    assert!(!all.as_array().unwrap().iter().any(|vhost| vhost["name"] == *name));
}
