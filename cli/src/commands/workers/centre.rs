//! Workers over REST: a centre steers one at a time, so whoever is meant is looked up first.

use leveret::{
    QueueName,
    common::control::{Command, ControlError, LimitChange, Target},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::steering::{Done, Steered};
use crate::{
    api::{Api, ApiError, Rows, cell, cells},
    failure::{Exit, Failure},
    session::{Session, not_from_centre},
};

/// What came of a change that all workers are told of.
#[derive(Deserialize)]
struct Answers {
    was_paused: Option<bool>,
    workers: Vec<Steered>,
}

/// Those that are meant and alive; an instance whether it is or not.
async fn meant(api: &Api, target: &Target) -> Result<Vec<Value>, Failure> {
    let mut query = vec![("presence", "live".to_owned())];
    match target {
        Target::Worker(name) => query.push(("worker", name.clone())),
        Target::Queue(queue) => query.push(("queue", queue.to_string())),
        Target::Instance(instance) => return Ok(vec![api.get(&["workers", &instance.to_string()], &[]).await?]),
        _ => {}
    }
    Ok(api.list(&["workers"], &query, usize::MAX).await?.0)
}

async fn some(api: &Api, target: &Target) -> Result<Vec<Value>, Failure> {
    let workers = meant(api, target).await?;
    if workers.is_empty() { Err(ControlError::Nobody { target: target.clone() }.into()) } else { Ok(workers) }
}

/// All about those that are meant, with what they have done as far as they answer.
pub(super) async fn whole(api: &Api, target: &Target) -> Result<Vec<Value>, Failure> {
    let mut workers = some(api, target).await?;
    for worker in workers.iter_mut().filter(|worker| worker["presence"] == "live") {
        if let Ok(stats) = api.get(&["workers", &cell(worker, "/instance"), "stats"], &[]).await {
            worker["stats"] = stats;
        }
    }
    Ok(workers)
}

/// What runs at each of those that are meant, with the worker's name and instance.
pub(super) async fn running(api: &Api, target: &Target) -> Result<Vec<(String, String, Value)>, Failure> {
    let mut all = Vec::new();
    for worker in meant(api, target).await? {
        let [name, instance] = cells(&worker, ["/worker", "/instance"]);
        let running: Value = api.get(&["workers", &instance, "running"], &[]).await?;
        all.push((name, instance, running));
    }
    Ok(all)
}

/// Has a centre tell each of those that are meant.
pub(super) async fn send(api: &Api, session: &Session, target: &Target, command: Command) -> Result<Exit, Failure> {
    let name = command.name();
    let (verb, body) = match command {
        Command::Limit(change) => return limit(api, session, target, change).await,
        Command::Pause { queue, reason, .. } => ("pause", json!({ "queue": queue, "reason": reason })),
        Command::Resume { queue } => ("resume", json!({ "queue": queue })),
        Command::Concurrency { queue, tasks } => ("concurrency", json!({ "queue": queue, "tasks": tasks })),
        Command::Drain {} => ("drain", json!({})),
        Command::Stop {} => ("stop", json!({})),
        _ => return Err(not_from_centre(&format!("`workers {name}`"))),
    };
    let mut replies = Vec::new();
    for worker in some(api, target).await? {
        let [worker, instance] = cells(&worker, ["/worker", "/instance"]);
        let path = ["workers", instance.as_str(), verb];
        let answer =
            if verb == "concurrency" { api.put(&path, &[], &body).await } else { api.post(&path, &[], &body).await };
        replies.push(match answer {
            Ok(steered) => steered,
            // The others are told all the same.
            Err(ApiError::Refused { status, text }) if !matches!(status.as_u16(), 401 | 403) => {
                Steered { worker, instance, refused: Some(text), note: None }
            }
            Err(error) => return Err(error.into()),
        });
    }
    Done { command: name, replies, result: None }.report(&session.output)
}

async fn limit(api: &Api, session: &Session, target: &Target, change: LimitChange) -> Result<Exit, Failure> {
    if *target != Target::All {
        return Err(not_from_centre("a limit of some workers alone"));
    }
    let mut body = json!({ "reset": change.reset });
    if !change.reset {
        body = json!({ "concurrency": change.concurrency, "rate": change.rate });
    }
    let answers: Answers = api.patch(&["limits", &change.name], &body).await?;
    Done { command: "limit", replies: answers.workers, result: None }.report(&session.output)
}

/// Has a centre pause a queue at every worker.
pub(super) async fn pause_everywhere(
    api: &Api,
    session: &Session,
    queue: &QueueName,
    reason: Option<String>,
) -> Result<Exit, Failure> {
    let body = json!({ "reason": reason });
    let answers: Answers = api.post(&["queues", queue.as_str(), "pause"], &[], &body).await?;
    Done::paused(answers.workers).report(&session.output)
}

/// Has a centre end that.
pub(super) async fn resume_everywhere(api: &Api, session: &Session, queue: &QueueName) -> Result<Exit, Failure> {
    let answers: Answers = api.post(&["queues", queue.as_str(), "resume"], &[], &json!({})).await?;
    Done::resumed(answers.was_paused == Some(true), answers.workers).report(&session.output)
}

/// Lists the limits that a centre knows.
pub(super) async fn limits(api: &Api, session: &Session) -> Result<Exit, Failure> {
    let (items, _) = api.list::<Value>(&["limits"], &[], usize::MAX).await?;
    let row = |item: &Value| {
        let [name, queues, tasks, held, waiting, by] =
            cells(item, ["/name", "/queues", "/tasks", "/held", "/waiting", "/changed/by"]);
        // What most workers say; a limit that no worker has is as the configuration says.
        let admits = item["in_force"].get(0).unwrap_or(item);
        let [concurrency, rate] = cells(admits, ["/concurrency", "/rate"]);
        let workers: u64 =
            item["in_force"].as_array().into_iter().flatten().filter_map(|said| said["workers"].as_u64()).sum();
        let agree = admits["workers"].as_u64().unwrap_or_default();
        let workers = if agree == workers { workers.to_string() } else { format!("{agree} of {workers}") };
        let shared = match (item["per_worker"] == true, item["by_key"] == true) {
            (true, true) => "worker and key",
            (true, false) => "worker",
            (false, true) => "key",
            (false, false) => "-",
        };
        let changed = match &item["changed"]["to"] {
            Value::Null => "-".to_owned(),
            to if to["reset"] == true => format!("reset by {by}"),
            to => {
                let parts = [cell(to, "/concurrency"), cell(to, "/rate")];
                let parts: Vec<_> = parts.into_iter().filter(|part| part != "-").collect();
                format!("to {} by {by}", parts.join(" and "))
            }
        };
        [name, concurrency, rate, workers, shared.to_owned(), held, waiting, queues, tasks, changed]
    };
    let rows = items.iter().map(row).collect();
    let header = ["name", "at once", "rate", "workers", "for each", "held", "waiting", "queues", "tasks", "changed"];
    session.output.report(&Rows { rows, header, json: json!({ "limits": items }), none: "no limits" })?;
    Ok(Exit::Done)
}
