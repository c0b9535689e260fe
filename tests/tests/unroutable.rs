//! A publish that goes nowhere is an error for its caller, for exactly that caller; one by a client of another make
//! is kept where it can be seen.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::collections::BTreeSet;

use futures_util::future::join_all;
use leveret::{
    PublishError, QueueSettings, TaskId, UnixMillis,
    common::wire::{DeadReason, Envelope, Failure, Limits, Outgoing, dead},
};
use leveret_tests::{Place, foreign, probe, quick, start, text};

fn is_unroutable(result: &Result<TaskId, PublishError>) -> bool {
    matches!(result, Err(PublishError::Unroutable { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_for_a_queue_that_is_not_there_is_an_error_that_names_it() {
    let place = Place::new().await;
    let client = place.client().await;
    let error = client.publish_message(probe(1).queue("nowhere")).await.unwrap_err();
    let PublishError::Unroutable { exchange, routing_key } = &error else { panic!("{error}") };
    assert_eq!((exchange.as_str(), routing_key.as_str()), ("leveret.publish", "nowhere"));
    assert!(error.to_string().contains("start a worker for it"), "{error}");
    client.close().await;
    assert_eq!(place.vhost.ready("leveret.lost").await, 0);
}

/// The broker returns a message and then confirms it like any other, many confirms in one frame: whose return is
/// whose must come out right even so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn among_a_thousand_publishes_exactly_the_wrong_ones_are_errors() {
    let place = Place::new().await;
    place.declare_default().await;
    let mut clients = Vec::new();
    for number in 0..4_usize {
        let client = place.client().await;
        // From one wrong in a hundred to all of them: returns come spread out, and in a row.
        let every = [1, 2, 10, 100][number];
        clients.push(tokio::spawn(async move {
            let mut stored = 0;
            for round in 0..5 {
                let wrong = |place: usize| place % every == round % every;
                let queue = |place| if wrong(place) { "nowhere" } else { "default" };
                let messages = (0..1_000).map(|place| probe(place).queue(queue(place)));
                for (place, result) in client.publish_many(messages).await.iter().enumerate() {
                    assert_eq!(is_unroutable(result), wrong(place), "1 in {every}, round {round}, {place}: {result:?}");
                    assert_eq!(result.is_ok(), !wrong(place), "{result:?}");
                    stored += usize::from(!wrong(place));
                }
            }
            client.close().await;
            stored
        }));
    }
    let mut stored = 0;
    for client in clients {
        stored += client.await.unwrap();
    }
    assert_eq!(place.vhost.ready("default").await as usize, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_client_publishes_to_no_queue_is_kept() {
    let place = Place::new().await;
    place.declare_default().await;
    let properties = foreign("stray", [("x-mine", text("kept"))]);
    place.vhost.publish("leveret.tasks", "nowhere", properties, "{}").await;
    let lost = place.vhost.take("leveret.lost").await.unwrap();
    assert_eq!((lost.id().as_deref(), lost.routing_key.as_str()), (Some("stray"), "nowhere"));
    assert_eq!(lost.header_text("x-mine").as_deref(), Some("kept"));
    assert_eq!(lost.body, b"{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_stores_nothing_that_it_refused() {
    let place = Place::new().await;
    let (worker, _runs) = place.worker();
    let settings = QueueSettings { max_length: 5, ..QueueSettings::default() };
    start(worker.queue("default", quick(1).settings(settings))).await.stop().await;
    let client = place.client().await;
    let mut stored = 0;
    // RabbitMQ lets a few more in before it has noticed; that it never notices would end in an error here.
    let refusal = loop {
        match client.publish_message(probe(stored)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1_000, "a queue for 5 has taken 1,000");
    };
    assert!(matches!(refusal, PublishError::Refused), "{refusal}");
    assert!(refusal.to_string().contains("max_length"), "{refusal}");
    assert!(stored >= 5);
    assert_eq!(place.vhost.ready("default").await, stored);

    // Once there is room again, the same client publishes as before.
    place.vhost.take_all("default").await;
    let again = async || client.publish_message(probe("again")).await;
    leveret_testkit::eventually(leveret_tests::PATIENCE, again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_is_named_to_its_caller_and_hurts_no_other() {
    let place = Place::new().await;
    place.declare_default().await;
    let client = place.client().await;
    // The broker closes the whole channel over each of these, with whatever else is on its way there.
    let astray = (0..6).map(|number| format!("nowhere-{number}")).map(async |exchange| {
        let error = client.publisher().publish(to_exchange(&exchange)).await.unwrap_err();
        assert!(matches!(&error, PublishError::NoExchange { exchange: named } if *named == exchange), "{error:?}");
    });
    let neighbours = client.publish_many((0..500).map(probe));
    let (neighbours, _) = tokio::join!(neighbours, join_all(astray));
    let neighbours: BTreeSet<_> = neighbours.into_iter().map(|result| result.unwrap().to_string()).collect();
    let stored: BTreeSet<_> = place.vhost.take_all("default").await.iter().filter_map(|task| task.id()).collect();
    assert_eq!(stored, neighbours);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_does_not_accept_is_told_to_its_caller_alone() {
    let place = Place::new().await;
    place.declare_default().await;
    let client = place.client().await;
    // RabbitMQ wants a list in this header. It closes the channel over anything else, and does not say over which
    // message: so all that were on their way are under suspicion, and each is tried alone.
    let wrong = |place: usize| [40, 41, 250].contains(&place);
    let messages = (0..300).map(|place| if wrong(place) { probe(place).header("CC", 5) } else { probe(place) });
    for (place, result) in client.publish_many(messages).await.iter().enumerate() {
        assert_eq!(matches!(result, Err(PublishError::Unacceptable { .. })), wrong(place), "{place}: {result:?}");
        assert_eq!(result.is_ok(), !wrong(place), "{place}: {result:?}");
    }
    client.publish_message(probe("after")).await.unwrap();
    let stored: BTreeSet<_> = place.vhost.take_all("default").await.iter().filter_map(|task| task.id()).collect();
    assert_eq!(stored.len(), 298);
}

fn to_exchange(exchange: &str) -> Outgoing {
    let envelope = Envelope::decode("default", false, foreign("stray", []), Vec::new(), &Limits::default()).unwrap();
    let failure = Failure { error: String::new(), kind: String::new(), at: UnixMillis(0), worker: String::new() };
    dead(&envelope, "default", exchange, DeadReason::Rejected, &failure).unwrap()
}
