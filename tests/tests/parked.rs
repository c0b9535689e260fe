//! What cannot be run is parked with its reason, untouched, and the worker goes on.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use lapin::{
    BasicProperties,
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldArray, FieldTable},
};
use leveret::{Clock, Context, Error, Job, Task, UnixMillis};
use leveret_testkit::{eventually, eventually_eq, foreign as clients};
use leveret_tests::{PATIENCE, Place, foreign, probe, quick, short, start, text, worker};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "strict")]
struct Strict {
    a: i64,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// A message that is no task, and what is to be said about it.
struct Case {
    properties: BasicProperties,
    body: Vec<u8>,
    reason: &'static str,
    kind: &'static str,
    error: &'static str,
}

fn cases() -> Vec<Case> {
    let case =
        |properties, body: &[u8], reason, kind, error| Case { properties, body: body.to_vec(), reason, kind, error };
    let undecodable = |properties, body: &[u8], kind, error| case(properties, body, "undecodable", kind, error);
    let plain = || foreign("odd", [("x-mine", text("kept"))]);
    let strict = || plain().with_type(short("strict"));
    let with = |name: &str, value| foreign("odd", [("x-mine", text("kept")), (name, value)]);
    vec![
        case(
            plain().with_type(short("nobody")),
            b"{}",
            "unknown-task",
            "unknown-task",
            "no handler here has the name \"nobody\"",
        ),
        undecodable(plain().with_type(short("")), b"{}", "no-task", "set the property `type`"),
        undecodable(strict(), b"{\"a\":", "arguments", "not what task strict takes: EOF"),
        undecodable(strict(), b"{\"a\":\"seven\"}", "arguments", "invalid type: string \"seven\", expected i64"),
        undecodable(strict(), b"", "arguments", "not what task strict takes"),
        undecodable(strict().with_content_type(short("text/csv")), b"1;2", "arguments", "\"text/csv\""),
        undecodable(
            with("leveret-attempt", text("soon")),
            b"1",
            "header",
            "leveret-attempt must be a whole number from 1",
        ),
        undecodable(with("leveret-attempt", AMQPValue::LongInt(0)), b"1", "header", "this message has 0"),
        undecodable(with("leveret-timeout-ms", AMQPValue::LongInt(-1)), b"1", "header", "leveret-timeout-ms"),
        undecodable(with("leveret-not-before", AMQPValue::Boolean(true)), b"1", "header", "leveret-not-before"),
        undecodable(with("leveret-backoff", text("10s..2s")), b"1", "header", "\"10s..2s\" is no backoff"),
        undecodable(
            plain().with_content_encoding(short("gzip")),
            b"no gzip",
            "content-encoding",
            "the body is no gzip",
        ),
        undecodable(plain().with_content_encoding(short("br")), b"1", "content-encoding", "\"br\" is not known"),
        undecodable(
            plain().with_content_encoding(short("gzip")),
            &gzip(&vec![b'1'; 100_000]),
            "oversized",
            "over 65536 bytes when decompressed",
        ),
        undecodable(plain(), &vec![b'1'; 1_025], "oversized", "1025 bytes, this worker takes 1024"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_task_is_parked_untouched_with_its_reason() {
    let place = Place::new().await;
    let mut small = place.settings.clone();
    (small.max_body, small.max_inflated_body) = (1_024, 65_536);
    let (worker, mut runs) = worker(small);
    let strict =
        async |_: Context, job: Job<Strict>| Err::<(), _>(Error::reject(format!("{} cannot be run here", job.a)));
    let worker = start(worker.name("keeper").task(strict).queue("default", quick(1))).await;
    place.vhost.declare("answers").await;
    for case in cases() {
        let Case { properties, body, reason, kind, error } = case;
        let asking = properties.clone().with_reply_to(short("answers")).with_correlation_id(short("why"));
        place.vhost.publish("leveret.tasks", "default", asking.clone(), &body).await;
        let parked = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
        let header = |name| parked.header_text(name);
        let said = header("leveret-error");
        assert!(said.as_deref().is_some_and(|said| said.contains(error)), "{said:?}, not {error:?}");
        assert_eq!(header("leveret-dead-reason").as_deref(), Some(reason), "{said:?}");
        assert_eq!(header("leveret-error-kind").as_deref(), Some(kind), "{said:?}");
        assert_eq!(header("leveret-worker").as_deref(), Some("keeper"));
        assert_eq!(header("leveret-queue").as_deref(), Some("default"));
        assert_eq!(header("x-mine").as_deref(), Some("kept"));
        assert_eq!(parked.body, body, "{said:?}");
        // All that its sender wrote is there as it was, the wrong header included.
        let sent = asking.headers().clone().unwrap_or_default();
        let kept = |(name, value): (&_, &AMQPValue)| {
            parked.properties.headers().as_ref()?.inner().get(name).map(|now| now == value)
        };
        assert!(sent.inner().iter().all(|header| kept(header) == Some(true)), "{said:?}");
        assert_eq!(parked.properties.kind(), properties.kind());
        assert_eq!(parked.properties.message_id(), properties.message_id());
        assert_eq!(parked.properties.content_type(), properties.content_type());
        assert_eq!(parked.properties.content_encoding(), properties.content_encoding());
        assert_eq!(parked.properties.reply_to(), asking.reply_to());

        let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
        assert_eq!(answer.header_text("leveret-status").as_deref(), Some("dead"));
        assert_eq!(answer.properties.correlation_id(), asking.correlation_id());
        assert_eq!((&answer.json()["reason"], &answer.json()["kind"]), (&json!(reason), &json!(kind)));

        // The worker's one slot goes on with the next task.
        place.vhost.publish("leveret.tasks", "default", foreign("good", []), "\"good\"").await;
        assert_eq!(runs.next().await.arguments, "good");
    }
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_nothing_at_all_is_parked_as_well() {
    let place = Place::new().await;
    let (worker, _runs) = place.working(1).await;
    place.vhost.publish("leveret.tasks", "default", BasicProperties::default(), "").await;
    let parked = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(parked.header_text("leveret-error-kind").as_deref(), Some("no-task"));
    assert!(parked.id().is_some(), "it is given an id, by which it can be found and replayed");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_task_is_parked_and_not_run() {
    let place = Place::new().await;
    let clock = Clock::held(UnixMillis(2_000_000_000_000));
    let (worker, mut runs) = place.worker();
    let worker = start(worker.clock(clock.clone()).queue("default", quick(1))).await;
    let client = place.client().await;
    let minute = Duration::from_secs(60);
    let dead = async || eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;

    // Over already, by a header of a foreign client.
    let over = foreign("over", [("leveret-expires-at", AMQPValue::LongLongInt(clock.now().0))]);
    place.vhost.publish("leveret.tasks", "default", over, "1").await;
    let parked = dead().await;
    assert_eq!(parked.header_text("leveret-dead-reason").as_deref(), Some("expired"));
    assert_eq!(parked.id().as_deref(), Some("over"));

    // In time, then over between two attempts.
    let id = client.publish_message(probe("late").expires_at(clock.now() + minute)).await.unwrap();
    let run = runs.next().await;
    clock.advance(minute);
    run.fail("once");
    let parked = dead().await;
    assert_eq!(parked.id().as_deref(), Some(id.as_str()));
    assert_eq!(parked.header_text("leveret-dead-reason").as_deref(), Some("expired"));
    assert_eq!(parked.header_text("leveret-attempt").as_deref(), Some("2"), "the attempt that was not made");
    worker.stop().await;
    assert!(runs.begun().is_none());
}

/// A `CC` header asks the broker for copies. A move of the task must not ask again.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_a_sender_asked_for_is_made_once() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    place.vhost.declare("audit").await;
    let channel = place.vhost.channel().await;
    let bind = channel.queue_bind(
        short("audit"),
        short("leveret.tasks"),
        short("audit.#"),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bind.await.unwrap();
    // Named like queues, for the moves of Leveret go by the default exchange.
    channel.queue_declare(short("spy"), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    let copies: FieldArray = vec![text("audit.copy"), text("spy"), text("default.dead")].into();
    let properties =
        foreign("copied", [("CC", AMQPValue::FieldArray(copies)), ("leveret-max-attempts", AMQPValue::LongInt(2))]);
    place.vhost.publish("leveret.tasks", "default", properties, "1").await;
    runs.next().await.fail("first");
    runs.next().await.fail("second");
    eventually_eq(PATIENCE, 1, async || place.vhost.ready("default.dead").await).await;
    worker.stop().await;
    let counts =
        [place.vhost.ready("audit").await, place.vhost.ready("spy").await, place.vhost.ready("default.dead").await];
    assert_eq!(counts, [1, 0, 1]);
}

/// The broker closes the channel of whoever publishes a `user_id` other than its own, so a move must not carry it.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_names_its_user_can_be_moved_by_another() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let user = place.vhost.name();
    let http = reqwest::Client::new();
    let api = |path: String| format!("{}/api/{path}", place.vhost.management_url());
    let answer = http.put(api(format!("users/{user}"))).json(&json!({"password": "secret", "tags": ""})).send().await;
    answer.unwrap().error_for_status().unwrap();
    let all = json!({"configure": "", "write": ".*", "read": ""});
    let answer = http.put(api(format!("permissions/{user}/{user}"))).json(&all).send().await;
    answer.unwrap().error_for_status().unwrap();
    let (_, host) = place.vhost.url().split_once('@').unwrap();
    let url = format!("amqp://{user}:secret@{host}");
    let line = json!({"routing_key": "default", "body": 1, "properties": {
        "type": "probe", "message_id": "signed", "user_id": user, "headers": {"leveret-max-attempts": 2}}});
    clients::pika("publish.py", &[&url], &line.to_string()).await;
    // From here on the sender is not needed, nor is its account.
    http.delete(api(format!("users/{user}"))).send().await.unwrap().error_for_status().unwrap();

    runs.next().await.fail("first");
    let run = runs.next().await;
    assert_eq!(run.count(), (2, false));
    assert_eq!(run.context.headers().get_str("leveret-user-id"), Some(user));
    run.fail("second");
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.header_text("leveret-dead-reason").as_deref(), Some("exhausted"));
    assert_eq!(dead.header_text("leveret-user-id").as_deref(), Some(user));
    worker.stop().await;
}
