//! Handlers and publishes can be tested with no broker: the real worker on a broker in memory, under a held clock.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helpers too")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leveret::{
    Batch, BatchOptions, BrokerSettings, Context, Error, Job, Message, Outcome, Producer, PublishError, QueueName,
    QueueOptions, QueueSettings, Task, TaskPolicy, Tiers, UnixMillis, Worker, WorkerBuilder,
    common::dead_letters::{DeadLetters, Selection},
    producer::schedule::{Expression, Schedule, Timetable, Zone},
};
use leveret_testkit::{End, MemoryBroker, TestTask, eventually, foreign};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// A full hour.
const START: UnixMillis = UnixMillis(1_900_000_800_000);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(name = "email.send", queue = "mail")]
struct SendEmail {
    to: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(name = "email.count", queue = "mail")]
struct CountEmail;

fn email(to: &str) -> SendEmail {
    SendEmail { to: to.to_owned() }
}

/// The worker of an application: what it does with a task stands in the address.
fn worker(settings: BrokerSettings) -> WorkerBuilder {
    let policy = TaskPolicy::default().retries(2).backoff("1m".parse().unwrap());
    Worker::builder(settings).name("mailer").policy(policy).task(send)
}

async fn send(cx: Context, job: Job<SendEmail>) -> Result<Outcome, Error> {
    match job.to.as_str() {
        "busy" => Err(Error::retry("the server is busy")),
        "wrong" => Err(Error::reject("no such address")),
        "panic" => panic!("out of ink"),
        "night" if cx.clock().now() < START + Duration::from_secs(3_600) => {
            Ok(Outcome::Snooze(Duration::from_secs(3_600)))
        }
        "late" => Ok(Outcome::Discard("the list is closed".to_owned())),
        "off" => Ok(Outcome::Cancel("she called".to_owned())),
        "once" if cx.attempt() == 1 => Err(Error::retry_after(Duration::from_secs(90), "not now")),
        _ => Ok(Outcome::Done),
    }
}

#[tokio::test]
async fn a_published_task_is_run_by_the_worker_and_told() {
    let broker = MemoryBroker::at(START);
    let mut worker = broker.worker(worker(broker.settings())).await;
    let client = broker.client().await;
    let id = client.publish(&email("ada")).await.unwrap();
    assert_eq!(broker.require_published::<SendEmail>(), email("ada"));
    assert_eq!(broker.messages("mail").len(), 1, "it waits until it is run");

    let report = worker.run_due().await;
    assert_eq!(report.only(), &End::Done);
    assert_eq!((report[0].id.as_str(), report[0].attempt), (id.as_str(), 1));
    assert!(broker.messages("mail").is_empty());
    assert!(worker.run_due().await.is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn a_failing_task_is_tried_again_as_the_policy_says_and_then_dead_with_its_reason() {
    let broker = MemoryBroker::at(START);
    let mut worker = broker.worker(worker(broker.settings())).await;
    let client = broker.client().await;
    client.publish(&email("busy")).header("x-mine", "kept").await.unwrap();

    let minutes = |count: u64| START + Duration::from_secs(60 * count);
    let error = || "the server is busy".to_owned();
    let report = worker.run_due().await;
    assert_eq!(report.only(), &End::Retried { attempt: 2, at: minutes(1), error: error() });
    broker.advance(Duration::from_secs(59));
    assert!(worker.run_due().await.is_empty(), "not a moment before its time");
    broker.advance(Duration::from_secs(1));
    let report = worker.run_due().await;
    assert_eq!(report.only(), &End::Retried { attempt: 3, at: minutes(2), error: error() });
    let report = worker.run_for(Duration::from_secs(60)).await;
    assert_eq!(report.last().unwrap().end, End::Dead { reason: "exhausted".to_owned(), error: error() });

    let [dead] = &broker.dead("mail")[..] else { panic!("one dead letter") };
    assert_eq!(dead.dead_reason().as_deref(), Some("exhausted"));
    let header = |name| dead.header_text(name).unwrap();
    assert_eq!(header("leveret-error"), "the server is busy");
    assert_eq!(header("leveret-first-failed-at"), START.to_string());
    assert_eq!(header("leveret-failed-at"), minutes(2).to_string());
    assert_eq!((header("leveret-attempt"), header("x-mine")), ("3".to_owned(), "kept".to_owned()));
    assert_eq!((header("leveret-worker"), header("leveret-queue")), ("mailer".to_owned(), "mail".to_owned()));
}

#[tokio::test]
async fn every_way_in_which_an_attempt_can_end_is_told() {
    let broker = MemoryBroker::at(START);
    let client = broker.client().await;
    let mut worker = broker.worker(worker(broker.settings())).await;
    let hour = START + Duration::from_secs(3_600);
    for (to, end) in [
        ("ada", End::Done),
        ("late", End::Discarded { reason: "the list is closed".to_owned() }),
        ("off", End::Cancelled { reason: "she called".to_owned() }),
        ("night", End::Snoozed { until: hour }),
        ("once", End::Retried { attempt: 2, at: START + Duration::from_secs(90), error: "not now".to_owned() }),
        ("wrong", End::Dead { reason: "rejected".to_owned(), error: "no such address".to_owned() }),
        (
            "panic",
            End::Retried {
                attempt: 2,
                at: START + Duration::from_secs(60),
                error: "the handler panicked: out of ink".to_owned(),
            },
        ),
    ] {
        client.publish(&email(to)).await.unwrap();
        assert_eq!(worker.run_due().await.only(), &end, "{to}");
    }
    client.publish(&email("ada")).delay(Duration::from_secs(3_600)).await.unwrap();
    assert!(worker.run_due().await.is_empty(), "it is not due");
    assert_eq!(broker.messages("mail.retry.1h").len(), 2, "it waits beside the one that was snoozed");
    assert_eq!(broker.waiting("mail").len(), 4);
    client.publish(&email("ada")).expires_in(Duration::ZERO).await.unwrap();
    assert!(matches!(worker.run_due().await.only(), End::Dead { reason, .. } if reason == "expired"));
    client.publish_message(Message::json("email.unknown", &1).unwrap().queue("mail")).await.unwrap();
    assert!(matches!(worker.run_due().await.only(), End::Dead { reason, .. } if reason == "unknown-task"));

    let rest = worker.run_to_end().await;
    assert_eq!(rest.of::<SendEmail>().iter().filter(|end| ***end == End::Done).count(), 3, "{rest}");
    assert_eq!(broker.dead("mail").len(), 4);
    assert!(broker.clock().now() >= hour);
}

#[tokio::test]
async fn what_was_not_published_as_expected_is_told_with_what_was() {
    let broker = MemoryBroker::new();
    broker.declare::<SendEmail>().await;
    broker.require_none::<CountEmail>();
    let client = broker.client().await;
    client.publish(&email("ada")).await.unwrap();
    client.publish(&email("bob")).await.unwrap();
    assert_eq!(broker.published_of::<SendEmail>(), [email("ada"), email("bob")]);

    let asking = broker.clone();
    let message = tokio::task::spawn_blocking(move || asking.require_published::<SendEmail>()).await.unwrap_err();
    let message = message.into_panic().downcast::<String>().unwrap();
    assert!(message.starts_with("one email.send was to be published, there are 2. Published were:"), "{message}");
    assert!(message.contains(r#"email.send to mail: {"to":"bob"}"#), "{message}");

    broker.forget_published();
    broker.require_none::<SendEmail>();
    assert_eq!(broker.messages("mail").len(), 2, "only the list of what was published is empty");
}

#[tokio::test]
async fn a_queue_that_nobody_declared_takes_nothing_and_the_publisher_hears_of_it() {
    let broker = MemoryBroker::new();
    let error = broker.client().await.publish(&email("ada")).await.unwrap_err();
    assert!(matches!(error, PublishError::Unroutable { .. }), "{error}");
    broker.require_none::<SendEmail>();
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let broker = MemoryBroker::new();
    let settings = QueueSettings { max_length: 2, ..QueueSettings::default() };
    let options = QueueOptions::concurrency(1).settings(settings);
    let mut worker = broker.worker(worker(broker.settings()).queue("mail", options)).await;
    let client = broker.client().await;
    for to in ["ada", "bob"] {
        client.publish(&email(to)).await.unwrap();
    }
    let error = client.publish(&email("cyd")).await.unwrap_err();
    assert!(matches!(error, PublishError::Refused), "{error}");
    assert_eq!(worker.run_due().await.len(), 2);
    client.publish(&email("cyd")).await.unwrap();
}

#[tokio::test]
async fn a_message_that_kills_its_worker_reaches_the_delivery_limit() {
    let broker = MemoryBroker::new();
    let settings = QueueSettings { delivery_limit: 2, ..QueueSettings::default() };
    let given = Arc::new(AtomicUsize::new(0));
    let (counting, cutting) = (given.clone(), broker.clone());
    let builder = Worker::builder(broker.settings())
        .queue("mail", QueueOptions::concurrency(4).settings(settings))
        .task(move |_, _: Job<SendEmail>| {
            counting.fetch_add(1, Ordering::Relaxed);
            // As far as the broker can see, the worker is gone.
            cutting.disconnect();
            std::future::pending::<Result<Outcome, Error>>()
        });
    let mut worker = broker.worker(builder).await;
    broker.client().await.publish(&email("ada")).await.unwrap();
    let report = worker.run_due().await;
    let error = "given out 3 times and never settled".to_owned();
    assert_eq!(report.last().unwrap().end, End::Dead { reason: "delivery-limit".to_owned(), error });
    assert_eq!((given.load(Ordering::Relaxed), report.count(|end| *end == End::Returned)), (3, 2));
    assert_eq!(broker.dead("mail")[0].dead_reason().as_deref(), Some("delivery_limit"));
    worker.running().stopper().stop_now();
}

#[tokio::test]
async fn a_thousand_delayed_tasks_come_back_in_their_order() {
    let broker = MemoryBroker::at(START);
    let order = Arc::new(Mutex::new(Vec::new()));
    let noting = order.clone();
    let tiers = Tiers::new([1, 2, 4, 8, 16, 32, 64].map(Duration::from_secs).into()).unwrap();
    let options = QueueOptions::concurrency(16).settings(QueueSettings { tiers, ..QueueSettings::default() });
    let builder =
        Worker::builder(broker.settings()).queue("mail", options).task(move |cx: Context, job: Job<SendEmail>| {
            noting.lock().push((cx.clock().now(), job.to.parse::<u64>().unwrap()));
            async { Ok::<_, Error>(Outcome::Done) }
        });
    let mut worker = broker.worker(builder).await;
    let client = broker.client().await;
    // Ten every second, published in another order.
    let due_in = |place: u64| Duration::from_secs(place / 10);
    let places = (0..1_000).map(|place: u64| (place * 617) % 1_000);
    let messages = places.map(|place| Message::of(&email(&place.to_string())).unwrap().delay(due_in(place)));
    for published in client.publish_many(messages).await {
        published.unwrap();
    }
    let report = worker.run_to_end().await;
    assert_eq!(report.count(|end| *end == End::Done), 1_000);
    let order = std::mem::take(&mut *order.lock());
    let due = |place: u64| START + due_in(place);
    for (at, place) in &order {
        // A tier may be beyond the delay by a second.
        assert!((due(*place)..=due(*place) + Duration::from_secs(1)).contains(at), "{place} at {at}");
    }
    let in_order = |pair: &[(UnixMillis, u64)]| pair[0].0 <= pair[1].0 && pair[0].1 / 10 <= pair[1].1 / 10 + 1;
    assert!(order.windows(2).all(in_order), "{order:?}");
}

#[tokio::test]
async fn one_call_of_a_handler_is_told_with_what_it_returned() {
    let worked = TestTask::of(&email("busy")).run(send).await;
    assert!(matches!(worked.end, End::Retried { attempt: 2, .. }), "{worked:?}");
    assert_eq!(worked.returned.unwrap().unwrap_err().to_string(), "the server is busy");

    let last = TestTask::of(&email("busy")).attempt(8).id("mine".parse().unwrap()).run(send).await;
    assert!(matches!(&last.end, End::Dead { reason, .. } if reason == "exhausted"), "{last:?}");

    let keyed = TestTask::of(&email("ada")).message(|message| message.key("eu").header("x-mine", 1));
    let worked = keyed
        .run(async |cx: Context, _| {
            Outcome::result(&(cx.key().map(str::to_owned), cx.headers().get_i64("x-mine"), cx.attempt()))
        })
        .await;
    let Some(Ok(Outcome::Result(result))) = worked.returned else { panic!("{worked:?}") };
    assert_eq!((result.to_string().as_str(), worked.end), (r#"["eu",1,1]"#, End::Done));

    let quick = |builder: WorkerBuilder| builder.policy(TaskPolicy::default().retries(0));
    let worked = TestTask::of(&email("panic")).worker(quick).run(send).await;
    assert!(worked.returned.is_none() && matches!(worked.end, End::Dead { .. }), "{worked:?}");
}

#[derive(Serialize, Deserialize, Task)]
#[task(name = "report.make", queue = "reports", long = true)]
struct MakeReport;

#[tokio::test]
async fn long_tasks_blocking_ones_and_batches_are_run_to_their_end() {
    let broker = MemoryBroker::new();
    let client = broker.client().await;
    let made = Arc::new(AtomicUsize::new(0));
    let counting = made.clone();
    let builder = Worker::builder(broker.settings())
        .task(move |cx: Context, _: Job<MakeReport>| {
            let made = counting.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                made.fetch_add(1, Ordering::Relaxed);
                cx.follow_up(Message::of(&email("ada"))?);
                Ok::<_, Error>(())
            }
        })
        .task_batch(BatchOptions::new(10, Duration::from_millis(5)), async |batch: Batch<SendEmail>| {
            drop(batch);
            Ok(())
        })
        .task_blocking(|_: Context, _: Job<CountEmail>| Ok::<_, Error>(Outcome::Discard("none left".to_owned())));
    let mut worker = broker.worker(builder).await;
    client.publish(&MakeReport).await.unwrap();
    let report = worker.run_due().await;
    assert_eq!(made.load(Ordering::Relaxed), 1, "a step is over when the long task is, not when it is leased");
    assert_eq!((report.of::<MakeReport>(), report.of::<SendEmail>()), (vec![&End::Done], vec![&End::Done]), "{report}");
    client.publish(&CountEmail).await.unwrap();
    assert_eq!(worker.run_due().await.only(), &End::Discarded { reason: "none left".to_owned() });
}

/// What the panic says with which a task ends.
async fn panic_of(failing: impl Future<Output = ()> + Send + 'static) -> String {
    let panic = tokio::spawn(failing).await.unwrap_err().into_panic();
    panic.downcast::<String>().map_or_else(|panic| (*panic.downcast::<&str>().unwrap()).to_owned(), |text| *text)
}

#[tokio::test]
async fn a_test_that_cannot_go_on_is_told_why() {
    let (broker, other) = (MemoryBroker::new(), MemoryBroker::new());
    let message = panic_of(async move { drop(broker.worker(worker(other.settings())).await) }).await;
    assert!(message.contains("begin it with `Worker::builder(broker.settings())`"), "{message}");

    let broker = MemoryBroker::new();
    let builder = Worker::builder(broker.settings())
        .task(|_, _: Job<SendEmail>| std::future::pending::<Result<Outcome, Error>>());
    let mut worker = broker.worker(builder).await.patience(Duration::from_millis(50));
    let id = broker.client().await.publish(&email("ada")).await.unwrap();
    let message = panic_of(async move { drop(worker.run_due().await) }).await;
    assert!(message.contains("not finished within 50ms") && message.contains(id.as_str()), "{message}");
}

#[tokio::test]
async fn what_a_handler_publishes_is_seen_and_run_as_well() {
    let broker = MemoryBroker::new();
    let client = broker.client().await;
    let publishing = client.clone();
    let builder = worker(broker.settings()).task(move |_, _: Job<CountEmail>| {
        let client = publishing.clone();
        async move { Ok::<_, Error>(client.publish(&email("ada")).await.map(drop)?) }
    });
    let mut worker = broker.worker(builder).await;
    client.publish(&CountEmail).await.unwrap();
    let report = worker.run_due().await;
    assert_eq!(broker.require_published::<SendEmail>(), email("ada"));
    assert_eq!((report.of::<CountEmail>(), report.of::<SendEmail>()), (vec![&End::Done], vec![&End::Done]), "{report}");
}

#[tokio::test]
async fn dead_letters_are_replayed_by_the_same_code_as_at_a_broker() {
    let broker = MemoryBroker::new();
    let client = broker.client().await;
    let mended = Arc::new(AtomicUsize::new(0));
    let counting = mended.clone();
    let builder = Worker::builder(broker.settings()).queue("mail", 1).task(move |cx: Context, _: Job<SendEmail>| {
        let first = counting.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            assert_eq!(cx.attempt(), 1, "a replayed task counts anew");
            if first { Err(Error::reject("no")) } else { Ok(Outcome::Done) }
        }
    });
    let mut worker = broker.worker(builder).await;
    client.publish(&email("ada")).await.unwrap();
    assert!(matches!(worker.run_due().await.only(), End::Dead { .. }));
    let dead = DeadLetters::of(client.link().clone(), QueueName::new("mail").unwrap()).unwrap();
    let all = Selection::all();
    let tally = dead.replay(&all, None, &CancellationToken::new(), |_| {}).await.unwrap();
    assert_eq!((tally.seen, tally.settled), (1, 1));
    assert_eq!(worker.run_due().await.only(), &End::Done);
}

#[tokio::test]
async fn the_worker_survives_a_lost_connection() {
    let broker = MemoryBroker::new();
    let mut worker = broker.worker(worker(broker.settings())).await;
    let client = broker.client().await;
    client.publish(&email("ada")).await.unwrap();
    broker.disconnect();
    assert_eq!(worker.run_due().await.only(), &End::Done);
    client.publish(&email("bob")).await.expect("the client connects again by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_any_make_are_served() {
    let broker = MemoryBroker::new();
    let worker = Worker::builder(broker.settings())
        .clock(broker.clock())
        .raw("sum", TaskPolicy::default(), async |_, body: bytes::Bytes| {
            let numbers: Vec<i64> = serde_json::from_slice(&body)?;
            Outcome::result(&numbers.iter().sum::<i64>())
        })
        .build()
        .unwrap()
        .start()
        .await
        .unwrap();
    let line = r#"{"exchange":"leveret.tasks","routing_key":"default","properties":{"type":"sum"},"body":[1,2]}"#;
    let url = [broker.url()];
    let (pika, amqplib) = tokio::join!(foreign::pika("call.py", &url, line), foreign::amqplib("call.mjs", &url, line));
    for output in [pika, amqplib] {
        let reply: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(reply["body"], "3", "{reply}");
    }
    let options = ["--exchange", "leveret.tasks", "--routing-key", "nowhere", "--header", "leveret-task: sum"];
    foreign::amqp_publish(broker.url(), &options, "[]").await;
    assert_eq!(broker.messages("leveret.lost")[0].header_text("leveret-task").as_deref(), Some("sum"));
    worker.stop().await;
}

#[tokio::test]
async fn schedules_are_tested_by_moving_the_clock() {
    let broker = MemoryBroker::at(START);
    broker.declare::<SendEmail>().await;
    let client = broker.client().await;
    let hourly = Timetable::new(Expression::every(Duration::from_secs(3_600)).unwrap(), Zone::utc());
    let schedule = Schedule::new("hourly", hourly, Message::of(&email("ada")).unwrap()).unwrap();
    let producer = Producer::new([schedule], client.clone(), broker.clock()).start();
    for hours in 1..=3 {
        // A clock that was put forward by more than ten seconds at once counts as one that was wrong.
        for _ in 0..720 {
            tokio::task::yield_now().await;
            broker.advance(Duration::from_secs(5));
        }
        eventually(Duration::from_secs(10), async || broker.published_of::<SendEmail>().len() == hours).await;
    }
    let ticks: Vec<_> =
        broker.published().iter().map(|message| message.header_text("leveret-scheduled-at").unwrap()).collect();
    assert_eq!(ticks, [1, 2, 3].map(|hours| (START.0 + hours * 3_600_000).to_string()));
    producer.stop().await;
}
