//! Any AMQP client can publish a task and get its result: pika, npm's amqplib, and `amqp-publish` on the command line.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use leveret::{Context, Error, Job, Outcome, Task};
use leveret_testkit::{eventually, foreign};
use leveret_tests::{PATIENCE, Place, quick, start};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(name = "sum")]
struct Sum {
    a: i64,
    b: i64,
    note: String,
}

async fn sum(context: Context, job: Job<Sum>) -> Result<Outcome, Error> {
    if job.note == "refuse" {
        return Err(Error::reject("as you wish"));
    }
    let (id, attempt, mine) = (context.id().as_str(), context.attempt(), context.headers().get_str("x-mine"));
    Outcome::result(&json!({"sum": job.a + job.b, "note": job.note, "id": id, "attempt": attempt, "mine": mine}))
}

/// A message as the scripts in `tests/foreign/` take it.
fn line(id: &str, note: &str) -> String {
    json!({
        "exchange": "leveret.tasks", "routing_key": "default",
        "properties": {"type": "sum", "message_id": id, "content_type": "application/json", "headers": {"x-mine": "kept"}},
        "body": {"a": 2, "b": 3, "note": note},
    })
    .to_string()
}

/// What the scripts print of a reply, and the reply itself.
fn reply(printed: &str) -> (Value, Value) {
    let reply: Value = serde_json::from_str(printed).unwrap();
    (reply["properties"].clone(), serde_json::from_str(reply["body"].as_str().unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn pika_and_amqplib_call_and_get_the_result() {
    let place = Place::new().await;
    let worker = start(place.worker().0.task(sum).queue("default", quick(4))).await;
    let (pika, amqplib) = (line("from pika", "grüße"), line("from amqplib", "grüße"));
    let url = [place.vhost.url()];
    let (pika, amqplib) =
        tokio::join!(foreign::pika("call.py", &url, &pika), foreign::amqplib("call.mjs", &url, &amqplib));
    for (printed, id) in [(pika, "from pika"), (amqplib, "from amqplib")] {
        let (properties, body) = reply(&printed.stdout);
        assert_eq!(body, json!({"sum": 5, "note": "grüße", "id": id, "attempt": 1, "mine": "kept"}));
        assert_eq!(properties["headers"]["leveret-status"], "done");
        assert_eq!(properties["headers"]["leveret-task-id"], id);
    }
    worker.stop().await;
    assert_eq!(place.vhost.ready("default.dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_caller_hears_that_its_task_is_dead() {
    let place = Place::new().await;
    let worker = start(place.worker().0.task(sum).queue("default", quick(4))).await;
    let called = foreign::pika("call.py", &[place.vhost.url()], &line("refused", "refuse")).await;
    let (properties, body) = reply(&called.stdout);
    assert_eq!(properties["headers"]["leveret-status"], "dead");
    assert_eq!(body, json!({"reason": "rejected", "kind": "rejected", "error": "as you wish"}));
    worker.stop().await;
    assert_eq!(place.vhost.ready("default.dead").await, 1);
}

/// `amqp-publish` can set neither `type` nor numbers in headers: the header `leveret-task` and texts will do.
#[tokio::test(flavor = "multi_thread")]
async fn amqp_publish_runs_a_task_with_a_header_alone() {
    let place = Place::new().await;
    let worker = start(place.worker().0.task(sum).queue("default", quick(4))).await;
    place.vhost.declare("answers").await;
    let arguments = [
        "--exchange=leveret.tasks",
        "--routing-key=default",
        "--header=leveret-task: sum",
        "--header=leveret-max-attempts: 1",
        "--header=x-mine: kept",
        "--content-type=application/json",
        "--reply-to=answers",
    ];
    foreign::amqp_publish(place.vhost.url(), &arguments, r#"{"a": 40, "b": 2, "note": "by hand"}"#).await;
    let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    let body = answer.json();
    assert_eq!((&body["sum"], &body["note"], &body["mine"]), (&json!(42), &json!("by hand"), &json!("kept")));
    assert!(body["id"].as_str().is_some_and(|id| !id.is_empty()), "it is given an id: {body}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_task_is_a_type_and_a_body() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(4).await;
    let smallest = json!({"routing_key": "default", "properties": {"type": "probe"}, "body": [1, {"two": null}]});
    let lines = format!("{smallest}\n{smallest}");
    for printed in [
        foreign::pika("publish.py", &[place.vhost.url()], &lines).await,
        foreign::amqplib("publish.mjs", &[place.vhost.url()], &lines).await,
    ] {
        assert_eq!(printed.stdout, "2", "confirmed by the broker");
        for _ in 0..2 {
            let run = runs.next().await;
            assert_eq!(run.arguments, json!([1, {"two": null}]));
            assert_eq!(run.context.max_attempts(), 8);
        }
    }
    worker.stop().await;
}
