//! A body that is compressed on the way is none the worse for it.

use leveret::{Client, Encoding, Error, Message, Outcome};
use leveret_testkit::{Message as Stored, eventually};
use leveret_tests::{PATIENCE, Place, probe};
use serde_json::json;

fn encoding(message: &Stored) -> Option<&str> {
    message.properties.content_encoding().as_ref().map(|encoding| encoding.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_reaches_the_handler_and_the_dead_as_it_was() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    let long = json!("hare ".repeat(1_000));
    for (wanted, name) in [(Encoding::Zstd, "zstd"), (Encoding::Gzip, "gzip")] {
        client.publish_message(probe(&long).compress(wanted)).await.unwrap();
        let run = runs.next().await;
        assert_eq!(run.arguments, long);
        run.end(Err(Error::reject("to look at it")));
        let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
        assert_eq!(encoding(&dead), Some(name));
        assert!(dead.body.len() < 200, "{} bytes", dead.body.len());
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_compresses_what_is_over_its_limit_and_nothing_else() {
    let place = Place::new().await;
    place.declare_default().await;
    let mut settings = place.settings.clone();
    settings.compress_over = Some(1_000);
    settings.max_body = 2_000;
    settings.max_inflated_body = 10_000;
    let client = Client::connect(settings).await.unwrap();
    let publish =
        async |bytes: usize| client.publish_message(Message::raw("probe", "h".repeat(bytes), "text/plain")).await;
    for (bytes, expected) in [(1_000, None), (1_001, Some("zstd")), (9_000, Some("zstd"))] {
        publish(bytes).await.unwrap();
        let stored = eventually(PATIENCE, async || place.vhost.take("default").await).await;
        assert_eq!(encoding(&stored), expected, "{bytes} bytes");
    }
    // What the workers of these settings would not take once it is decompressed is not sent.
    let refused = publish(10_001).await.unwrap_err().to_string();
    assert!(refused.contains("10001 bytes, the limit is 10000"), "{refused}");
    // What its publisher has compressed is not compressed again.
    let own = Message::raw("probe", "h".repeat(1_500), "text/plain").content_encoding("gzip");
    let results = client.publish_many([own]).await;
    assert!(results[0].is_ok());
    let stored = eventually(PATIENCE, async || place.vhost.take("default").await).await;
    assert_eq!((encoding(&stored), stored.body.len()), (Some("gzip"), 1_500));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_not_get_smaller_is_left_as_it_is() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    client.publish_message(probe("short").compress(Encoding::Zstd)).await.unwrap();
    let run = runs.next().await;
    assert_eq!(run.arguments, json!("short"));
    run.end(Ok(Outcome::Reject("to look at it".to_owned())));
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(encoding(&dead), None);
    worker.stop().await;
}
