//! What the sender wrote on a task is still there after any number of moves; what the broker noted on the way is not.

use lapin::{
    BasicProperties,
    types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable},
};
use leveret::Error;
use leveret_testkit::{Message, eventually};
use leveret_tests::{PATIENCE, Place, foreign, probe, short, text};

/// One header of each AMQP type that RabbitMQ takes.
fn of_every_type() -> Vec<(&'static str, AMQPValue)> {
    let mut table = FieldTable::default();
    table.insert(short("inner"), AMQPValue::ShortInt(-3));
    let array: FieldArray = vec![text("a"), AMQPValue::Void, AMQPValue::FieldTable(table.clone())].into();
    vec![
        ("h-array", AMQPValue::FieldArray(array)),
        ("h-bool", AMQPValue::Boolean(true)),
        ("h-bytes", AMQPValue::ByteArray(ByteArray::from(vec![0, 255, 128]))),
        ("h-decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 })),
        ("h-double", AMQPValue::Double(1.0 / 3.0)),
        ("h-float", AMQPValue::Float(0.5)),
        ("h-i16", AMQPValue::ShortInt(i16::MIN)),
        ("h-i32", AMQPValue::LongInt(i32::MIN)),
        ("h-i64", AMQPValue::LongLongInt(i64::MIN)),
        ("h-i8", AMQPValue::ShortShortInt(i8::MIN)),
        ("h-no-utf-8", AMQPValue::LongString(vec![0xff, 0xfe].into())),
        ("h-table", AMQPValue::FieldTable(table)),
        ("h-text", text("grüß dich")),
        ("h-time", AMQPValue::Timestamp(1_700_000_000)),
        ("h-u16", AMQPValue::ShortUInt(u16::MAX)),
        ("h-u32", AMQPValue::LongUInt(u32::MAX)),
        ("h-u8", AMQPValue::ShortShortUInt(u8::MAX)),
        ("h-void", AMQPValue::Void),
        ("leveret-workflow", text("a header that a later version may give a meaning")),
        ("traceparent", text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        ("tracestate", text("vendor=opaque,other=1")),
        ("baggage", text("user=7")),
    ]
}

fn sent() -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in of_every_type() {
        headers.insert(short(name), value);
    }
    BasicProperties::default()
        .with_type(short("probe"))
        .with_message_id(short("travels"))
        .with_correlation_id(short("for whom it may concern"))
        .with_content_type(short("application/json; charset=utf-8"))
        .with_priority(3)
        .with_timestamp(1_700_000_000)
        .with_app_id(short("shop"))
        .with_headers(headers)
}

fn assert_untouched(message: &Message) {
    for (name, value) in of_every_type() {
        assert_eq!(message.header(name), Some(&value), "{name}");
    }
    let (now, sent) = (&message.properties, sent());
    assert_eq!(now.message_id(), sent.message_id());
    assert_eq!(now.kind(), sent.kind());
    assert_eq!(now.correlation_id(), sent.correlation_id());
    assert_eq!(now.content_type(), sent.content_type());
    assert_eq!(now.priority(), sent.priority());
    assert_eq!(now.timestamp(), sent.timestamp());
    assert_eq!(now.app_id(), sent.app_id());
    assert_eq!(*now.delivery_mode(), Some(2), "kept on disk from the first move on, whatever it was sent with");
    assert_eq!(message.body, b"{\"n\": 1}");
}

/// The broker's notes: a copied `x-death` makes RabbitMQ take a message for one that goes round in circles.
fn assert_without_notes(message: &Message) {
    let headers = message.properties.headers().clone().unwrap_or_default();
    // The delivery count is put on by the queue that the message is read from just now.
    let is_note = |name: &&str| name.starts_with("x-") && *name != "x-delivery-count";
    let notes: Vec<_> = headers.inner().keys().map(|name| name.as_str()).filter(is_note).collect();
    assert!(notes.is_empty(), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_every_type_survive_retries_and_death() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    place.vhost.publish("leveret.tasks", "default.eu.berlin", sent(), "{\"n\": 1}").await;
    for attempt in 1..=3 {
        let run = runs.next().await;
        assert_eq!((run.id().as_str(), run.attempt()), ("travels", attempt));
        let headers = FieldTable::from(run.context.headers().clone());
        for (name, value) in of_every_type() {
            assert_eq!(headers.inner().get(name), Some(&value), "{name} at attempt {attempt}");
        }
        let trace = run.context.trace().map(|trace| trace.traceparent().to_owned());
        assert_eq!(trace.as_deref(), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        match attempt {
            3 => run.end(Err(Error::reject("enough"))),
            _ => run.fail("again"),
        }
    }
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_untouched(&dead);
    assert_without_notes(&dead);
    assert_eq!(dead.header_text("leveret-attempt").as_deref(), Some("3"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_brought_back_is_the_task_it_was() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    place.vhost.publish("leveret.tasks", "default", sent(), "{\"n\": 1}").await;
    for _ in 0..2 {
        let run = runs.next().await;
        // Whether it is marked as redelivered depends on the broker: RabbitMQ 4.0 does so for what it brings back.
        assert_eq!(run.attempt(), 1, "its attempts count anew");
        assert!(run.context.headers().get_str("h-text").is_some());
        run.end(Err(Error::reject("no")));
        let dead = eventually(PATIENCE, async || place.vhost.peek("default.dead", 1).await.pop()).await;
        assert_untouched(&dead);
        // A replay is a rejection: the broker itself takes the message back to its queue.
        let channel = place.vhost.channel().await;
        let got = channel.basic_get(short("default.dead"), Default::default()).await.unwrap().unwrap();
        let reject = lapin::options::BasicRejectOptions { requeue: false };
        channel.basic_reject(got.delivery.delivery_tag, reject).await.unwrap();
    }
    let run = runs.next().await;
    assert_eq!(run.attempt(), 1);
    run.fail("once more");
    let run = runs.next().await;
    assert_eq!(run.count(), (2, false));
    let left = run.context.headers().get_str("leveret-dead-reason");
    assert_eq!(left, None, "it is no longer dead");
    run.done();
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await + place.vhost.ready("default.dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_failures_and_a_success_see_one_id() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    let id = client.publish_message(probe("a").key("k").header("x-mine", "kept")).await.unwrap().to_string();
    place.vhost.publish("leveret.tasks", "default", foreign("", []), "\"without an id\"").await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        let run = runs.next().await;
        if run.arguments == "a" {
            assert_eq!((run.id(), run.context.key()), (id.clone(), Some("k")));
            assert_eq!(run.context.headers().get_str("x-mine"), Some("kept"));
        } else {
            // Given at first sight, and kept from the first move on.
            ids.push(run.id());
        }
        if run.attempt() < 3 { run.fail("not yet") } else { run.done() }
    }
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|other| *other == ids[0]), "{ids:?}");
    worker.stop().await;
    assert!(runs.begun().is_none());
    assert_eq!(place.vhost.ready("default").await, 0);
}
