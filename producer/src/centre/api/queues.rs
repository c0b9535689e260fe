//! Queues: how many messages wait, who consumes, and how fast it goes; and pausing them at every worker.

use axum::{Json, extract::State};
use leveret_common::{
    counts::CountError,
    link::PoolError,
    topology::{QueueName, TopologyError},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, At, Authorised, Body, Everywhere, Operator, Problem, Viewer, workers::view::Steered};
use crate::centre::operations::{QueueReport, QueueReports};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(pause)).routes(routes!(resume))
}

/// List queues with their counts and rates
///
/// Those of the configuration, those that workers consume from, and with RabbitMQ's management interface all that the broker
/// has. A look is shared by all who ask within a second.
#[utoipa::path(get, path = "/queues", tag = "queues", responses(
    (status = 200, description = "The queues.", body = QueueReports),
), extensions(("x-role" = json!("viewer"))))]
pub(super) async fn list(_: Authorised<Viewer>, State(api): State<Api>) -> Result<Json<QueueReports>, Problem> {
    Ok(Json(api.need_queues()?.all().await?))
}

/// One queue with its counts and rates
#[utoipa::path(get, path = "/queues/{queue}", tag = "queues", params(
    ("queue" = String, Path, description = "The queue.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$"),
), responses(
    (status = 200, description = "The queue.", body = QueueReport),
), extensions(("x-role" = json!("viewer"))))]
pub(super) async fn get(
    _: Authorised<Viewer>,
    State(api): State<Api>,
    At(queue): At<String>,
) -> Result<Json<QueueReport>, Problem> {
    let name = read(&queue)?;
    let report = api.need_queues()?.one(&name).await?;
    if report.ready.is_none() && report.dead.is_none() { Err(missing(&queue)) } else { Ok(Json(report)) }
}

/// Why a queue is to be paused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "the mail server is being moved"}))]
pub(super) struct EverywherePause {
    /// Why, for people.
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EverywhereSteered {
    /// Whether the queue was paused everywhere before.
    #[serde(skip_serializing_if = "Option::is_none")]
    was_paused: Option<bool>,
    /// What the workers answered that consume from it now.
    workers: Vec<Steered>,
}

/// Pauses a queue at every worker
///
/// Also at those that start later, until it is resumed: the broker keeps it.
#[utoipa::path(post, path = "/queues/{queue}/pause", tag = "queues", params(
    ("queue" = String, Path, description = "The queue.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$"),
), request_body = EverywherePause, responses(
    (status = 200, description = "It is paused.", body = EverywhereSteered),
), extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
pub(super) async fn pause(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(queue): At<String>,
    Body(pause): Body<EverywherePause>,
) -> Result<Json<EverywhereSteered>, Problem> {
    let name = read(&queue)?;
    let by = format!("{} by REST", caller.token.name);
    let (control, patience) = (&api.need_broker()?.control, api.settings.patience);
    let replies = control.pause_everywhere_for(&name, pause.reason.clone(), by, patience).await?;
    let mut entry = caller.change(api.store.clock().now(), "queue.pause", queue);
    entry.after = Some(json!({"reason": pause.reason}));
    api.store.audit(&entry).await?;
    Ok(Json(EverywhereSteered { was_paused: None, workers: replies.into_iter().map(Into::into).collect() }))
}

/// Ends the pause of a queue at every worker
///
/// A pause at one worker alone stays.
#[utoipa::path(post, path = "/queues/{queue}/resume", tag = "queues", params(
    ("queue" = String, Path, description = "The queue.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$"),
), responses(
    (status = 200, description = "It is not paused everywhere any more.", body = EverywhereSteered),
), extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
pub(super) async fn resume(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(queue): At<String>,
) -> Result<Json<EverywhereSteered>, Problem> {
    let name = read(&queue)?;
    let (control, patience) = (&api.need_broker()?.control, api.settings.patience);
    let (was_paused, replies) = control.resume_everywhere(&name, patience).await?;
    api.store.audit(&caller.change(api.store.clock().now(), "queue.resume", queue)).await?;
    let workers = replies.into_iter().map(Into::into).collect();
    Ok(Json(EverywhereSteered { was_paused: Some(was_paused), workers }))
}

fn read(queue: &str) -> Result<QueueName, Problem> {
    QueueName::new(queue).map_err(|_| missing(queue))
}

fn missing(queue: &str) -> Problem {
    Problem::not_found(format!("queue {:?}", queue.chars().take(120).collect::<String>()))
}

impl From<CountError> for Problem {
    fn from(error: CountError) -> Self {
        match &error {
            CountError::Pool(PoolError::Connect(_) | PoolError::Busy | PoolError::Channel(_))
            | CountError::Topology(TopologyError::Pool(_)) => Self::unavailable(error.to_string()),
            _ => Self::internal(&error),
        }
    }
}
