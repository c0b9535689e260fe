//! Real workers carry out what they are told over the control exchange, and are found.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helpers too")]

use std::time::Duration;

use leveret::{
    Context, Error, Job, LimitSettings, Outcome, QueueName, RunningWorker, TaskPolicy, Worker,
    common::{
        control::{Answer, Command, Control, Outcome as Told, Target},
        event::{EventBatch, Happening},
        registry::{Registry, WorkerState},
    },
    worker::control::{ControlSettings, Controlled, Revoked},
};
use leveret_testkit::{eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, Probe, probe, quick, short, start, within};
use tokio::{sync::mpsc, time::Instant};

const SECOND: Duration = Duration::from_secs(1);

fn default() -> QueueName {
    QueueName::new("default").unwrap()
}

async fn tell(control: &Control, command: Command) -> Vec<Answer> {
    let replies = control.send(&Target::All, &command, SECOND).await.unwrap();
    let answer = |reply: leveret::common::control::Reply| match reply.outcome {
        Told::Answer(answer) => answer,
        Told::Refused(refusal) => panic!("{refusal}"),
    };
    replies.into_iter().map(answer).collect()
}

/// A worker whose tasks wait until they are called off, and say how they were.
async fn waiting(place: &Place, concurrency: usize) -> (RunningWorker, mpsc::UnboundedReceiver<String>) {
    let (say, said) = mpsc::unbounded_channel();
    let worker = Worker::builder(place.settings.clone())
        .control(ControlSettings::default().beat(Duration::from_millis(200)))
        .policy(TaskPolicy::default())
        .queue("default", quick(concurrency))
        .task(move |context: Context, _: Job<Probe>| {
            let say = say.clone();
            async move {
                context.progress(3, 10, "half way");
                drop(say.send("begun".to_owned()));
                context.cancelled().await;
                drop(say.send(format!("{:?}", context.why_cancelled())));
                Err::<Outcome, Error>(context.cancelled_error())
            }
        });
    (start(worker).await, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_a_running_task_in_less_than_a_second() {
    let place = Place::new().await;
    let (worker, mut said) = waiting(&place, 2).await;
    let client = place.client().await;
    let id = client.publish_message(probe(1)).await.unwrap();
    client.publish_message(probe(2)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(within("it runs", said.recv()).await.unwrap(), "begun");
    }
    let control = Control::connect(place.settings.clone()).await.unwrap();
    let answers = tell(&control, Command::Running { queue: None }).await;
    let [Answer::Running { tasks, total: 2 }] = answers.as_slice() else { panic!("{answers:?}") };
    let progress = tasks[0].progress.clone().unwrap();
    assert_eq!((progress.cursor, progress.total, progress.note.as_deref()), (3, Some(10), Some("half way")));
    let began = Instant::now();
    let command = Command::cancel([id], Some("the customer left".to_owned()));
    let sending = tokio::spawn(async move { (tell(&control, command).await, control) });
    assert_eq!(within("it is told", said.recv()).await.unwrap(), "Some(Requested(\"the customer left\"))");
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    let (answers, control) = within("it answers", sending).await.unwrap();
    assert!(matches!(answers.as_slice(), [Answer::Cancelled { tasks: 1 }]), "{answers:?}");
    let all = Command::CancelAll { task: "probe".to_owned(), reason: None };
    assert!(matches!(tell(&control, all).await.as_slice(), [Answer::Cancelled { tasks: 1 }]));
    worker.stop().await;
    assert_eq!((place.vhost.ready("default").await, place.vhost.ready("default.dead").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_to_be_cancelled_ends_before_it_begins_and_so_does_its_duplicate() {
    let place = Place::new().await;
    let (worker, mut said) = waiting(&place, 1).await;
    let client = place.client().await;
    place.vhost.declare("answers").await;
    client.publish_message(probe(1)).await.unwrap();
    assert_eq!(within("it runs", said.recv()).await.unwrap(), "begun");
    let unwanted = || probe(2).id("unwanted".parse().unwrap()).reply_to("answers", None);
    client.publish_message(unwanted()).await.unwrap();
    let control = Control::connect(place.settings.clone()).await.unwrap();
    let ids = vec!["unwanted".parse().unwrap()];
    let reason = Some("the customer left".to_owned());
    let command = Command::Cancel { ids, reason, remember_ms: Some(60_000), replays: None };
    let answers = tell(&control, command).await;
    assert!(matches!(answers.as_slice(), [Answer::Cancelled { tasks: 0 }]), "{answers:?}");
    let all = Command::CancelAll { task: "probe".to_owned(), reason: None };
    assert!(matches!(tell(&control, all).await.as_slice(), [Answer::Cancelled { tasks: 1 }]));
    client.publish_message(unwanted()).await.unwrap();
    for _ in 0..2 {
        let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
        assert_eq!(answer.header_text("leveret-status").as_deref(), Some("cancelled"));
        assert!(String::from_utf8_lossy(&answer.body).contains("the customer left"));
    }
    worker.stop().await;
    assert_eq!(said.recv().await.unwrap(), "Some(Requested(\"called off\"))");
    assert_eq!(said.recv().await, None, "its handler was not called");
    assert_eq!((place.vhost.ready("default").await, place.vhost.ready("default.dead").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_room_under_a_limit_is_cancelled_there() {
    let place = Place::new().await;
    let (worker, mut runs) = place.worker();
    let worker = start(worker.queue("default", quick(2)).limit("single", LimitSettings::concurrency(1))).await;
    let client = place.client().await;
    place.vhost.declare("answers").await;
    client.publish_message(probe(1)).await.unwrap();
    let first = runs.next().await;
    let id = client.publish_message(probe(2).reply_to("answers", None)).await.unwrap();
    eventually(PATIENCE, async || worker.limits().unwrap().list()[0].waiting == 1).await;
    let revoked = Revoked { ids: vec![id], replays: Some(0) };
    worker.steering().revoke(&revoked, Some("the customer left"), Duration::from_secs(60));
    first.done();
    let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(answer.header_text("leveret-status").as_deref(), Some("cancelled"));
    worker.stop().await;
    assert!(runs.begun().is_none(), "its handler was not called");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_everywhere_holds_for_workers_that_start_later() {
    let place = Place::new().await;
    place.declare_default().await;
    let control = Control::connect(place.settings.clone()).await.unwrap();
    let (first, mut first_said) = waiting(&place, 1).await;
    control.pause_everywhere(&default(), Some("the bank is closed".to_owned()), SECOND).await.unwrap();
    eventually_eq(PATIENCE, 0, async || place.vhost.consumers("default").await).await;
    let (second, mut second_said) = waiting(&place, 1).await;
    place.client().await.publish_message(probe(1)).await.unwrap();
    assert_eq!(place.vhost.consumers("default").await, 0);
    assert!(first.health().ready().is_ok() && second.health().ready().is_ok());
    control.resume_everywhere(&default(), SECOND).await.unwrap();
    eventually_eq(PATIENCE, 2, async || place.vhost.consumers("default").await).await;
    let begun = async {
        tokio::select! { said = first_said.recv() => said, said = second_said.recv() => said }
    };
    assert_eq!(within("it runs", begun).await.unwrap(), "begun");
    first.stop_now().await;
    second.stop_now().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_found_runs_more_at_once_drains_and_stops_as_it_is_told() {
    let place = Place::new().await;
    let registry = Registry::connect(place.settings.clone()).await.unwrap();
    let control = Control::connect(place.settings.clone()).await.unwrap();
    let (worker, mut said) = waiting(&place, 1).await;
    let found = eventually(PATIENCE, async || registry.workers().live().next().cloned()).await;
    assert_eq!(found.beat.queue(&default()).unwrap().concurrency, 1);
    let client = place.client().await;
    client.publish_many((0..3).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
    assert_eq!(within("one runs", said.recv()).await.unwrap(), "begun");
    tell(&control, Command::Concurrency { queue: default(), tasks: 2 }).await;
    assert_eq!(within("another runs", said.recv()).await.unwrap(), "begun");
    tell(&control, Command::Drain {}).await;
    eventually_eq(PATIENCE, 1, async || place.vhost.ready("default").await).await;
    let state = async || registry.workers().live().next().map(|worker| worker.beat.state);
    eventually_eq(PATIENCE, Some(WorkerState::Draining), state).await;
    tell(&control, Command::CancelAll { task: "probe".to_owned(), reason: None }).await;
    let stats = tell(&control, Command::Stats {}).await;
    let [Answer::Stats(stats)] = stats.as_slice() else { panic!("{stats:?}") };
    assert_eq!(stats.finished["cancelled"], 2);
    tell(&control, Command::Stop {}).await;
    within("it ends", worker.wait()).await;
    eventually_eq(PATIENCE, 0, async || registry.workers().live().count()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_hears_what_becomes_of_tasks_that_are_tracked() {
    let place = Place::new().await;
    let (building, mut runs) = place.worker();
    let worker = start(building.queue("default", quick(1))).await;
    let channel = place.vhost.channel().await;
    place.vhost.declare("heard").await;
    let bound = channel.queue_bind(
        short("heard"),
        short("leveret.events"),
        short("task.#"),
        Default::default(),
        Default::default(),
    );
    bound.await.unwrap();
    let client = place.client().await;
    client.publish_message(probe("unheard")).await.unwrap();
    runs.next().await.done();
    let id = client.publish_message(probe("heard").header("leveret-track", "always")).await.unwrap();
    let run = runs.next().await;
    run.context.progress(1, None, "");
    run.fail("not yet");
    runs.next().await.done();
    let mut heard = Vec::new();
    while !matches!(heard.last(), Some(Happening::Done { .. })) {
        let message = eventually(PATIENCE, async || place.vhost.take("heard").await).await;
        let batch: EventBatch = serde_json::from_slice(&message.body).unwrap();
        for event in batch.events {
            assert_eq!(event.id, id);
            heard.push(event.what);
        }
    }
    let count = |wanted: fn(&Happening) -> bool| heard.iter().filter(|what| wanted(what)).count();
    assert_eq!(count(|what| matches!(what, Happening::Started { .. })), 2);
    assert_eq!(count(|what| matches!(what, Happening::Progress(_))), 1);
    assert_eq!(count(|what| matches!(what, Happening::Failed { error, .. } if error == "not yet")), 1);
    worker.stop().await;
}
