//! A caller needs no queue of its own: RabbitMQ's direct reply-to takes the result, even after a retry.

use futures_util::StreamExt;
use lapin::{
    options::{BasicConsumeOptions, BasicPublishOptions},
    types::FieldTable,
};
use leveret::Outcome;
use leveret_tests::{Place, foreign, short, within};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_result_comes_back_on_the_callers_own_channel() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let channel = place.vhost.channel().await;
    let direct = "amq.rabbitmq.reply-to";
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut replies = channel.basic_consume(short(direct), short(""), options, FieldTable::default()).await.unwrap();
    let question = foreign("question", []).with_reply_to(short(direct)).with_correlation_id(short("call-1"));
    let (exchange, key) = (short("leveret.tasks"), short("default"));
    channel.basic_publish(exchange, key, BasicPublishOptions::default(), b"1", question).await.unwrap().await.unwrap();

    runs.next().await.fail("once more");
    runs.next().await.end(Ok(Outcome::Result(json!({ "sum": 42 }))));
    let reply = within("the reply", replies.next()).await.unwrap().unwrap();
    assert_eq!(reply.data, br#"{"sum":42}"#);
    assert_eq!(reply.properties.correlation_id(), &Some(short("call-1")));
    within("stop", worker.stop()).await;
}
