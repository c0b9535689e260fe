//! Who asks for the result of a task gets it, and a task does not depend on anybody who asks.

use leveret::{Error, Outcome};
use leveret_testkit::eventually;
use leveret_tests::{PATIENCE, Place, probe};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_result_goes_to_whoever_asked() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(2).await;
    place.vhost.declare("answers").await;
    let client = place.client().await;
    let asked = probe("a").reply_to("answers", Some("question 1"));
    let id = client.publish_message(asked).await.unwrap();
    runs.next().await.end(Outcome::result(&json!({"sum": 5})));
    let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(answer.json(), json!({"sum": 5}));
    assert_eq!(answer.properties.correlation_id().as_ref().unwrap().as_str(), "question 1");
    assert_eq!(answer.properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(answer.task().as_deref(), Some("probe"));
    assert_eq!(answer.header_text("leveret-status").as_deref(), Some("done"));
    assert_eq!(answer.header_text("leveret-task-id").as_deref(), Some(id.as_str()));
    assert_ne!(answer.id().as_deref(), Some(id.as_str()), "the answer is a message of its own");

    // Done without a result, and without a correlation id: the task's own id stands in.
    let id = client.publish_message(probe("b").reply_to("answers", None)).await.unwrap();
    runs.next().await.done();
    let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(answer.json(), Value::Null);
    assert_eq!(answer.properties.correlation_id().as_ref().unwrap().as_str(), id.as_str());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_once_when_the_last_word_is_spoken() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(2).await;
    place.vhost.declare("answers").await;
    let client = place.client().await;
    client.publish_message(probe("a").reply_to("answers", None)).await.unwrap();
    runs.next().await.fail("not yet");
    let run = runs.next().await;
    assert_eq!(place.vhost.ready("answers").await, 0, "a failure that is tried again is no answer");
    run.end(Outcome::result(&2));
    let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!((answer.json(), answer.header_text("leveret-attempt").as_deref()), (json!(2), Some("2")));

    client.publish_message(probe("b").max_attempts(1).reply_to("answers", None)).await.unwrap();
    runs.next().await.fail("never");
    let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(answer.header_text("leveret-status").as_deref(), Some("dead"));
    assert_eq!(answer.json(), json!({"reason": "exhausted", "kind": "error", "error": "never"}));
    worker.stop().await;
    assert_eq!(place.vhost.ready("answers").await, 0);
    assert_eq!(place.vhost.ready("default.dead").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_done_even_if_nobody_takes_its_result() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    client.publish_message(probe("a").reply_to("nobody", None)).await.unwrap();
    runs.next().await.end(Outcome::result(&1));
    client.publish_message(probe("b").max_attempts(1).reply_to("nobody", None)).await.unwrap();
    let run = runs.next().await;
    assert_eq!(run.arguments, "b", "the first is not run again");
    run.end(Err(Error::reject("no")));
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
    assert_eq!(place.vhost.ready("default.dead").await, 1);
    assert_eq!(place.vhost.ready("leveret.lost").await, 0);
    assert!(runs.begun().is_none());
}
