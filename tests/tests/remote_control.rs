//! Workers are steered while they run: all, some or one of them, by whoever may, and by nobody else.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic, its helpers too")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Barrier},
    time::Duration,
};

use lapin::BasicProperties;
use leveret::{
    QueueName,
    common::{
        control::{Answer, Command, Control, ControlError, LimitChange, Outcome, RefusalKind, Reply, Target},
        link::Attachment,
    },
    worker::control::{ControlSettings, Controlled, LogControl},
};
use leveret_testkit::{FaultProxy, Permissions, eventually, foreign};
use leveret_tests::{PATIENCE, Place, settings, short, steered::Steered, text, within};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Long enough for any answer, and not waited for where the answers that are due have come.
const ANSWERS: Duration = Duration::from_secs(10);

async fn steered(place: &Place, name: &str, queues: &[&str]) -> Steered {
    Steered::start(place.settings.clone(), name, queues, ControlSettings::default()).await.listens().await
}

async fn control(place: &Place) -> Control {
    Control::connect(place.settings.clone()).await.unwrap()
}

/// Sends a command and waits for this many answers.
async fn ask(control: &Control, target: &Target, command: &Command, answers: usize) -> Vec<Reply> {
    let mut replies = control.begin(target, command, ANSWERS).await.unwrap();
    let mut all = Vec::new();
    while all.len() < answers {
        all.push(replies.next().await.expect("an answer in time"));
    }
    all
}

async fn ask_one(control: &Control, worker: &Steered, command: &Command) -> Outcome {
    ask(control, &Target::Instance(worker.instance), command, 1).await.remove(0).outcome
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn ok(outcome: &Outcome) -> bool {
    *outcome == Outcome::Answer(Answer::Ok)
}

fn refused(outcome: Outcome) -> (RefusalKind, String) {
    match outcome {
        Outcome::Refused(refusal) => (refusal.kind, refusal.text),
        answer => panic!("it was carried out: {answer:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_exactly_those_who_are_meant() {
    let place = Place::new().await;
    let a = steered(&place, "mail", &["mail", "bulk"]).await;
    let b = steered(&place, "mail", &["mail"]).await;
    // The name is a pattern to the broker; it must not hear what is meant for others.
    let c = steered(&place, "#", &["bulk"]).await;
    let control = control(&place).await;
    let cases = [
        (Target::All, vec![&a, &b, &c]),
        (Target::Worker("mail".to_owned()), vec![&a, &b]),
        (Target::Worker("#".to_owned()), vec![&c]),
        (Target::Instance(b.instance), vec![&b]),
        (Target::Queue(queue("bulk")), vec![&a, &c]),
    ];
    for (target, meant) in cases {
        let wanted: BTreeSet<_> = meant.iter().map(|worker| worker.instance).collect();
        let replies = control.send(&target, &Command::Ping {}, Duration::from_millis(500)).await.unwrap();
        assert!(replies.iter().all(|reply| ok(&reply.outcome)), "{replies:?}");
        assert_eq!(replies.iter().map(|reply| reply.instance).collect::<BTreeSet<_>>(), wanted, "{target:?}");
        assert_eq!(replies.len(), wanted.len(), "{target:?}");
    }
    let other = Target::Queue(queue("other"));
    let error = control.send(&other, &Command::Ping {}, ANSWERS).await.unwrap_err();
    assert!(matches!(error, ControlError::Nobody { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_is_carried_out_and_answered() {
    let place = Place::new().await;
    let filters = tokio::sync::watch::Sender::new(String::new());
    let set = filters.clone();
    let mut settings = ControlSettings::default();
    settings.log = Some(LogControl::new(move |filter| match filter {
        "loud" => Err("write a level".to_owned()),
        _ => {
            set.send_replace(filter.to_owned());
            Ok(())
        }
    }));
    let worker = Steered::start(place.settings.clone(), "mail", &["mail"], settings).await.listens().await;
    let control = control(&place).await;
    for (id, task) in [("one", "mail.send"), ("two", "mail.send"), ("three", "mail.sort")] {
        worker.double.run(id, task, "mail");
    }

    let Outcome::Answer(Answer::Running { tasks, total: 3 }) =
        ask_one(&control, &worker, &Command::Running { queue: None }).await
    else {
        panic!("three tasks run");
    };
    assert_eq!(tasks[0].progress.as_ref().unwrap().total, Some(10));
    let other = Command::Running { queue: Some(queue("other")) };
    assert_eq!(ask_one(&control, &worker, &other).await, Outcome::Answer(Answer::Running { tasks: vec![], total: 0 }));

    let reason = Some("wrong list".to_owned());
    let cancel = Command::cancel(["two".parse().unwrap(), "gone".parse().unwrap()], reason.clone());
    let cancelled = |tasks| Outcome::Answer(Answer::Cancelled { tasks });
    assert_eq!(ask_one(&control, &worker, &cancel).await, cancelled(1));
    let (ids, remember_ms) = (vec!["later".parse().unwrap()], Some(1_500));
    let remember = Command::Cancel { ids, reason: reason.clone(), remember_ms, replays: Some(0) };
    assert_eq!(ask_one(&control, &worker, &remember).await, cancelled(0));
    let cancel = Command::CancelAll { task: "mail.send".to_owned(), reason };
    assert_eq!(ask_one(&control, &worker, &cancel).await, cancelled(1));
    let told = ["cancel two wrong list", "revoke later wrong list 1.5s Some(0)", "cancel one wrong list"];
    assert_eq!(worker.double.told(), told);

    let pause = Command::Pause { queue: queue("mail"), reason: Some("full disk".to_owned()), by: None };
    assert!(ok(&ask_one(&control, &worker, &pause).await));
    let Outcome::Answer(Answer::Stats(stats)) = ask_one(&control, &worker, &Command::Stats {}).await else {
        panic!("it has stats");
    };
    assert_eq!((stats.finished["done"], stats.queues[0].concurrency), (7, 4));
    assert_eq!(stats.queues[0].paused.as_ref().unwrap().reason.as_deref(), Some("full disk"));
    assert_eq!(stats.queues[0].free(), 0);
    let resume = Command::Resume { queue: queue("mail") };
    assert!(ok(&ask_one(&control, &worker, &resume).await));
    assert!(ok(&ask_one(&control, &worker, &resume).await), "resuming what is not paused does nothing");
    assert!(ok(&ask_one(&control, &worker, &Command::Concurrency { queue: queue("mail"), tasks: 9 }).await));
    let limit = |name: &str| {
        Command::Limit(LimitChange { name: name.to_owned(), concurrency: Some(5), rate: None, reset: false })
    };
    assert!(ok(&ask_one(&control, &worker, &limit("api")).await));
    let limits = ask_one(&control, &worker, &Command::Limits {}).await;
    assert_eq!(limits, Outcome::Answer(Answer::Limits { limits: worker.double.limits() }));
    assert!(ok(&ask_one(&control, &worker, &Command::Log { filter: "debug".to_owned() }).await));
    assert_eq!(*filters.borrow(), "debug");
    assert!(ok(&ask_one(&control, &worker, &Command::Drain {}).await));
    assert!(ok(&ask_one(&control, &worker, &Command::Stop {}).await));
    worker.double.until_told("stop").await;
    let told = worker.double.told();
    assert_eq!(
        told[3..],
        ["pause mail full disk", "resume mail", "concurrency mail 9", "limit api Some(5) None", "drain", "stop"]
    );

    // What cannot be done is refused, with what is wrong, and the next command is heard all the same.
    let (kind, why) = refused(ask_one(&control, &worker, &Command::Resume { queue: queue("other") }).await);
    assert_eq!(kind, RefusalKind::UnknownQueue);
    assert!(why.contains("\"other\""), "{why}");
    assert_eq!(refused(ask_one(&control, &worker, &limit("unknown")).await).1, "there is no limit \"unknown\"");
    assert_eq!(refused(ask_one(&control, &worker, &limit("panic")).await).0, RefusalKind::Failed);
    assert_eq!(
        refused(ask_one(&control, &worker, &Command::Log { filter: "loud".to_owned() }).await).1,
        "write a level"
    );
    assert!(ok(&ask_one(&control, &worker, &Command::Ping {}).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn pika_steers_workers() {
    let place = Place::new().await;
    let (a, b) = (steered(&place, "mail", &["mail"]).await, steered(&place, "mail", &["mail"]).await);
    let said = async |key: &str, body: &str| {
        let output = foreign::pika("control.py", &[place.vhost.url(), key, "2"], body).await;
        output.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let only_a = format!("instance.{}", a.instance);
    let (pings, garbage, unknown) = tokio::join!(
        said("worker.mail", r#"{"command": "ping"}"#),
        said(&only_a, "{\"command\":"),
        said("queue.mail", r#"{"command": "pause", "queue": "mail", "for_ever": true}"#),
    );
    let instances: BTreeSet<_> = pings.iter().map(|reply| reply["instance"].as_str().unwrap().to_owned()).collect();
    assert_eq!(instances, [&a, &b].map(|worker| worker.instance.to_string()).into());
    assert!(pings.iter().all(|reply| reply["worker"] == "mail" && reply["answer"] == json!({"kind": "ok"})));
    assert_eq!(garbage[0]["refused"]["kind"], "malformed");
    assert!(unknown.len() == 2 && unknown[0]["refused"]["text"].as_str().unwrap().contains("for_ever"), "{unknown:?}");
    assert!(a.double.told().is_empty() && b.double.told().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_harms_nobody() {
    let place = Place::new().await;
    let worker = steered(&place, "mail", &["mail"]).await;
    let deep = "[".repeat(100_000);
    let huge = format!(r#"{{"command": "log", "filter": "{}"}}"#, "x".repeat(2 << 20));
    for body in ["", "\0\u{1}", "null", "{}", r#"{"command": null}"#, &deep, &huge] {
        // Without a way to answer, and with one that leads nowhere.
        let nowhere = BasicProperties::default().with_reply_to(short("nowhere"));
        for properties in [BasicProperties::default(), nowhere] {
            place.vhost.publish("leveret.control", "all", properties, body).await;
        }
    }
    place.vhost.declare("answers").await;
    let answered = BasicProperties::default().with_reply_to(short("answers")).with_correlation_id(short("c-1"));
    place.vhost.publish("leveret.control", "all", answered, br#"{"command": "dance"}"#).await;
    let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(answer.json()["refused"]["kind"], "unknown-command");
    assert!(ok(&ask_one(&control(&place).await, &worker, &Command::Ping {}).await));
    assert!(worker.double.told().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_publish_tasks_may_not_steer() {
    let place = Place::new().await;
    let worker = steered(&place, "mail", &["mail"]).await;
    let publisher =
        place.vhost.user(Permissions { configure: "", write: "^leveret[.](tasks|publish)$", read: "" }).await;
    let control_of_publisher = Control::connect(settings(publisher.url())).await.unwrap();
    let error = control_of_publisher.send(&Target::All, &Command::Stop {}, ANSWERS).await.unwrap_err();
    assert!(matches!(error, ControlError::Forbidden { .. }), "{error:?}");
    let says = error.to_string();
    assert!(says.contains("ACCESS_REFUSED") && says.contains("leveret.control"), "{says}");
    let error = control_of_publisher.pause_everywhere(&queue("mail"), None, ANSWERS).await.unwrap_err();
    assert!(error.to_string().contains("ACCESS_REFUSED"), "{error}");

    // The worker's queue can be reached by its name as well, by whoever may write to the default exchange. That is not
    // enough: what came by that way is not carried out.
    let name = format!("leveret.worker.{}", worker.instance);
    place.vhost.publish("", &name, BasicProperties::default(), br#"{"command": "stop"}"#).await;
    // One who may write to the exchange of control needs nothing else.
    let operator = place.vhost.user(Permissions { configure: "", write: "^leveret[.]control$", read: "" }).await;
    let control = Control::connect(settings(operator.url())).await.unwrap();
    assert!(ok(&ask_one(&control, &worker, &Command::Ping {}).await));
    assert!(worker.double.told().is_empty());

    // A worker that may not have a queue of its own works on without, and says so.
    let user = place.vhost.user(Permissions { configure: "", write: ".*", read: ".*" }).await;
    let mute = Steered::start(settings(user.url()), "mute", &["mail"], ControlSettings::default()).await;
    let mut listening = mute.listening();
    let forbidden = listening.wait_for(|attached| matches!(attached, Attachment::Forbidden(_)));
    within("the broker refuses the queue", forbidden).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_command_is_not_carried_out() {
    let place = Place::new().await;
    let worker = steered(&place, "mail", &["mail"]).await;
    let control = control(&place).await;
    place.vhost.declare("answers").await;
    let mut headers = lapin::types::FieldTable::default();
    headers.insert(short("leveret-expires-at"), text("1000"));
    let old = BasicProperties::default().with_headers(headers).with_reply_to(short("answers"));
    place.vhost.publish("leveret.control", "all", old, br#"{"command": "stop"}"#).await;
    let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(answer.json()["refused"]["kind"], "expired");

    // The worker is at a command that takes long; what its sender no longer waits for is not begun after it.
    let slow = LimitChange { name: "slow".to_owned(), concurrency: Some(1), rate: None, reset: false };
    let target = Target::Instance(worker.instance);
    let mut slow = control.begin(&target, &Command::Limit(slow), ANSWERS).await.unwrap();
    let late = control.send(&target, &Command::Drain {}, Duration::from_millis(300)).await.unwrap();
    assert_eq!(late, []);
    // This is too late as well, and gives the broker time to see that the former is.
    let ping = control.send(&target, &Command::Ping {}, Duration::from_millis(500)).await.unwrap();
    assert_eq!(ping, []);
    worker.double.gate.notify_one();
    assert!(slow.next().await.is_some_and(|reply| ok(&reply.outcome)));
    assert!(ok(&ask_one(&control, &worker, &Command::Ping {}).await));
    assert_eq!(worker.double.told(), ["limit slow Some(1) None"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn steering_survives_the_loss_of_the_connection() {
    let place = Place::new().await;
    let proxy = FaultProxy::to(place.vhost.url()).await;
    let worker = Steered::start(settings(proxy.url()), "mail", &["mail"], ControlSettings::default()).await;
    let worker = worker.listens().await;
    let control = control(&place).await;
    for _ in 0..3 {
        proxy.cut();
        let ping = async || control.send(&Target::Instance(worker.instance), &Command::Ping {}, ANSWERS).await;
        eventually(PATIENCE, async || ping().await.is_ok_and(|replies| replies.len() == 1)).await;
    }
}

/// Handlers that block every thread of their runtime do not keep a command out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_a_worker_whose_threads_are_all_busy() {
    let place = Place::new().await;
    let worker = steered(&place, "mail", &["mail"]).await;
    worker.double.run("one", "mail.send", "mail");
    let control = control(&place).await;
    let open = Arc::new(Barrier::new(3));
    let (begun, mut all_begun) = tokio::sync::mpsc::channel(2);
    for _ in 0..2 {
        let (open, begun) = (open.clone(), begun.clone());
        tokio::spawn(async move {
            begun.try_send(()).unwrap();
            open.wait();
        });
    }
    all_begun.recv().await;
    all_begun.recv().await;
    let cancel = Command::cancel(["one".parse().unwrap()], None);
    let asked = Instant::now();
    let target = Target::Instance(worker.instance);
    let asking = leveret::common::link::spawn(async move { control.send(&target, &cancel, ANSWERS).await });
    let replies = asking.await.unwrap().unwrap();
    let took = asked.elapsed();
    open.wait();
    assert_eq!(replies[0].outcome, Outcome::Answer(Answer::Cancelled { tasks: 1 }));
    assert!(took < Duration::from_secs(1), "{took:?}");
}
