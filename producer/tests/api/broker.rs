//! What needs a broker and workers: publishing, steering, events.

use std::time::Duration;

use leveret_common::{
    client::Client,
    clock::Clock,
    config::BrokerSettings,
    control::Control,
    dead_letters::{DeadLetters, DeadLettersError},
    limit::{LimitName, LimitSettings, Terms},
    link::{Link, Role},
    registry::Registry,
    task::Task,
};
use leveret_producer::centre::{
    api::{Api, ApiSettings, Broker as Way},
    store::Role as TokenRole,
    watch::{RunningWatcher, WatchOptions, Watcher},
};
use leveret_testkit::{Broker, Vhost, eventually};
use leveret_worker::{
    builder::{Worker, WorkerBuilder},
    context::Context,
    control::ControlSettings,
    handler::Job,
    options::QueueOptions,
    outcome::{Error, Outcome},
    policy::TaskPolicy,
    run::RunningWorker,
};
use reqwest::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::site::{Site, json, problem, settings};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A task that does what its arguments say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Probe(pub(crate) Value);

impl Task for Probe {
    const NAME: &'static str = "probe";

    fn schema() -> Option<Value> {
        Some(json!({"type": "object", "required": ["do"]}))
    }
}

/// A centre with a broker and a watcher.
pub(crate) struct Place {
    pub(crate) site: Site,
    _vhost: Vhost,
    pub(crate) settings: BrokerSettings,
    pub(crate) watcher: RunningWatcher,
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(settings()).await
    }

    async fn with(api: ApiSettings) -> Self {
        let vhost = Broker::shared().await.vhost().await;
        let settings = BrokerSettings::new(vhost.url()).unwrap();
        let client = Client::connect(settings.clone()).await.unwrap();
        let link = Link::open(settings.clone().into(), Role::Admin);
        let control = Control::on(link.clone()).unwrap();
        let registry = Registry::on(link, Clock::system()).unwrap();
        let way = Way { client, control, registry };
        let patience = Duration::from_secs(5);
        let mut watching = None;
        let site = Site::with(ApiSettings { patience, ..api }, async |api: Api| {
            let watcher = Watcher::start(api.store.clone(), settings.clone(), WatchOptions::default()).await.unwrap();
            let api = api.broker(way).announcer(watcher.announcer());
            watching = Some(watcher);
            api
        });
        Self { site: site.await, _vhost: vhost, settings, watcher: watching.unwrap() }
    }

    fn builder(&self) -> WorkerBuilder {
        let handler = async |context: Context, job: Job<Probe>| match job.arguments.0["do"].as_str() {
            Some("wait") => {
                context.cancelled().await;
                Err(context.cancelled_error())
            }
            Some("reject") if job.arguments.0["times"].is_null() => Ok(Outcome::Reject("as you wish".to_owned())),
            _ => Ok::<_, Error>(Outcome::Result(job.arguments.0)),
        };
        Worker::builder(self.settings.clone())
            .control(ControlSettings::default().beat(Duration::from_millis(200)))
            .policy(TaskPolicy::default())
            .queue("default", QueueOptions::concurrency(4))
            .task(handler)
    }

    /// A worker at work, which the centre knows and can steer.
    pub(crate) async fn working(&self) -> (RunningWorker, String) {
        let worker = self.builder().build().unwrap().start().await.unwrap();
        worker.attached().await.unwrap();
        self.known(worker).await
    }

    /// The same worker once the centre knows it and can steer it, and its instance.
    pub(crate) async fn known(&self, worker: RunningWorker) -> (RunningWorker, String) {
        let instance = eventually(PATIENCE, async || {
            let workers = self.site.get("/api/v1/workers?presence=live").await;
            workers["items"][0]["instance"].as_str().map(str::to_owned)
        });
        let instance = instance.await;
        // It announces itself before it listens to commands.
        let stats = format!("/api/v1/workers/{instance}/stats");
        eventually(PATIENCE, async || self.site.ask("GET", &stats).send().await.unwrap().status().is_success()).await;
        (worker, instance)
    }

    pub(crate) async fn publish(&self, body: Value) -> Value {
        self.site.send("POST", "/api/v1/tasks", &body, 201).await
    }

    /// A task once it is in this state.
    pub(crate) async fn reaches(&self, id: &str, state: &str) -> Value {
        let path = format!("/api/v1/tasks/{id}");
        eventually(PATIENCE, async || {
            let found = self.site.ask("GET", &path).send().await.unwrap();
            let task: Value = found.json().await.unwrap();
            if task["state"] == state { Ok(task) } else { Err(task.to_string()) }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_followed_from_its_publish_to_its_result() {
    let place = Place::new().await;
    let nowhere = json!({"task": "probe", "arguments": {"do": "x"}, "queue": "nobody"});
    problem(place.site.ask("POST", "/api/v1/tasks").json(&nowhere).send().await.unwrap(), 409).await;
    let log = place.site.get("/api/v1/audit?action=task.publish").await;
    assert_eq!(log["items"][0]["action"], "task.publish.failed");
    assert_eq!(log["items"][1]["after"], json!({"tasks": 1, "queue": "nobody"}));
    let (_worker, _) = place.working().await;
    let body = json!({"task": "probe", "arguments": {"do": "echo"}, "labels": {"team": "billing"}});
    let response = place.site.ask("POST", "/api/v1/tasks").json(&body).send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let made = json(response, 201).await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        (&made["state"], &made["queue"], location),
        (&json!("published"), &json!("default"), format!("/api/v1/tasks/{id}"))
    );
    let done = place.reaches(id, "done").await;
    assert_eq!(done["result"], json!({"do": "echo"}));
    assert_eq!((&done["attempt"], &done["labels"]["team"]), (&json!(1), &json!("billing")));
    assert_eq!(done["attempts"][0]["state"], "done");
    let found = place.site.get("/api/v1/tasks?state=done,dead&label=team=billing&task=probe").await;
    assert_eq!(found["items"][0]["id"], id);
    assert_eq!(place.site.get("/api/v1/task-counts").await["states"]["done"], 1);
    // A kind that a worker announces has its schema, too.
    let kind = place.site.get("/api/v1/task-kinds/probe").await;
    assert_eq!((&kind["workers"], &kind["registered"]), (&json!(1), &json!(false)));
    let wrong = json!({"task": "probe", "arguments": {"undo": 1}});
    problem(place.site.ask("POST", "/api/v1/tasks").json(&wrong).send().await.unwrap(), 422).await;
    problem(place.site.ask("GET", "/api/v1/tasks/none-such").send().await.unwrap(), 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_are_published_at_once() {
    let place = Place::new().await;
    let (_worker, _) = place.working().await;
    let good = json!({"task": "probe", "arguments": {"do": "echo"}});
    let lost = json!({"task": "other", "queue": "nobody"});
    let later = json!({"task": "probe", "arguments": {"do": "echo"}, "delay": "1h"});
    let batch = json!({"tasks": [good, lost, later]});
    let answer = place.site.send("POST", "/api/v1/task-batches", &batch, 200).await;
    assert_eq!(answer["failed"], 1);
    assert_eq!(answer["tasks"][1]["problem"]["status"], 409);
    assert_eq!(answer["tasks"][2]["published"]["state"], "scheduled");
    place.reaches(answer["tasks"][0]["published"]["id"].as_str().unwrap(), "done").await;
    let log = place.site.get("/api/v1/audit").await;
    assert_eq!(
        (&log["items"][0]["action"], &log["items"][0]["after"]["tasks"]),
        (&json!("task.publish.failed"), &json!(1))
    );
    assert_eq!((&log["items"][1]["action"], &log["items"][1]["after"]["tasks"]), (&json!("task.publish"), &json!(3)));
    assert_eq!(log["items"].as_array().unwrap().len(), 2);
    // What cannot be read keeps all of them back.
    let wrong = json!({"tasks": [{"task": "probe", "arguments": {"do": "echo"}}, {"task": "probe", "max_attempts": 0, "arguments": {"do": 1}}]});
    let refused = place.site.ask("POST", "/api/v1/task-batches").json(&wrong).send().await.unwrap();
    assert_eq!(problem(refused, 422).await["errors"][0]["pointer"], "/tasks/1/max_attempts");
    assert_eq!(place.site.get("/api/v1/tasks").await["items"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_cancelled_while_they_are_held_and_while_they_run() {
    let place = Place::new().await;
    let (_worker, _) = place.working().await;
    let held = place.publish(json!({"task": "probe", "arguments": {"do": "echo"}, "delay": "1h"})).await;
    let held = held["id"].as_str().unwrap();
    assert_eq!(place.site.get("/api/v1/delayed-tasks").await["items"][0]["arguments"], json!({"do": "echo"}));
    let steer = async |id: &str, verb: &str, body: Value| {
        place.site.ask("POST", &format!("/api/v1/tasks/{id}/{verb}")).json(&body).send().await.unwrap()
    };
    let moved = json(steer(held, "reschedule", json!({"at": "2100-01-01T00:00:00Z"})).await, 200).await;
    assert_eq!(moved["due_at"], "2100-01-01T00:00:00.000Z");
    assert_eq!(place.reaches(held, "scheduled").await["due_at"], moved["due_at"]);
    assert_eq!(json(steer(held, "cancel", json!({"reason": "no more"})).await, 200).await["was"], "held");
    assert_eq!(place.reaches(held, "cancelled").await["error"], "no more");
    problem(steer(held, "cancel", json!({})).await, 409).await;
    problem(steer(held, "reschedule", json!({"delay": "1m"})).await, 409).await;

    let running = place.publish(json!({"task": "probe", "arguments": {"do": "wait"}})).await;
    let running = running["id"].as_str().unwrap();
    place.reaches(running, "running").await;
    assert_eq!(json(steer(running, "cancel", json!({"reason": "enough"})).await, 200).await["was"], "running");
    assert_eq!(place.reaches(running, "cancelled").await["error"], "enough");
    let log = place.site.get("/api/v1/audit?action=task.cancel").await;
    let was: Vec<_> = log["items"].as_array().unwrap().iter().map(|line| line["after"]["was"].clone()).collect();
    assert_eq!(was, ["running", "held"]);
    assert_eq!(place.site.get("/api/v1/audit?action=task.reschedule").await["items"].as_array().unwrap().len(), 1);
    problem(steer("none-such", "cancel", json!({})).await, 404).await;
    // What another namespace has is not even there.
    let other = place.site.token(TokenRole::Operator, "billing").await;
    let request = place.site.ask_as(&other, "POST", &format!("/api/v1/tasks/{running}/cancel"));
    problem(request.send().await.unwrap(), 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_task_runs_again() {
    let place = Place::new().await;
    let (_worker, _) = place.working().await;
    let made = place.publish(json!({"task": "probe", "arguments": {"do": "reject"}})).await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(place.reaches(id, "dead").await["reason"], "rejected");
    let retry = || place.site.ask("POST", &format!("/api/v1/tasks/{id}/retry"));
    let again = eventually(PATIENCE, async || {
        // The event may be faster than the dead letter.
        let response: Response = retry().send().await.unwrap();
        (response.status().as_u16() == 200).then_some(response)
    });
    assert_eq!(json(again.await, 200).await["queue"], "default");
    let path = format!("/api/v1/tasks/{id}");
    eventually(PATIENCE, async || place.site.get(&path).await["replays"] == 1).await;
    let log = place.site.get("/api/v1/audit?action=task.retry").await;
    assert_eq!(log["items"][0]["object"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_looked_at_and_steered() {
    let place = Place::new().await;
    let (_worker, instance) = place.working().await;
    let path = format!("/api/v1/workers/{instance}");
    let worker = place.site.get(&path).await;
    assert_eq!((&worker["presence"], &worker["queues"][0]["concurrency"]), (&json!("live"), &json!(4)));
    eventually(PATIENCE, async || place.site.get(&path).await["tasks"][0] == "probe").await;
    assert_eq!(place.site.get(&format!("{path}/stats")).await["state"], "running");
    place.publish(json!({"task": "probe", "arguments": {"do": "wait"}})).await;
    eventually(PATIENCE, async || place.site.get(&format!("{path}/running")).await["total"] == 1).await;

    let tell = async |method: &str, verb: &str, body: Value, status: u16| {
        place.site.send(method, &format!("{path}/{verb}"), &body, status).await
    };
    tell("PUT", "concurrency", json!({"queue": "default", "tasks": 2}), 200).await;
    eventually(PATIENCE, async || place.site.get(&path).await["queues"][0]["concurrency"] == 2).await;
    tell("PUT", "concurrency", json!({"queue": "other", "tasks": 2}), 409).await;
    tell("PUT", "concurrency", json!({"queue": "default", "tasks": 0}), 422).await;
    tell("POST", "pause", json!({"queue": "default", "reason": "moving"}), 200).await;
    eventually(PATIENCE, async || place.site.get(&path).await["queues"][0]["paused"]["reason"] == "moving").await;
    tell("POST", "resume", json!({"queue": "default"}), 200).await;
    json(place.site.ask("POST", &format!("{path}/drain")).send().await.unwrap(), 200).await;
    eventually(PATIENCE, async || place.site.get(&path).await["state"] == "draining").await;
    let log = place.site.get("/api/v1/audit?action=worker").await;
    let actions: Vec<_> = log["items"].as_array().unwrap().iter().map(|line| line["action"].clone()).collect();
    let concurrency = ["worker.concurrency.failed", "worker.concurrency", "worker.concurrency"];
    assert_eq!(actions, [&["worker.drain", "worker.resume", "worker.pause"], &concurrency[..]].concat());
    // Of what the worker refused there are two lines, of one request.
    let (failed, tried) = (&log["items"][3], &log["items"][4]);
    assert_eq!((&failed["request_id"], &failed["after"]["problem"]["status"]), (&tried["request_id"], &json!(409)));
    assert_eq!((&tried["after"]["command"]["queue"], &tried["object"]), (&json!("other"), &json!(instance)));
    assert_eq!(log["items"][0]["after"]["worker"], worker["worker"]);
    let none = "/api/v1/workers/01900000-0000-7000-8000-000000000000";
    problem(place.site.ask("GET", none).send().await.unwrap(), 404).await;
    problem(place.site.ask("POST", &format!("{none}/drain")).send().await.unwrap(), 404).await;
    problem(place.site.ask("GET", "/api/v1/workers/mail").send().await.unwrap(), 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_paused_and_resumed_at_every_worker() {
    let place = Place::new().await;
    // Nobody need be there to hear it.
    let early = place.site.send("POST", "/api/v1/queues/default/pause", &json!({"reason": "moving"}), 200).await;
    assert_eq!(early, json!({"workers": []}));
    let (_worker, instance) = place.working().await;
    let pause = async || place.site.get(&format!("/api/v1/workers/{instance}")).await["queues"][0]["paused"].clone();
    let paused = eventually(PATIENCE, async || Some(pause().await).filter(Value::is_object)).await;
    assert_eq!((&paused["everywhere"], &paused["by"]), (&json!(true), &json!("first admin by REST")), "{paused}");
    let resume =
        async || json(place.site.ask("POST", "/api/v1/queues/default/resume").send().await.unwrap(), 200).await;
    let resumed = resume().await;
    assert_eq!((&resumed["was_paused"], &resumed["workers"][0]["instance"]), (&json!(true), &json!(instance)));
    eventually(PATIENCE, async || pause().await.is_null()).await;
    assert_eq!(resume().await["was_paused"], false);
    let log = place.site.get("/api/v1/audit?action=queue").await;
    assert_eq!(log["items"].as_array().unwrap().len(), 3, "{log}");
    problem(place.site.ask("POST", "/api/v1/queues/a%20b/resume").send().await.unwrap(), 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_listed_and_changed() {
    let name = LimitName::new("api").unwrap();
    let limits = [(name, LimitSettings::concurrency(5))].into();
    let place = Place::with(ApiSettings { limits, ..settings() }).await;
    let listed = place.site.get("/api/v1/limits").await;
    assert_eq!((&listed["items"][0]["name"], &listed["items"][0]["concurrency"]), (&json!("api"), &json!(5)));
    let change = async |body: Value| place.site.ask("PATCH", "/api/v1/limits/api").json(&body).send().await.unwrap();
    problem(change(json!({"concurrency": 2})).await, 404).await;
    let (_worker, _) = place.working().await;
    // This worker has no such limit.
    problem(change(json!({"concurrency": 2})).await, 409).await;
    let listed = place.site.get("/api/v1/limits").await;
    assert_eq!((&listed["items"][0]["in_force"], listed["items"][0].get("changed")), (&json!([]), None));
    for wrong in
        [json!({}), json!({"concurrency": 0}), json!({"rate": "fast"}), json!({"reset": true, "concurrency": 1})]
    {
        problem(change(wrong).await, 422).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_in_force_are_those_that_workers_say() {
    let place = Place::new().await;
    let (_other, _) = place.working().await;
    let mut limited = Vec::new();
    for _ in 0..2 {
        let own = LimitSettings { per_worker: true, ..LimitSettings::concurrency(2) };
        let builder = place.builder().limit("api", LimitSettings::concurrency(5)).limit("own", own);
        limited.push(builder.build().unwrap().start().await.unwrap());
    }
    let in_force = async |expected: Value| {
        eventually(PATIENCE, async || {
            let items = place.site.get("/api/v1/limits").await["items"].clone();
            let found = json!([items[0]["in_force"], items[1]["in_force"]]);
            if found == expected { Ok(items) } else { Err(items.to_string()) }
        })
        .await
    };
    let items = in_force(json!([[{"concurrency": 5, "workers": 2}], [{"concurrency": 2, "workers": 2}]])).await;
    // The centre's own configuration has neither.
    assert_eq!(
        (&items[0]["name"], &items[0]["configured"], &items[0]["held"]),
        (&json!("api"), &json!(false), &json!(0))
    );
    assert_eq!((&items[1]["name"], &items[1]["per_worker"]), (&json!("own"), &json!(true)));
    place.site.send("PATCH", "/api/v1/limits/api", &json!({"concurrency": 1, "rate": "7/s"}), 200).await;
    let changed = json!([[{"concurrency": 1, "rate": "7/s", "workers": 2}], [{"concurrency": 2, "workers": 2}]]);
    let items = in_force(changed).await;
    assert_eq!((&items[0]["concurrency"], &items[0]["changed"]["to"]["rate"]), (&json!(5), &json!("7/s")));
    // One worker alone has another value of a limit of its own.
    limited[0]
        .limits()
        .unwrap()
        .set(&LimitName::new("own").unwrap(), Some(Terms { concurrency: Some(9), rate: None }))
        .await
        .unwrap();
    let items = place.site.get("/api/v1/limits").await["items"].clone();
    let mut values: Vec<_> =
        items[1]["in_force"].as_array().unwrap().iter().map(|value| value["concurrency"].as_u64()).collect();
    values.sort_unstable();
    assert_eq!(values, [Some(2), Some(9)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_can_be_asked_for_as_often_as_one_likes() {
    let place = Place::new().await;
    let link = place.site.api.broker.as_ref().unwrap().control.link().clone();
    // The broker closes a channel over each; it allows for 512 at a time, and lapin knows no more than 2,047.
    for number in 0..2_100 {
        let letters = DeadLetters::of(link.clone(), "nobody".parse().unwrap()).unwrap();
        let answer = letters.depth().await;
        assert!(matches!(answer, Err(DeadLettersError::NoQueue { .. })), "{number}: {answer:?}");
    }
}
