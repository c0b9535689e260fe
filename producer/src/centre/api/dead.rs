//! Dead letters: looked at and put right at once; replayed and purged in the background.

#![allow(unused_qualifications, reason = "what utoipa writes for parameters has some")]

use axum::{Json, extract::State, http::StatusCode};
use leveret_common::{dead_letters::DeadLettersError, topology::QueueName};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, At, Authorised, Body, Everywhere, Operator, Params, Problem, ProblemKind, Viewer, audit::act,
    operations::OperationView,
};
use crate::centre::{
    operations::{
        AmendError, Conditions, ConditionsQuery, LetterChange, LetterGroups, Letters, OperationError, Place, Request,
        WholeLetter,
    },
    store::OperationKind,
};

/// In the place of a queue: the messages that no queue took.
const LOST: &str = "~lost";
/// Letters in a list, and those that are grouped, unless asked otherwise; and at most.
const LISTED: u32 = 100;
const MOST_LISTED: u32 = 1_000;
const GROUPED: u32 = 10_000;
const MOST_GROUPED: u32 = 100_000;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(groups))
        .routes(routes!(get, amend))
        .routes(routes!(replay))
        .routes(routes!(purge))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfQueue {
    /// The queue; `~lost` for the messages that no queue took.
    #[param(min_length = 1, max_length = 100, pattern = "^([A-Za-z0-9_-]+|~lost)$")]
    queue: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfLetter {
    /// The queue; `~lost` for the messages that no queue took.
    #[param(min_length = 1, max_length = 100, pattern = "^([A-Za-z0-9_-]+|~lost)$")]
    queue: String,
    /// The task's id.
    #[param(min_length = 1, max_length = 255)]
    id: String,
}

fn place(queue: &str) -> Result<Place, Problem> {
    if queue == LOST {
        return Ok(Place::Lost);
    }
    let missing = |_| Problem::not_found(format!("queue {:?}", queue.chars().take(120).collect::<String>()));
    QueueName::new(queue).map(Place::Queue).map_err(missing)
}

fn limit(asked: Option<u32>, default: u32, most: u32) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(default);
    let wrong = || Problem::new(ProblemKind::Malformed, format!("`limit` is 1 to {most}"));
    (1..=most).contains(&limit).then_some(limit).ok_or_else(wrong)
}

/// List dead letters
///
/// From the head of the queue on. While it is looked, nobody else sees what is in hand.
#[utoipa::path(get, path = "/queues/{queue}/dead", tag = "dead letters", params(OfQueue, ConditionsQuery), responses(
    (status = 200, description = "Those that are meant.", body = Letters),
), extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
pub(super) async fn list(
    _: Authorised<Everywhere<Viewer>>,
    State(api): State<Api>,
    At(at): At<OfQueue>,
    Params(query): Params<ConditionsQuery>,
) -> Result<Json<Letters>, Problem> {
    let limit = limit(query.limit, LISTED, MOST_LISTED)?;
    let letters = api.need_operations()?.letters(&place(&at.queue)?, &Conditions::from(&query), limit).await?;
    Ok(Json(letters))
}

/// Count dead letters by what is alike
///
/// By task, reason and the beginning of the error. Of those that are meant `limit` are counted: 10,000 unless asked
/// otherwise, at most 100,000.
#[utoipa::path(get, path = "/queues/{queue}/dead/groups", tag = "dead letters", params(OfQueue, ConditionsQuery),
    responses(
        (status = 200, description = "The groups.", body = LetterGroups),
    ), extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
pub(super) async fn groups(
    _: Authorised<Everywhere<Viewer>>,
    State(api): State<Api>,
    At(at): At<OfQueue>,
    Params(query): Params<ConditionsQuery>,
) -> Result<Json<LetterGroups>, Problem> {
    let most = limit(query.limit, GROUPED, MOST_GROUPED)?;
    let groups = api.need_operations()?.letter_groups(&place(&at.queue)?, &Conditions::from(&query), most).await?;
    Ok(Json(groups))
}

/// One dead letter whole
#[utoipa::path(get, path = "/queues/{queue}/dead/{id}", tag = "dead letters", params(OfLetter), responses(
    (status = 200, description = "The dead letter.", body = WholeLetter),
), extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
pub(super) async fn get(
    _: Authorised<Everywhere<Viewer>>,
    State(api): State<Api>,
    At(at): At<OfLetter>,
) -> Result<Json<WholeLetter>, Problem> {
    let letter = api.need_operations()?.letter(&place(&at.queue)?, &at.id).await?;
    letter.map(Json).ok_or_else(|| missing(&at.id))
}

/// Put a dead letter right
///
/// Another takes its place, with another body, headers or name, and goes to its queue or, with `"then": "stay"`, back to the
/// dead letters. A centre that dies in between leaves both.
#[utoipa::path(patch, path = "/queues/{queue}/dead/{id}", tag = "dead letters", params(OfLetter),
    request_body = LetterChange, responses(
        (status = 204, description = "Another is in its place."),
    ), extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
pub(super) async fn amend(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(at): At<OfLetter>,
    Body(change): Body<LetterChange>,
) -> Result<StatusCode, Problem> {
    let mut entry = caller.change(api.store.clock().now(), "dead.amend", format!("{}/{}", at.queue, at.id));
    // Bodies and headers may be secret: what was changed is written down, not to what.
    entry.after = Some(json!({
        "task": change.task, "body": change.body.is_some(), "headers": change.headers.keys().collect::<Vec<_>>(),
        "then": change.then,
    }));
    let (operations, place) = (api.need_operations()?, place(&at.queue)?);
    act(&api, entry, async {
        let is_there = operations.amend_letter(&place, &at.id, change).await?;
        is_there.then_some(StatusCode::NO_CONTENT).ok_or_else(|| missing(&at.id))
    })
    .await
}

/// Send dead letters back to their queue
///
/// One, some or all, in the background, at a rate if one is given. Their attempts count anew.
#[utoipa::path(post, path = "/queues/{queue}/dead/replay", tag = "dead letters", params(OfQueue),
    request_body = Request, responses(
        (status = 202, description = "It has begun.", body = OperationView),
        (status = 409, description = "Another is at work there, or the queue would drop its messages.", body = Problem,
            content_type = "application/problem+json"),
    ), extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
pub(super) async fn replay(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(at): At<OfQueue>,
    Body(request): Body<Request>,
) -> Result<(StatusCode, Json<OperationView>), Problem> {
    begin(&caller, &api, OperationKind::Replay, &at.queue, request).await
}

/// Remove dead letters for good
///
/// One, some or all, in the background.
#[utoipa::path(post, path = "/queues/{queue}/dead/purge", tag = "dead letters", params(OfQueue),
    request_body = Request, responses(
        (status = 202, description = "It has begun.", body = OperationView),
        (status = 409, description = "Another is at work there, or the queue would drop its messages.", body = Problem,
            content_type = "application/problem+json"),
    ), extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
pub(super) async fn purge(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(at): At<OfQueue>,
    Body(request): Body<Request>,
) -> Result<(StatusCode, Json<OperationView>), Problem> {
    if request.rate.is_some() {
        return Err(Problem::invalid_part("/rate", "a purge has no rate: leave it out"));
    }
    begin(&caller, &api, OperationKind::Purge, &at.queue, request).await
}

async fn begin(
    caller: &Authorised<Everywhere<Operator>>,
    api: &Api,
    kind: OperationKind,
    queue: &str,
    request: Request,
) -> Result<(StatusCode, Json<OperationView>), Problem> {
    let mut entry = caller.change(api.store.clock().now(), &format!("dead.{}", kind.as_str()), queue);
    entry.after = serde_json::to_value(&request).ok();
    let by = caller.token.name.clone();
    let operation = api.need_operations()?.begin(kind, &place(queue)?, request, Some(by), Some(&entry)).await?;
    Ok((StatusCode::ACCEPTED, Json(operation.into())))
}

fn missing(id: &str) -> Problem {
    Problem::not_found(format!("dead letter with the id {:?}", id.chars().take(120).collect::<String>()))
}

impl From<DeadLettersError> for Problem {
    fn from(error: DeadLettersError) -> Self {
        match &error {
            DeadLettersError::NoQueue { queue } => Self::not_found(format!("queue {queue:?} at the broker")),
            DeadLettersError::Different { .. } => Self::new(ProblemKind::Conflict, error.to_string()),
            DeadLettersError::TooLong(_) | DeadLettersError::Name(_) => Self::invalid(&error),
            DeadLettersError::Connect(_)
            | DeadLettersError::Interrupted { .. }
            | DeadLettersError::Stalled { .. }
            | DeadLettersError::Publish(_) => Self::unavailable(super::super::operations::chain(&error)),
            _ => Self::internal(&error),
        }
    }
}

impl From<AmendError> for Problem {
    fn from(error: AmendError) -> Self {
        match error {
            AmendError::DeadLetters(error) => error.into(),
            AmendError::Header { .. } => Self::invalid_part("/headers", error),
            AmendError::NoName => Self::invalid_part("/task", error),
        }
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::DeadLetters(error) => error.into(),
            OperationError::Database(error) => error.into(),
            OperationError::Invalid(_) => Self::invalid(&error),
            OperationError::Busy { .. } => Self::new(ProblemKind::Conflict, error.to_string()),
            OperationError::Stopping => Self::unavailable(error.to_string()),
        }
    }
}
