//! The foreign clients are installed and can do what the tests ask of them.

use leveret_testkit::{Broker, foreign};

const LINE: &str = r#"{"exchange":"","routing_key":"work","properties":{"type":"sum","message_id":"m-1","delivery_mode":2,"headers":{"leveret-key":"k"}},"body":[1,2]}"#;

#[tokio::test]
async fn each_client_says_the_same() {
    let vhost = Broker::shared().await.vhost().await;
    vhost.declare("work").await;
    assert_eq!(foreign::pika("publish.py", &[vhost.url()], LINE).await.stdout, "1");
    assert_eq!(foreign::amqplib("publish.mjs", &[vhost.url()], LINE).await.stdout, "1");
    let options = ["--routing-key", "work", "--persistent", "--header", "leveret-task: sum"];
    foreign::amqp_publish(vhost.url(), &options, "[1,2]").await;

    let messages = vhost.take_all("work").await;
    assert_eq!(messages.len(), 3);
    for message in &messages {
        assert_eq!(message.json(), serde_json::json!([1, 2]));
        assert_eq!(*message.properties.delivery_mode(), Some(2));
    }
    for message in &messages[..2] {
        assert_eq!(message.task().as_deref(), Some("sum"));
        assert_eq!(message.id().as_deref(), Some("m-1"));
        assert_eq!(message.header_text("leveret-key").as_deref(), Some("k"));
    }
    assert_eq!(messages[2].header_text("leveret-task").as_deref(), Some("sum"));
}

#[tokio::test]
async fn a_call_brings_the_reply_back() {
    let vhost = Broker::shared().await.vhost().await;
    vhost.declare("work").await;
    let answer = async {
        for _ in 0..2 {
            let asked =
                leveret_testkit::eventually(std::time::Duration::from_secs(30), async || vhost.take("work").await)
                    .await;
            let reply_to = asked.properties.reply_to().as_ref().unwrap().as_str().to_owned();
            let correlation = asked.properties.correlation_id().clone().unwrap();
            let reply = lapin::BasicProperties::default().with_type("sum".into()).with_correlation_id(correlation);
            vhost.publish("", &reply_to, reply, "3").await;
        }
    };
    let url = [vhost.url()];
    let (pika, amqplib, ()) =
        tokio::join!(foreign::pika("call.py", &url, LINE), foreign::amqplib("call.mjs", &url, LINE), answer);
    for output in [pika, amqplib] {
        let reply: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(reply["body"], "3");
        assert_eq!(reply["properties"]["type"], "sum");
    }
}
