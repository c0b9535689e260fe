//! Brokers that refuse, or are not there: everyone is told within seconds, with an error that says what to do.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic, its helpers too")]

use std::time::Duration;

use leveret::{
    BrokerSettings, Client, ClientError, ConnectError, PublishError, StartError, common::topology::TopologyError,
};
use leveret_testkit::{Node, Permissions, eventually};
use leveret_tests::{PATIENCE, Place, Probe, probe, quick, settings, start, within, worker};

const EVERYTHING: &str = ".*";
const NOTHING: &str = "";

async fn soon<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), awaited).await.expect(what)
}

async fn client_error(settings: BrokerSettings) -> ClientError {
    soon("the client is told within seconds", Client::connect(settings)).await.unwrap_err()
}

async fn worker_error(settings: BrokerSettings) -> StartError {
    let worker = worker(settings).0.queue("default", quick(1)).build().unwrap();
    soon("the worker is told within seconds", worker.start()).await.unwrap_err()
}

fn assert_says(error: &dyn std::error::Error, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(!text.contains("leveret-test:"), "a password is in: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_cannot_work_ends_client_and_worker() {
    let place = Place::new().await;
    let url = place.vhost.url();
    let broker = place.settings.url[0].host();
    let stranger = place.vhost.user(Permissions { configure: EVERYTHING, write: EVERYTHING, read: EVERYTHING }).await;
    let other_vhost = Place::new().await;
    let name = place.vhost.name();
    let cases = [
        // The password, the virtual host, and a user who has no permissions there at all.
        (url.replace("guest:guest", "guest:wrong"), "ACCESS_REFUSED"),
        (url.replace(name, "nowhere"), "vhost nowhere not found"),
        (stranger.url().replace(name, other_vhost.vhost.name()), "refused for user"),
    ];
    for (url, reason) in cases {
        let client = client_error(settings(&url)).await;
        assert!(matches!(client, ClientError::Connect(ConnectError::Refused { .. })), "{client:?}");
        let parts = [broker.as_str(), reason, "check user, password, permissions and virtual host"];
        assert_says(&client, &parts);
        let worker = worker_error(settings(&url)).await;
        assert!(matches!(worker, StartError::Connect(ConnectError::Refused { .. })), "{worker:?}");
        assert_says(&worker, &parts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_declare_is_told_what_is_missing_and_works_with_what_is_there() {
    let place = Place::new().await;
    let user = place.vhost.user(Permissions { configure: NOTHING, write: EVERYTHING, read: EVERYTHING }).await;
    let advice = ["exchange \"leveret.", "ACCESS_REFUSED", "permission to configure", "`leveret topology apply`"];
    let client = client_error(settings(user.url())).await;
    assert!(matches!(client, ClientError::Topology(TopologyError::Forbidden { .. })), "{client:?}");
    assert_says(&client, &advice);
    let worker = worker_error(settings(user.url())).await;
    assert!(matches!(worker, StartError::Topology(TopologyError::Forbidden { .. })), "{worker:?}");
    assert_says(&worker, &advice);

    // One who may has declared it: that is all it takes.
    place.declare_default().await;
    let (builder, mut runs) = leveret_tests::worker(settings(user.url()));
    let worker = start(builder.queue("default", quick(1))).await;
    let client = Client::connect(settings(user.url())).await.unwrap();
    client.publish(&Probe(1.into())).await.unwrap();
    runs.next().await.fail("once");
    runs.next().await.done();
    worker.stop().await;

    // A queue of another name is still missing.
    let builder = leveret_tests::worker(settings(user.url())).0.queue("images", quick(1));
    let error = soon("the worker is told", builder.build().unwrap().start()).await.unwrap_err();
    assert_says(&error, &["queue \"images\"", "permission to configure"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_publish_is_told_by_the_publish() {
    let place = Place::new().await;
    place.declare_default().await;
    let user = place.vhost.user(Permissions { configure: NOTHING, write: "^default$", read: EVERYTHING }).await;
    let client = Client::connect(settings(user.url())).await.unwrap();
    let results = soon("all are told", client.publish_many((0..50).map(probe))).await;
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(error, PublishError::Forbidden { .. }), "{error:?}");
        assert_says(&error, &["exchange \"leveret.publish\"", "ACCESS_REFUSED", "permission to write"]);
    }
    assert_eq!(place.vhost.ready("default").await, 0);
    // Its client is as good as before once it may.
    user.may(&place.vhost, Permissions { configure: NOTHING, write: EVERYTHING, read: EVERYTHING }).await;
    eventually(PATIENCE, async || client.publish_message(probe("now")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_consume_is_told_at_the_start() {
    let place = Place::new().await;
    place.declare_default().await;
    let readless = Permissions { configure: EVERYTHING, write: EVERYTHING, read: "^leveret[.]" };
    let user = place.vhost.user(readless).await;
    let error = worker_error(settings(user.url())).await;
    assert!(matches!(&error, StartError::Forbidden { queue, .. } if queue == "default"), "{error:?}");
    assert_says(&error, &["queue \"default\"", "ACCESS_REFUSED", "permission to read"]);
    // Nothing of it is left: neither connections nor a consumer.
    eventually(PATIENCE, async || place.vhost.connections().await.is_empty()).await;

    // Whose permission is taken away while at work is told by health, and goes on when it is back.
    user.may(&place.vhost, Permissions { read: EVERYTHING, ..readless }).await;
    let (builder, mut runs) = worker(settings(user.url()));
    let worker = start(builder.queue("default", quick(1))).await;
    user.may(&place.vhost, readless).await;
    let refused = async || {
        place.vhost.close_connections().await;
        worker.health().ready().err().filter(|why| why.contains("REFUSED"))
    };
    let why = eventually(PATIENCE, refused).await;
    assert!(why.starts_with("not subscribed to queue \"default\": "), "{why}");
    user.may(&place.vhost, Permissions { read: EVERYTHING, ..readless }).await;
    eventually(PATIENCE, async || worker.health().ready()).await;
    place.client().await.publish_message(probe(1)).await.unwrap();
    runs.next().await.done();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_its_broker_and_a_client_only_for_so_long() {
    let node = Node::private("later").await;
    let place = Place::on(node.broker()).await;
    node.stop().await;

    let mut hasty = place.settings.clone();
    hasty.timeout = Duration::from_secs(1);
    let error = client_error(hasty.clone()).await;
    assert!(matches!(error, ClientError::Connect(ConnectError::Unreachable { .. })), "{error:?}");
    assert_says(&error, &[&place.settings.url[0].host(), "check that RabbitMQ runs there"]);

    let (builder, mut runs) = worker(hasty.clone());
    let starting = tokio::spawn(start(builder.queue("default", quick(1))));
    let waiting = Client::open(hasty, leveret::Clock::system()).unwrap();
    let publishing = tokio::spawn(async move { waiting.publish_message(probe("before").queue("default")).await });
    node.start().await;
    let worker = within("the worker starts", starting).await.unwrap();
    // A client that was opened rather than connected waits as well; without a queue yet its task would be lost, and
    // it says so.
    let published = within("an answer", publishing).await.unwrap();
    assert!(
        matches!(published, Ok(_) | Err(PublishError::Unroutable { .. } | PublishError::NoExchange { .. })),
        "{published:?}"
    );
    place.client().await.publish_message(probe("after")).await.unwrap();
    loop {
        let run = runs.next().await;
        let last = run.arguments == "after";
        run.done();
        if last {
            break;
        }
    }
    worker.stop().await;
}
