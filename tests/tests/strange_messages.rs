//! A message that is far out of the ordinary does no harm: to the worker, to its neighbours, to its publisher.

use lapin::types::AMQPValue;
use leveret::{Error, Outcome, PublishError};
use leveret_testkit::{eventually_eq, foreign};
use leveret_tests::{PATIENCE, Place, Run, foreign as properties, probe, within};

fn longstr(bytes: usize) -> AMQPValue {
    AMQPValue::LongString(vec![b'h'; bytes].into())
}

/// AMQP sends properties and headers in one frame; a larger one makes the broker close the connection, and a
/// publisher that sends it again after each reconnect would never come to rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_publish_with_too_many_headers_is_an_error_for_its_caller_alone() {
    let place = Place::new().await;
    place.declare_default().await;
    let client = place.client().await;
    let neighbour = client.publish_message(probe("neighbour"));
    let error = client.publish_message(probe(1).header("large", "h".repeat(200_000))).await.unwrap_err();
    assert!(matches!(error, PublishError::Invalid(_)), "{error:?}");
    assert!(error.to_string().contains("the limit is 129024"), "{error}");
    neighbour.await.unwrap();
    client.publish_message(probe(1).header("large", "h".repeat(120_000))).await.unwrap();
    client.close().await;
}

/// Whatever a worker adds has to fit beside what is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_headers_fill_the_frame_is_tried_again_and_parked() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    // Of 2 KiB the broker may need each byte. With 3 KiB to spare the text of the error is cut; with one the broker
    // itself moves the task to the dead.
    for (id, spare) in [("cut", 3_072), ("full", 1_024)] {
        let headers = [("large", longstr(131_072 - 120 - spare))];
        place.vhost.publish("leveret.tasks", "default", properties(id, headers), "1").await;
    }
    let failure = "e".repeat(100_000);
    let run = runs.next().await;
    assert_eq!((run.id().as_str(), run.attempt()), ("cut", 1));
    run.fail(&failure);
    let mut run = runs.next().await;
    if run.id() == "full" {
        run.fail(&failure);
        run = runs.next().await;
    }
    assert_eq!((run.id().as_str(), run.attempt()), ("cut", 2));
    run.end(Err::<Outcome, _>(Error::reject(&failure)));
    eventually_eq(PATIENCE, 2, || place.vhost.ready("default.dead")).await;
    let dead = place.vhost.take_all("default.dead").await;
    let cut = dead.iter().find(|dead| dead.id().as_deref() == Some("cut")).unwrap();
    let text = cut.header_text("leveret-error").unwrap();
    assert!((100..1_024).contains(&text.len()), "{}", text.len());
    assert_eq!(cut.header_text("leveret-dead-reason").as_deref(), Some("rejected"));
    within("stop", worker.stop()).await;
}

/// lapin reads headers by recursion, which would end the process, and texts as UTF-8, which would end the connection
/// each time the message comes.
#[tokio::test(flavor = "multi_thread")]
async fn what_amqp_allows_and_lapin_cannot_take_is_run_all_the_same() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(4).await;
    assert_eq!(foreign::pika("strange.py", &[place.vhost.url()], "").await.stdout, "3");
    // Each fails once, so that all that a worker does to a message is done to these.
    for attempt in 1..=2 {
        let mut taken = runs.take(3).await;
        taken.sort_by_key(Run::id);
        let ids: Vec<_> = taken.iter().map(|run| (run.id(), run.count())).collect();
        let wanted = ["b?d", "nested", "routed"].map(|id| (id.to_owned(), (attempt, false)));
        assert_eq!(ids, wanted);
        assert_eq!(taken[0].context.headers().get_str("b?d"), Some("value"));
        assert!(taken[1].context.headers().contains("deep"));
        for run in taken {
            run.end(if attempt == 1 { Err(Error::retry("once more")) } else { Err(Error::reject("to the dead")) });
        }
    }
    eventually_eq(PATIENCE, 3, || place.vhost.ready("default.dead")).await;
    within("stop", worker.stop()).await;
}
