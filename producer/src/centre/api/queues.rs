//! Queues: how many messages wait, who consumes, and how fast it goes.

use axum::{Json, extract::State};
use leveret_common::{
    counts::CountError,
    link::PoolError,
    topology::{QueueName, TopologyError},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, At, Authorised, Problem, Viewer};
use crate::centre::operations::{QueueReport, QueueReports};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
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
    let missing = || Problem::not_found(format!("queue {:?}", queue.chars().take(120).collect::<String>()));
    let name = QueueName::new(&queue).map_err(|_| missing())?;
    let report = api.need_queues()?.one(&name).await?;
    if report.ready.is_none() && report.dead.is_none() { Err(missing()) } else { Ok(Json(report)) }
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
