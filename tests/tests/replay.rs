//! A replay moves dead letters back to their queue: each exactly once however often it is interrupted, as they are,
//! and only those that are meant.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::{collections::BTreeSet, process::Stdio, sync::Arc};

use futures_util::{StreamExt, future::join_all};
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable},
};
use leveret::{
    Error, QueueName, QueueOptions, QueueSettings,
    common::{
        dead_letters::{DeadLetter, DeadLetters, DeadLettersError, Selection},
        link::{Link, Role},
    },
};
use leveret_testkit::{Message, Vhost, eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, Runs, foreign, probe, quick, short, start, text, within};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};
use tokio_util::sync::CancellationToken;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn link(place: &Place) -> Link {
    Link::open(Arc::new(place.settings.clone()), Role::Admin)
}

fn dead_letters(place: &Place) -> DeadLetters {
    DeadLetters::of(link(place), QueueName::new("default").unwrap()).unwrap()
}

/// Replays, and says how many were moved.
async fn replay(dead: &DeadLetters, selection: &Selection) -> u64 {
    let stop = CancellationToken::new();
    within("replay", dead.replay(selection, None, &stop, |_| {})).await.unwrap().settled
}

async fn browse(dead: &DeadLetters, selection: &Selection) -> Vec<DeadLetter> {
    let (mut seen, stop) = (Vec::new(), CancellationToken::new());
    within("browse", dead.browse(selection, &stop, |letter| seen.push(letter))).await.unwrap();
    seen
}

fn ids(letters: &[DeadLetter]) -> BTreeSet<&str> {
    letters.iter().filter_map(|letter| letter.id.as_deref()).collect()
}

/// Puts messages into a queue, all on their way at once.
async fn fill(vhost: &Vhost, queue: &str, messages: impl IntoIterator<Item = BasicProperties>) {
    let channel = vhost.channel().await;
    let mut confirms = Vec::new();
    for properties in messages {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        confirms.push(channel.basic_publish(short(""), short(queue), options, b"{}", properties).await.unwrap());
    }
    for confirm in within("confirms", join_all(confirms)).await {
        assert!(confirm.unwrap().is_ack());
    }
}

/// A message as a worker parks it.
fn parked(id: &str, reason: &str, error: &str) -> BasicProperties {
    let headers = [("leveret-dead-reason", text(reason)), ("leveret-error", text(error)), ("x-mine", text(id))];
    foreign(id, headers)
}

/// Everything that a queue holds, taken out.
async fn drain(vhost: &Vhost, queue: &str) -> Vec<String> {
    let channel = vhost.channel().await;
    let count = vhost.ready(queue).await as usize;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(short(queue), short("drain"), options, FieldTable::default()).await.unwrap();
    let taken = consumer.take(count).map(|delivery| delivery.unwrap());
    let id = |delivery: lapin::message::Delivery| delivery.properties.message_id().as_ref().unwrap().to_string();
    within("drain the queue", taken.map(id).collect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_come_back_once_each_though_the_replay_is_killed_twice() {
    const COUNT: usize = 10_000;
    let place = Place::new().await;
    place.declare_default().await;
    let all: BTreeSet<String> = (0..COUNT).map(|number| format!("task-{number}")).collect();
    fill(&place.vhost, "default.dead", all.iter().map(|id| parked(id, "exhausted", "no luck"))).await;

    for victim in [true, true, false] {
        let mut process = Command::new(env!("CARGO_BIN_EXE_replayer"))
            .arg(place.vhost.url())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut last = String::new();
        while let Some(line) = within("the replay goes on", lines.next_line()).await.unwrap() {
            if victim && line == "2000" {
                process.kill().await.unwrap();
            }
            last = line;
        }
        let ended = within("the replay ends", process.wait()).await.unwrap();
        assert_eq!(ended.success(), !victim, "{last}");
        assert_eq!(last.starts_with("done"), !victim, "{last}");
        // What it had in hand goes back when the broker misses it.
        eventually_eq(PATIENCE, COUNT as u32, async || {
            place.vhost.ready("default").await + place.vhost.ready("default.dead").await
        })
        .await;
    }

    assert_eq!(place.vhost.ready("default.dead").await, 0, "none is left behind");
    let back = drain(&place.vhost, "default").await;
    assert_eq!(back.len(), COUNT, "none is doubled");
    assert_eq!(back.into_iter().collect::<BTreeSet<_>>(), all, "none is lost");
    assert_eq!(place.vhost.ready("default").await, 0);
}

/// Fails a task until it is dead.
async fn fail_to_death(runs: &mut Runs, attempts: u32) {
    for attempt in 1..=attempts {
        let run = runs.next().await;
        assert_eq!(run.attempt(), attempt, "attempts count from 1 after each replay");
        assert_eq!(run.context.headers().get_str("x-mine"), Some("kept"));
        assert_eq!(run.context.headers().get_str("traceparent"), Some(TRACE));
        run.fail("no luck");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_dies_and_comes_back_time_and_again_with_its_headers_and_new_attempts() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let headers = [("x-mine", text("kept")), ("traceparent", text(TRACE)), ("leveret-max-attempts", text("2"))];
    place.vhost.publish("leveret.tasks", "default", foreign("mine", headers), "{}").await;
    let dead = dead_letters(&place);
    for _ in 0..3 {
        fail_to_death(&mut runs, 2).await;
        eventually_eq(PATIENCE, 1, async || place.vhost.ready("default.dead").await).await;
        let letters = browse(&dead, &Selection::all()).await;
        let letter = &letters[0];
        assert_eq!((letter.id.as_deref(), letter.reason.as_str(), letter.attempt), (Some("mine"), "exhausted", 2));
        assert_eq!(letter.error.as_deref(), Some("no luck"));
        assert_eq!(replay(&dead, &Selection::all()).await, 1);
    }
    let run = runs.next().await;
    assert_eq!(run.attempt(), 1);
    run.end(Err(Error::reject("give it up")));
    eventually_eq(PATIENCE, 1, async || place.vhost.ready("default.dead").await).await;
    assert_eq!(browse(&dead, &Selection::all().reason("rejected")).await.len(), 1);
    worker.stop().await;
}

/// Takes a message and puts it back until the broker has had enough.
async fn give_back_until_dead(vhost: &Vhost) {
    let channel = vhost.channel().await;
    eventually(PATIENCE, async || {
        while let Some(got) = channel.basic_get(short("default"), BasicGetOptions::default()).await.unwrap() {
            // From RabbitMQ 4.3 on a `basic.nack` with requeue would not count.
            let requeue = BasicRejectOptions { requeue: true };
            channel.basic_reject(got.delivery.delivery_tag, requeue).await.unwrap();
        }
        vhost.ready("default.dead").await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_the_broker_gave_up_can_be_replayed_as_well_and_again() {
    let place = Place::new().await;
    let settings = QueueSettings { delivery_limit: 2, ..quick(1).settings };
    start(place.worker().0.queue("default", QueueOptions::from(1).settings(settings))).await.stop().await;
    let dead = dead_letters(&place);
    place.vhost.publish("leveret.tasks", "default", foreign("mine", [("x-mine", text("kept"))]), "{}").await;
    for _ in 0..3 {
        give_back_until_dead(&place.vhost).await;
        let letters = browse(&dead, &Selection::all()).await;
        assert_eq!(
            (letters[0].reason.as_str(), letters[0].headers.get_str("x-mine")),
            ("delivery-limit", Some("kept"))
        );
        assert!(letters[0].failed_at.is_some() && letters[0].error.is_some(), "{:?}", letters[0]);
        assert_eq!(replay(&dead, &Selection::all().reason("delivery-limit")).await, 1);
        eventually_eq(PATIENCE, 1, async || place.vhost.ready("default").await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_meant_is_moved_or_removed() {
    let place = Place::new().await;
    place.declare_default().await;
    let dead = dead_letters(&place);
    // More than one window of deliveries, so that what is held outgrows the first.
    let name = |number: usize| format!("task-{number:04}");
    let letter = |number: usize| match number % 4 {
        0 => parked(&name(number), "timeout", "not finished in time"),
        1 => parked(&name(number), "exhausted", "Connection refused"),
        _ => parked(&name(number), "exhausted", "no luck"),
    };
    fill(&place.vhost, "default.dead", (0..5_000).map(letter)).await;

    for _ in 0..2 {
        let seen = browse(&dead, &Selection::all()).await;
        assert_eq!((seen.len(), ids(&seen).len()), (5_000, 5_000), "each is shown once, and again next time");
    }
    assert_eq!(replay(&dead, &Selection::all().error("connection")).await, 1_250);
    assert_eq!(replay(&dead, &Selection::all().id(&name(2)).id(&name(3)).id("nobody")).await, 2);
    assert_eq!(replay(&dead, &Selection::all().task("another")).await, 0);
    let left: BTreeSet<_> = (0..5_000).filter(|n| n % 4 != 1 && *n != 2 && *n != 3).map(name).collect();
    let seen = browse(&dead, &Selection::all()).await;
    assert_eq!(seen.len(), left.len());
    assert!(ids(&seen).into_iter().eq(left.iter().map(String::as_str)), "another one was moved");

    assert_eq!(replay(&dead, &Selection::all().reason("timeout").limit(5)).await, 5);
    let stop = CancellationToken::new();
    let purged = dead.purge(&Selection::all().reason("timeout").limit(10), &stop, |_| {}).await.unwrap();
    assert_eq!(purged.settled, 10);
    assert_eq!(browse(&dead, &Selection::all().reason("timeout")).await.len(), 1_235);
    eventually_eq(PATIENCE, 1_257, async || place.vhost.ready("default").await).await;
    let purged = dead.purge(&Selection::all(), &stop, |_| {}).await.unwrap();
    assert_eq!(purged.settled, 5_000 - 1_257 - 10);
    assert_eq!(place.vhost.ready("default.dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_stopped_gives_back_what_it_has_not_moved() {
    let place = Place::new().await;
    place.declare_default().await;
    fill(&place.vhost, "default.dead", (0..500).map(|n| parked(&n.to_string(), "exhausted", "no luck"))).await;
    let dead = dead_letters(&place);
    let stop = CancellationToken::new();
    let tally = dead
        .replay(&Selection::all(), None, &stop, |tally| {
            if tally.settled == 100 {
                stop.cancel();
            }
        })
        .await
        .unwrap();
    assert!(tally.stopped && tally.settled >= 100 && tally.settled < 500, "{tally:?}");
    let moved = u32::try_from(tally.settled).unwrap();
    eventually_eq(PATIENCE, moved, async || place.vhost.ready("default").await).await;
    assert_eq!(place.vhost.ready("default.dead").await, 500 - moved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_a_way_back_is_refused_before_anything_is_moved() {
    let place = Place::new().await;
    place.client().await.close().await;
    place.vhost.declare("default.dead").await;
    fill(&place.vhost, "default.dead", [parked("mine", "exhausted", "no luck")]).await;
    let dead = dead_letters(&place);
    let stop = CancellationToken::new();
    let error = dead.replay(&Selection::all(), None, &stop, |_| {}).await.unwrap_err();
    assert!(matches!(error, DeadLettersError::Different { .. }), "{error}");
    assert_eq!(place.vhost.ready("default.dead").await, 1);
    let nobody = DeadLetters::of(link(&place), QueueName::new("nobody").unwrap()).unwrap();
    let error = nobody.replay(&Selection::all(), None, &stop, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("nobody.dead"), "{error}");
    assert!(!place.vhost.exists("nobody.dead").await, "asking must not create it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_took_is_published_again_once_there_is_one() {
    let place = Place::new().await;
    let client = place.client().await;
    let mut properties = foreign("mine", [("x-mine", text("kept")), ("count", AMQPValue::LongInt(7))]);
    properties = properties.with_user_id(short("guest")).with_expiration(short("3600000"));
    let lost = |queue: &'static str, properties| place.vhost.publish("leveret.tasks", queue, properties, "{\"a\":1}");
    lost("default.eu", properties).await;
    lost("nowhere", foreign("other", [])).await;
    let dead = DeadLetters::lost(link(&place)).unwrap();
    let seen = browse(&dead, &Selection::all().reason("unroutable")).await;
    assert_eq!((ids(&seen), seen[0].queue.as_str()), (BTreeSet::from(["mine", "other"]), "default.eu"));
    assert_eq!(replay(&dead, &Selection::all()).await, 0, "still no queue takes them");

    place.declare_default().await;
    assert_eq!(replay(&dead, &Selection::all()).await, 1);
    let back: Message = place.vhost.take("default").await.unwrap();
    assert_eq!((back.id().as_deref(), back.header_text("x-mine").as_deref()), (Some("mine"), Some("kept")));
    assert_eq!((back.header_text("count").as_deref(), back.body.as_slice()), (Some("7"), b"{\"a\":1}".as_slice()));
    assert_eq!(place.vhost.ready("leveret.lost").await, 1);
    assert!(client.publish_message(probe(1).queue("nowhere")).await.is_err());
    client.close().await;
}
