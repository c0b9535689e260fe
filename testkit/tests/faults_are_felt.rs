//! What the proxy does to a connection, its client notices.

#![expect(clippy::unwrap_used, reason = "a connection that cannot be made fails the test")]

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use leveret_testkit::{Broker, Direction, FaultProxy, Vhost, eventually, eventually_eq};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(15);

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect_with_runtime(url, lapin::ConnectionProperties::default(), async_rs::Runtime::tokio_current())
        .await
}

async fn confirmed_channel(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

async fn through_proxy() -> (Vhost, FaultProxy) {
    let vhost = Broker::shared().await.vhost().await;
    vhost.declare("work").await;
    let proxy = FaultProxy::to(vhost.url()).await;
    (vhost, proxy)
}

#[tokio::test]
async fn a_cut_ends_the_connection_and_the_next_one_works() {
    let (_vhost, proxy) = through_proxy().await;
    let first = connect(proxy.url()).await.unwrap();
    assert_eq!((proxy.open(), proxy.accepted()), (1, 1));
    proxy.cut();
    eventually(SOON, async || !first.status().connected()).await;
    eventually_eq(SOON, 0, async || proxy.open()).await;
    let second = connect(proxy.url()).await.unwrap();
    assert!(second.status().connected());
    assert_eq!((proxy.open(), proxy.accepted()), (1, 2));
}

#[tokio::test]
async fn refused_until_resumed() {
    let (_vhost, proxy) = through_proxy().await;
    let first = connect(proxy.url()).await.unwrap();
    proxy.refuse();
    eventually(SOON, async || !first.status().connected()).await;
    eventually(SOON, async || connect(proxy.url()).await.is_err()).await;
    proxy.resume();
    eventually(SOON, async || connect(proxy.url()).await).await;
}

#[tokio::test]
async fn a_confirm_that_is_held_back_comes_late_though_the_message_is_there() {
    let (vhost, proxy) = through_proxy().await;
    let connection = connect(proxy.url()).await.unwrap();
    let channel = confirmed_channel(&connection).await;
    proxy.stall(Direction::FromBroker);
    let confirm = channel
        .basic_publish("".into(), "work".into(), BasicPublishOptions::default(), b"x", BasicProperties::default())
        .await
        .unwrap();
    let mut confirm = std::pin::pin!(async { confirm.await.unwrap() });
    eventually_eq(SOON, 1, async || vhost.ready("work").await).await;
    assert!(timeout(Duration::from_millis(200), confirm.as_mut()).await.is_err());
    proxy.resume();
    assert!(timeout(SOON, confirm).await.unwrap().is_ack());
}

#[tokio::test]
async fn a_message_that_is_held_back_is_not_there_until_resumed() {
    let (vhost, proxy) = through_proxy().await;
    let connection = connect(proxy.url()).await.unwrap();
    let channel = confirmed_channel(&connection).await;
    proxy.stall(Direction::ToBroker);
    let confirm = channel
        .basic_publish("".into(), "work".into(), BasicPublishOptions::default(), b"x", BasicProperties::default())
        .await
        .unwrap();
    assert_eq!(vhost.ready("work").await, 0);
    proxy.resume();
    assert!(timeout(SOON, confirm).await.unwrap().unwrap().is_ack());
    assert_eq!(vhost.ready("work").await, 1);
}

#[tokio::test]
async fn delay_is_added_each_way() {
    let (_vhost, proxy) = through_proxy().await;
    let connection = connect(proxy.url()).await.unwrap();
    proxy.delay(Duration::from_millis(150));
    let asked = Instant::now();
    connection.create_channel().await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(300), "took {:?}", asked.elapsed());
}
