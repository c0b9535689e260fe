//! What lasts: how far it is, and calling it off.

#![allow(unused_qualifications, reason = "what utoipa writes for parameters has some")]

use axum::{Json, extract::State, http::StatusCode};
use leveret_common::clock::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, At, Authorised, Everywhere, Operator, Params, Problem, ProblemKind, Viewer,
    page::{self, Page},
};
use crate::centre::{
    operations::Request,
    store::{Operation, OperationKind, OperationState},
};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(cancel))
}

/// Something that takes a while, and how far it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Operation)]
pub(super) struct OperationView {
    /// Its id.
    id: String,
    /// What is being done.
    kind: OperationKind,
    /// The work queue; `null` for the messages that no queue took.
    queue: Option<String>,
    /// What was asked for.
    request: Request,
    /// How it stands.
    state: OperationState,
    /// Dead letters that were moved or removed.
    done: i64,
    /// Dead letters that were looked at.
    seen: i64,
    /// How many there are to look at, once that is known.
    total: Option<i64>,
    /// Why it failed or was interrupted.
    error: Option<String>,
    /// Whether someone has asked for it to be called off.
    cancelling: bool,
    /// The name of the token that began it.
    started_by: Option<String>,
    /// The centre that works on it, or did last.
    centre: String,
    /// When it was begun.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

impl From<Operation> for OperationView {
    fn from(operation: Operation) -> Self {
        Self {
            id: operation.id,
            kind: operation.kind,
            queue: operation.queue,
            request: operation.request,
            state: operation.state,
            done: operation.progress.done,
            seen: operation.progress.seen,
            total: operation.progress.total,
            error: operation.error,
            cancelling: operation.cancelling,
            started_by: operation.started_by,
            centre: operation.centre,
            created_at: operation.created_at.to_rfc3339(),
            ended_at: operation.ended_at.map(UnixMillis::to_rfc3339),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Search {
    /// Only those of this queue.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$")]
    queue: Option<String>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<OperationState>,
    /// The `next` of the page before.
    #[param(max_length = 4096)]
    cursor: Option<String>,
    /// Items on a page, 1 to 1000. Default 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// List operations, the newest first
///
/// Ended ones are kept for 30 days.
#[utoipa::path(get, path = "/operations", tag = "operations", params(Search), responses(
    (status = 200, description = "A page of operations.", body = Page<OperationView>),
), extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
pub(super) async fn list(
    _: Authorised<Everywhere<Viewer>>,
    State(api): State<Api>,
    Params(search): Params<Search>,
) -> Result<Json<Page<OperationView>>, Problem> {
    let limit = page::limit(search.limit)?;
    let before: Option<String> = page::behind(search.cursor.as_deref())?;
    let found = api.store.operations(before.as_deref(), search.queue.as_deref(), search.state, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |last| last.id.clone())?.map(OperationView::from)))
}

/// One operation, and how far it is
#[utoipa::path(get, path = "/operations/{id}", tag = "operations", params(
    ("id" = String, Path, description = "Its id.", min_length = 1, max_length = 100),
), responses(
    (status = 200, description = "The operation.", body = OperationView),
), extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
pub(super) async fn get(
    _: Authorised<Everywhere<Viewer>>,
    State(api): State<Api>,
    At(id): At<String>,
) -> Result<Json<OperationView>, Problem> {
    find(&api, &id).await.map(|operation| Json(operation.into()))
}

/// Call an operation off
///
/// It ends within about a second, wherever it runs. What was done by then stays done.
#[utoipa::path(post, path = "/operations/{id}/cancel", tag = "operations", params(
    ("id" = String, Path, description = "Its id.", min_length = 1, max_length = 100),
), responses(
    (status = 202, description = "It is being called off.", body = OperationView),
    (status = 409, description = "It is over.", body = Problem, content_type = "application/problem+json"),
), extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
pub(super) async fn cancel(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(id): At<String>,
) -> Result<(StatusCode, Json<OperationView>), Problem> {
    let entry = caller.change(api.store.clock().now(), "operation.cancel", &id);
    let cancelled = match &api.operations {
        Some(operations) => operations.cancel(&id, Some(&entry)).await?,
        None => api.store.cancel_operation(&id, Some(&entry)).await?,
    };
    let operation = find(&api, &id).await?;
    if !cancelled {
        let text = format!("operation {id} is over: it is {}", operation.state.as_str());
        return Err(Problem::new(ProblemKind::Conflict, text));
    }
    Ok((StatusCode::ACCEPTED, Json(operation.into())))
}

async fn find(api: &Api, id: &str) -> Result<Operation, Problem> {
    let missing =
        || Problem::not_found(format!("operation with the id {:?}", id.chars().take(120).collect::<String>()));
    api.store.operation(id).await?.ok_or_else(missing)
}
