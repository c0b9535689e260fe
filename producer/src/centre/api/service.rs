//! Whether the centre is well, and what it is.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, Authorised, Everywhere, Problem, Viewer};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(metrics)).routes(routes!(version))
}

/// Which checks fail.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"failing": {}}))]
pub(super) struct Checks {
    /// What is wrong, by the check's name.
    failing: BTreeMap<String, String>,
}

impl Checks {
    fn answer(failing: BTreeMap<String, String>) -> Response {
        let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(Self { failing })).into_response()
    }
}

/// Whether the process is alive
///
/// 503 when starting it anew would help.
#[utoipa::path(get, path = "/live", tag = "service", security(()), responses(
    (status = 200, description = "It is alive.", body = Checks),
    (status = 503, description = "It should be started anew.", body = Checks),
))]
pub(super) async fn live(State(api): State<Api>) -> Response {
    Checks::answer(api.health.failing_live())
}

/// Whether it can be counted on now
///
/// 503 while the database or the broker does not answer.
#[utoipa::path(get, path = "/ready", tag = "service", security(()), responses(
    (status = 200, description = "It can be counted on.", body = Checks),
    (status = 503, description = "It cannot, for the time being.", body = Checks),
))]
pub(super) async fn ready(State(api): State<Api>) -> Response {
    let mut failing = api.health.failing();
    if let Err(error) = api.store.database().ping().await {
        tracing::warn!("the database does not answer: {error}");
        failing.insert("database".to_owned(), "it does not answer".to_owned());
    }
    Checks::answer(failing)
}

/// All series as Prometheus text
#[utoipa::path(get, path = "/metrics", tag = "service", responses(
    (status = 200, description = "The series.", body = String, content_type = "text/plain"),
), extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
pub(super) async fn metrics(_: Authorised<Everywhere<Viewer>>, State(api): State<Api>) -> Result<Response, Problem> {
    let text = prometheus::TextEncoder::new().encode_to_string(&api.metrics.gather());
    let text = text.map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

/// What this is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"version": "0.1.0", "database": "sqlite"}))]
pub(super) struct Version {
    /// The version of Leveret.
    version: &'static str,
    /// Which database it works on: `sqlite` or `postgres`.
    database: &'static str,
}

/// Which version it is
#[utoipa::path(get, path = "/version", tag = "service", responses(
    (status = 200, description = "The version.", body = Version),
), extensions(("x-role" = json!("viewer"))))]
pub(super) async fn version(_: Authorised<Viewer>, State(api): State<Api>) -> Json<Version> {
    let database = if api.store.database().is_shared() { "postgres" } else { "sqlite" };
    Json(Version { version: env!("CARGO_PKG_VERSION"), database })
}
