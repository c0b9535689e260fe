//! Tasks that wait are cancelled: in their queue, between two attempts, with workers and without.

use std::{sync::Arc, time::Duration};

use leveret_testkit::eventually;
use leveret_worker::{
    builder::Worker,
    context::Context,
    control::ControlSettings,
    handler::Job,
    options::QueueOptions,
    outcome::{Error, Outcome},
    policy::TaskPolicy,
    run::RunningWorker,
};
use parking_lot::Mutex;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    broker::{PATIENCE, Place, Probe},
    site::{json, problem},
};

/// What a worker in a test is told, and has done.
#[derive(Clone)]
struct Script {
    /// The tasks whose handlers were called, by what they were to do.
    called: Arc<Mutex<Vec<String>>>,
    /// As many of the others as there are places here come to an end.
    go: Arc<Semaphore>,
}

impl Script {
    fn new() -> Self {
        Self { called: Arc::default(), go: Arc::new(Semaphore::new(0)) }
    }

    fn called(&self) -> Vec<String> {
        self.called.lock().clone()
    }

    async fn act(self, context: Context, what: &str) -> Result<Outcome, Error> {
        let before = self.called().iter().filter(|called| *called == what).count();
        self.called.lock().push(what.to_owned());
        match what {
            "fail" => Err(Error::retry_after(Duration::from_secs(4), "no such host")),
            "reject" if before > 0 => Ok(Outcome::Done),
            "told" | "untold" => {
                context.cancelled().await;
                Err(context.cancelled_error())
            }
            "reject" => {
                context.cancelled().await;
                Ok(Outcome::Reject("no such address".to_owned()))
            }
            _ => tokio::select! {
                () = context.cancelled() => Err(context.cancelled_error()),
                place = self.go.acquire() => {
                    place.unwrap().forget();
                    Ok(Outcome::Done)
                }
            },
        }
    }
}

/// A worker that runs one task at a time.
async fn worker(place: &Place, script: &Script) -> RunningWorker {
    let script = script.clone();
    let handler = move |context: Context, job: Job<Probe>| {
        let script = script.clone();
        async move { script.act(context, job.arguments.0["do"].as_str().unwrap()).await }
    };
    let worker = Worker::builder(place.settings.clone())
        .control(ControlSettings::default().beat(Duration::from_millis(200)))
        .policy(TaskPolicy::default())
        .queue("default", QueueOptions::concurrency(1))
        .task(handler);
    let worker = worker.build().unwrap().start().await.unwrap();
    worker.attached().await.unwrap();
    worker
}

async fn publish(place: &Place, what: &str) -> String {
    let published = place.publish(json!({"task": "probe", "arguments": {"do": what}})).await;
    published["id"].as_str().unwrap().to_owned()
}

async fn cancel(place: &Place, id: &str) -> Response {
    let body = json!({"reason": "not wanted"});
    place.site.ask("POST", &format!("/api/v1/tasks/{id}/cancel")).json(&body).send().await.unwrap()
}

async fn cancel_waiting(place: &Place, id: &str) {
    assert_eq!(json(cancel(place, id).await, 200).await["was"], "waiting");
}

/// The row of a task that was cancelled and whose handler was not called any more.
async fn cancelled(place: &Place, id: &str) -> Value {
    let task = place.reaches(id, "cancelled").await;
    assert_eq!((&task["error"], &task["cancel_requested_at"]), (&json!("not wanted"), &Value::Null));
    task
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_behind_others_is_never_begun() {
    let (place, script) = (Place::new().await, Script::new());
    let (worker, _) = place.known(worker(&place, &script).await).await;
    let (first, second) = (publish(&place, "first").await, publish(&place, "second").await);
    let third = publish(&place, "third").await;
    place.reaches(&first, "running").await;
    let mut followed = place.watcher.subscribe();
    cancel_waiting(&place, &third).await;
    // That of the first may come as well, which is in the database before it is told.
    let told = async { while followed.recv().await.unwrap().cancel_requested_at.is_none() {} };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    let waiting = place.site.get(&format!("/api/v1/tasks/{third}")).await;
    assert_eq!((&waiting["state"], &waiting["cancel_reason"]), (&json!("published"), &json!("not wanted")));
    assert!(waiting["cancel_requested_at"].is_string(), "{waiting}");

    script.go.add_permits(2);
    place.reaches(&second, "done").await;
    assert_eq!(cancelled(&place, &third).await["started_at"], Value::Null);
    assert_eq!(script.called(), ["first", "second"]);
    for ended in [&second, &third] {
        problem(cancel(&place, ended).await, 409).await;
    }
    problem(cancel(&place, "none-such").await, 404).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_come_later_are_told() {
    let (place, script) = (Place::new().await, Script::new());
    let (before, _) = place.known(worker(&place, &script).await).await;
    let first = publish(&place, "first").await;
    place.reaches(&first, "running").await;
    let told = publish(&place, "told").await;
    cancel_waiting(&place, &told).await;
    // What this one was told, it takes with it.
    before.stop_now().await;
    let untold = publish(&place, "untold").await;
    cancel_waiting(&place, &untold).await;
    let after = worker(&place, &script).await;
    // It may have begun one of them before it was told; then that is ended.
    script.go.add_permits(1);
    place.reaches(&first, "done").await;
    cancelled(&place, &told).await;
    cancelled(&place, &untold).await;
    after.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_another_attempt_has_none() {
    let (place, script) = (Place::new().await, Script::new());
    let (worker, _) = place.known(worker(&place, &script).await).await;
    let id = publish(&place, "fail").await;
    place.reaches(&id, "retrying").await;
    cancel_waiting(&place, &id).await;
    assert_eq!(cancelled(&place, &id).await["attempt"], 2);
    assert_eq!(script.called(), ["fail"]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_brought_back_from_the_dead_runs() {
    let (place, script) = (Place::new().await, Script::new());
    let (worker, _) = place.known(worker(&place, &script).await).await;
    let id = publish(&place, "reject").await;
    place.reaches(&id, "running").await;
    assert_eq!(json(cancel(&place, &id).await, 200).await["was"], "running");
    // Its handler has had the last word.
    assert_eq!(place.reaches(&id, "dead").await["cancel_requested_at"], Value::Null);
    let retry = || place.site.ask("POST", &format!("/api/v1/tasks/{id}/retry"));
    // The event may be faster than the dead letter.
    eventually(PATIENCE, async || retry().send().await.unwrap().status().as_u16() == 200).await;
    assert_eq!(place.reaches(&id, "done").await["replays"], 1);
    assert_eq!(script.called(), ["reject", "reject"]);
    worker.stop().await;
}
