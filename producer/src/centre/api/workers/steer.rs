//! Steering one worker.

use axum::{Json, extract::State};
use leveret_common::control::{Command, Outcome};
use leveret_common::topology::QueueName;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{ask, odd, read_instance, view::Steered};
use crate::centre::api::{Api, At, Authorised, Body, Caller, Everywhere, Operator, Problem, audit::act};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(drain))
        .routes(routes!(stop))
        .routes(routes!(concurrency))
}

/// A queue of a worker, and why it is to be paused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"queue": "mail", "reason": "the mail server is being moved"}))]
struct QueuePause {
    /// The queue.
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$")]
    queue: String,
    /// Why, for people.
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// Pauses a queue at a worker
///
/// It takes no more tasks from the queue until it is resumed or stopped.
#[utoipa::path(post, path = "/workers/{instance}/pause", tag = "workers",
    params(("instance" = String, Path, description = "This one start of it.", format = Uuid)),
    request_body = QueuePause,
    responses((status = 200, description = "What the worker answered.", body = Steered)),
    extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
async fn pause(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(instance): At<String>,
    Body(pause): Body<QueuePause>,
) -> Result<Json<Steered>, Problem> {
    let by = Some(format!("{} by REST", caller.token.name));
    let command = Command::Pause { queue: queue(&pause.queue)?, reason: pause.reason, by };
    steer(&api, &caller, &instance, &command).await
}

/// A queue of a worker.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"queue": "mail"}))]
struct QueueResume {
    /// The queue.
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$")]
    queue: String,
}

/// Resumes a queue at a worker
#[utoipa::path(post, path = "/workers/{instance}/resume", tag = "workers",
    params(("instance" = String, Path, description = "This one start of it.", format = Uuid)),
    request_body = QueueResume,
    responses((status = 200, description = "What the worker answered.", body = Steered)),
    extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
async fn resume(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(instance): At<String>,
    Body(resume): Body<QueueResume>,
) -> Result<Json<Steered>, Problem> {
    steer(&api, &caller, &instance, &Command::Resume { queue: queue(&resume.queue)? }).await
}

/// Lets a worker finish what runs, and take no more
///
/// It stays up.
#[utoipa::path(post, path = "/workers/{instance}/drain", tag = "workers",
    params(("instance" = String, Path, description = "This one start of it.", format = Uuid)),
    responses((status = 200, description = "What the worker answered.", body = Steered)),
    extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
async fn drain(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(instance): At<String>,
) -> Result<Json<Steered>, Problem> {
    steer(&api, &caller, &instance, &Command::Drain {}).await
}

/// Stops a worker
///
/// It finishes what runs within its grace period, and ends.
#[utoipa::path(post, path = "/workers/{instance}/stop", tag = "workers",
    params(("instance" = String, Path, description = "This one start of it.", format = Uuid)),
    responses((status = 200, description = "What the worker answered.", body = Steered)),
    extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
async fn stop(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(instance): At<String>,
) -> Result<Json<Steered>, Problem> {
    steer(&api, &caller, &instance, &Command::Stop {}).await
}

/// How many tasks of a queue may run at once.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"queue": "mail", "tasks": 8}))]
struct Concurrency {
    /// The queue.
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$")]
    queue: String,
    /// Tasks at once.
    #[schema(minimum = 1, maximum = 65535)]
    tasks: u16,
}

/// Sets how many tasks a worker runs at once
///
/// Until it is set again or the worker ends.
#[utoipa::path(put, path = "/workers/{instance}/concurrency", tag = "workers",
    params(("instance" = String, Path, description = "This one start of it.", format = Uuid)),
    request_body = Concurrency,
    responses(
        (status = 200, description = "What the worker answered.", body = Steered),
        (status = 409, description = "It does not consume from this queue.", body = Problem, content_type = "application/problem+json"),
    ),
    extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
async fn concurrency(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(instance): At<String>,
    Body(wanted): Body<Concurrency>,
) -> Result<Json<Steered>, Problem> {
    if wanted.tasks == 0 {
        return Err(Problem::invalid_part("/tasks", "choose 1 to 65535, or pause the queue"));
    }
    let command = Command::Concurrency { queue: queue(&wanted.queue)?, tasks: wanted.tasks };
    steer(&api, &caller, &instance, &command).await
}

fn queue(name: &str) -> Result<QueueName, Problem> {
    QueueName::new(name).map_err(|error| Problem::invalid_part("/queue", error))
}

async fn steer(api: &Api, caller: &Caller, instance: &str, command: &Command) -> Result<Json<Steered>, Problem> {
    let workers = api.need_broker()?.registry.workers();
    let peer = workers.get(&read_instance(instance)?);
    let action = format!("worker.{}", command.name());
    let mut entry = caller.change(api.store.clock().now(), &action, instance);
    entry.after = Some(json!({"worker": peer.map(|peer| &peer.beat.worker), "command": command}));
    act(api, entry, async {
        let reply = ask(api, instance, command).await?;
        match reply.outcome {
            Outcome::Refused(_) => Err(odd(reply.outcome)),
            Outcome::Answer(_) => Ok(Json(reply.into())),
        }
    })
    .await
}
