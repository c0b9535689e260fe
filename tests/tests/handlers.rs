//! What a handler can be, and what it is given: blocking functions, batches, types of one's own, shared state, typed
//! results, follow-up tasks.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use leveret::{Batch, BatchOptions, Context, Error, Handler, Job, Message, Outcome, Reply, Task, TaskPolicy, Worker};
use leveret_testkit::{eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, Probe, probe, quick, start, within};
use serde::Serialize;
use tokio::sync::{Barrier, mpsc};

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_block_run_at_once_on_threads_of_their_own() {
    let place = Place::new().await;
    // All of them wait for each other: with fewer threads than tasks none would ever return.
    let meeting = Arc::new(std::sync::Barrier::new(8));
    let worker = Worker::builder(place.settings.clone()).queue("default", quick(8)).blocking_threads(8);
    let worker = start(worker.task_blocking(move |_: Context, job: Job<Probe>| {
        meeting.wait();
        Ok::<_, Error>(Reply(job.arguments.0))
    }))
    .await;
    let client = place.client().await;
    place.vhost.declare("answers").await;
    let asking = (0..8).map(|number| probe(number).reply_to("answers", None));
    client.publish_many(asking).await.into_iter().for_each(|id| drop(id.unwrap()));
    eventually_eq(PATIENCE, 8, async || place.vhost.ready("answers").await).await;
    let mut answers: Vec<_> = place.vhost.take_all("answers").await.into_iter().map(|answer| answer.body).collect();
    answers.sort();
    assert_eq!(answers[7], b"7");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_function_that_panics_has_failed_and_the_bound_on_threads_holds() {
    let place = Place::new().await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let ends = Arc::new(parking_lot::Mutex::new(ends));
    let worker = Worker::builder(place.settings.clone())
        .policy(TaskPolicy::default().retries(0))
        .queue("default", quick(4))
        .blocking_threads(1)
        .task_blocking(move |_: Context, job: Job<Probe>| {
            begun.send(job.arguments.0.clone()).unwrap();
            ends.lock().recv().unwrap();
            assert!(job.arguments.0 != "panic", "as it was told");
            Ok::<_, Error>(Outcome::Done)
        });
    let worker = start(worker).await;
    let client = place.client().await;
    client.publish_message(probe("panic")).await.unwrap();
    assert_eq!(within("the first begins", begins.recv()).await.unwrap(), "panic");
    client.publish_message(probe("second")).await.unwrap();
    // The second is taken by another runner, and finds no thread.
    eventually_eq(PATIENCE, 0, async || place.vhost.ready("default").await).await;
    assert!(begins.try_recv().is_err());
    end.send(()).unwrap();
    assert_eq!(within("the second begins", begins.recv()).await.unwrap(), "second");
    end.send(()).unwrap();
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    assert_eq!(dead.header_text("leveret-error").as_deref(), Some("the handler panicked: as it was told"));
    worker.stop().await;
}

struct Greeter {
    greeting: &'static str,
    greeted: mpsc::UnboundedSender<String>,
}

impl Handler for Greeter {
    type Task = Probe;

    async fn run(&self, context: Context, job: Job<Probe>) -> Result<Outcome, Error> {
        let name = job.arguments.0.as_str().unwrap_or_default().to_owned();
        let mark: &Mark = context.state()?;
        self.greeted.send(format!("{} {name}{}", self.greeting, mark.0))?;
        Ok(Outcome::Done)
    }
}

struct Mark(char);

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_can_be_a_type_of_its_own_and_finds_shared_state_by_its_type() {
    let place = Place::new().await;
    let (greeted, mut greetings) = mpsc::unbounded_channel();
    let worker = Worker::builder(place.settings.clone()).queue("default", quick(1)).state(Mark('!'));
    let worker = start(worker.handler(Greeter { greeting: "hello", greeted })).await;
    place.client().await.publish_message(probe("ada")).await.unwrap();
    assert_eq!(within("a greeting", greetings.recv()).await.as_deref(), Some("hello ada!"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_is_missing_is_named_on_the_dead_letter() {
    let place = Place::new().await;
    let worker = Worker::builder(place.settings.clone()).queue("default", quick(1));
    let worker = worker.policy(TaskPolicy::default().retries(0)).task(async |context: Context, _: Job<Probe>| {
        context.state::<Mark>()?;
        Ok::<_, Error>(Outcome::Done)
    });
    let worker = start(worker).await;
    place.client().await.publish_message(probe("")).await.unwrap();
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    let error = dead.header_text("leveret-error").unwrap();
    assert!(error.contains("no state of type") && error.contains("Mark"), "{error}");
    worker.stop().await;
}

fn correlation(message: &leveret_testkit::Message) -> String {
    message.properties.correlation_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_settles_its_members_apart() {
    let place = Place::new().await;
    let (sizes, mut batches) = mpsc::unbounded_channel();
    let worker = Worker::builder(place.settings.clone())
        .policy(TaskPolicy::default().retries(0))
        .queue("default", quick(8))
        .task_batch(BatchOptions::new(4, PATIENCE), move |batch: Batch<Probe>| {
            sizes.send(batch.jobs.len()).unwrap();
            async move {
                for job in &batch.jobs {
                    match job.arguments.0.as_str() {
                        Some("bad") => job.end(Err::<(), _>(Error::reject("this one is bad"))),
                        Some("later") => job.end(Ok(Outcome::Snooze(Duration::from_secs(3_600)))),
                        _ => {}
                    }
                }
                Ok(())
            }
        });
    let worker = start(worker).await;
    let client = place.client().await;
    place.vhost.declare("answers").await;
    let members = ["good", "bad", "later", "fine"].map(|word| probe(word).reply_to("answers", Some(word)));
    client.publish_many(members).await.into_iter().for_each(|id| drop(id.unwrap()));
    assert_eq!(within("a batch", batches.recv()).await, Some(4));
    eventually_eq(PATIENCE, 3, async || place.vhost.ready("answers").await).await;
    let answers = place.vhost.take_all("answers").await.into_iter();
    let answers: BTreeSet<_> =
        answers.map(|answer| (answer.header_text("leveret-status").unwrap(), correlation(&answer))).collect();
    let expected = [("dead", "bad"), ("done", "fine"), ("done", "good")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(answers, expected.into());
    assert_eq!(place.vhost.ready("default.dead").await, 1);
    assert_eq!(place.vhost.ready("default.retry.1h").await, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_not_full_starts_when_its_wait_is_over_and_a_panic_fails_all_of_it() {
    let place = Place::new().await;
    let worker = Worker::builder(place.settings.clone())
        .policy(TaskPolicy::default().retries(0))
        .queue("default", quick(8))
        .task_batch(BatchOptions::new(100, Duration::from_millis(50)), async |batch: Batch<Probe>| {
            assert!(batch.jobs.is_empty(), "there are {} too many", batch.jobs.len());
            Ok(())
        });
    let worker = start(worker).await;
    let client = place.client().await;
    client.publish_many((0..3).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
    eventually_eq(PATIENCE, 3, async || place.vhost.ready("default.dead").await).await;
    let dead = place.vhost.take("default.dead").await.unwrap();
    assert_eq!(dead.header_text("leveret-error-kind").as_deref(), Some("panic"));
    worker.stop().await;
}

#[derive(Serialize, serde::Deserialize, Task)]
#[task(name = "next", queue = "next")]
struct Next(String);

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_up_is_seen_only_when_its_task_has_succeeded() {
    let place = Place::new().await;
    let (runs, mut ran) = mpsc::unbounded_channel();
    let worker = Worker::builder(place.settings.clone())
        .policy(TaskPolicy::default().retries(1).backoff("1ms".parse().unwrap()))
        .queue("default", quick(1))
        .queue("next", quick(1))
        .task(async |context: Context, job: Job<Probe>| {
            let word = job.arguments.0.as_str().unwrap_or_default().to_owned();
            context.follow_up_task(&Next(word.clone()))?;
            context.follow_up(Message::of(&Next(format!("{word} again")))?);
            match word.as_str() {
                "never" => Err(Error::retry("as it was told")),
                "second" if context.attempt() == 1 => Err(Error::retry("not yet")),
                _ => Ok(Outcome::Done),
            }
        })
        .task(move |context: Context, job: Job<Next>| {
            runs.send((context.id().clone(), job.arguments.0)).unwrap();
            async { Ok::<_, Error>(Outcome::Done) }
        });
    let worker = start(worker).await;
    let client = place.client().await;
    for word in ["never", "second", "first"] {
        client.publish_message(probe(word)).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for _ in 0..4 {
        let (id, word) = within("a follow-up", ran.recv()).await.unwrap();
        ids.insert(id);
        seen.insert(word);
    }
    assert_eq!(seen, ["first", "first again", "second", "second again"].map(str::to_owned).into());
    assert_eq!(ids.len(), 4, "each is a task of its own");
    eventually_eq(PATIENCE, 1, async || place.vhost.ready("default.dead").await).await;
    worker.stop().await;
    assert!(ran.try_recv().is_err(), "none of the task that never succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_up_that_no_queue_takes_fails_its_task() {
    let place = Place::new().await;
    let worker = Worker::builder(place.settings.clone())
        .policy(TaskPolicy::default().retries(0))
        .queue("default", quick(1))
        .task(async |context: Context, _: Job<Probe>| {
            context.follow_up(probe("lost").queue("nowhere"));
            Ok::<_, Error>(Outcome::Done)
        });
    let worker = start(worker).await;
    place.client().await.publish_message(probe("")).await.unwrap();
    let dead = eventually(PATIENCE, async || place.vhost.take("default.dead").await).await;
    let error = dead.header_text("leveret-error").unwrap();
    assert!(error.starts_with("a task that is to follow cannot be published: no queue takes \"nowhere\""), "{error}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_called_off_by_its_handler_is_gone_and_whoever_waits_is_told() {
    let place = Place::new().await;
    let (worker, mut runs) = place.working(1).await;
    let client = place.client().await;
    place.vhost.declare("answers").await;
    client.publish_message(probe("").reply_to("answers", None)).await.unwrap();
    runs.next().await.end(Ok(Outcome::Cancel("of no use any more".to_owned())));
    let answer = eventually(PATIENCE, async || place.vhost.take("answers").await).await;
    assert_eq!(answer.header_text("leveret-status").as_deref(), Some("cancelled"));
    assert!(String::from_utf8_lossy(&answer.body).contains("of no use any more"));
    worker.stop().await;
    assert_eq!((place.vhost.ready("default").await, place.vhost.ready("default.dead").await), (0, 0));
}

/// Nothing here waits for more tasks than there are runners: so a barrier proves how many run at once.
#[tokio::test(flavor = "multi_thread")]
async fn more_tasks_run_at_once_when_a_worker_is_told_so_and_fewer_when_it_is_told_that() {
    let place = Place::new().await;
    let meeting = Arc::new(Barrier::new(6));
    let meet = meeting.clone();
    let worker = Worker::builder(place.settings.clone()).queue("default", quick(2).prefetch(20)).task(
        move |_: Context, _: Job<Probe>| {
            let meet = meet.clone();
            async move {
                meet.wait().await;
                Ok::<_, Error>(Outcome::Done)
            }
        },
    );
    let worker = start(worker).await;
    let client = place.client().await;
    client.publish_many((0..5).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
    let steering = worker.steering();
    eventually_eq(PATIENCE, 2, async || steering.running().len()).await;
    steering.set_concurrency("default", 5).unwrap();
    within("five at once", meeting.wait()).await;
    eventually_eq(PATIENCE, 0, async || steering.running().len()).await;
    steering.set_concurrency("default", 1).unwrap();
    client.publish_many((0..5).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
    eventually_eq(PATIENCE, 1, async || steering.running().len()).await;
    steering.set_concurrency("default", 5).unwrap();
    within("five at once", meeting.wait()).await;
    assert!(steering.set_concurrency("elsewhere", 5).is_err());
    worker.stop().await;
}
