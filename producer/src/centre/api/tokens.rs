//! API tokens: made, listed, removed.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use leveret_common::task::TaskId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Admin, Api, At, Authorised, Body, Everywhere, Params, Problem, ProblemKind, Viewer,
    moment::Moment,
    page::{self, Page},
    secret,
};
use crate::{
    centre::store::{ALL_NAMESPACES, Role, Token},
    plan::ScheduleName,
};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(own)).routes(routes!(list, create)).routes(routes!(get, remove))
}

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
struct View {
    /// Its id.
    id: String,
    /// What it is for.
    name: String,
    /// What its bearer may do.
    role: Role,
    /// Where: one namespace, or `*` for all and for what belongs to none.
    namespace: String,
    /// The name of the token that made it.
    created_by: String,
    /// When it was made.
    created_at: Moment,
    /// When it ends; absent is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Moment>,
    /// When it was last used, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Moment>,
}

impl From<Token> for View {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            role: token.role,
            namespace: token.namespace,
            created_by: token.created_by,
            created_at: token.created_at.into(),
            expires_at: token.expires_at.map(Into::into),
            last_used_at: token.last_used_at.map(Into::into),
        }
    }
}

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
struct NewToken {
    /// What goes behind `Authorization: Bearer`. It is shown this once: only its hash is kept.
    secret: String,
    /// The token.
    token: View,
}

/// What a token is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "deploy", "role": "publisher", "namespace": "billing", "expires_at": "2028-01-01T00:00:00Z"}))]
struct Wanted {
    /// What it is for.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What its bearer may do.
    role: Role,
    /// Where: one namespace, or `*` for all and for what belongs to none.
    #[schema(min_length = 1, max_length = 100, pattern = "^([A-Za-z0-9._-]+|\\*)$")]
    namespace: String,
    /// When it ends. Default: never.
    expires_at: Option<Moment>,
}

/// Looks at the token that asks
#[utoipa::path(get, path = "/token", tag = "access", responses(
    (status = 200, description = "The token.", body = View),
), extensions(("x-role" = json!("viewer"))))]
async fn own(caller: Authorised<Viewer>) -> Json<View> {
    Json(caller.caller.token.into())
}

/// Lists tokens
///
/// The oldest first.
#[utoipa::path(get, path = "/tokens", tag = "access", params(page::Paging), responses(
    (status = 200, description = "A page of them.", body = Page<View>),
), extensions(("x-role" = json!("admin")), ("x-everywhere" = json!(true))))]
async fn list(
    _: Authorised<Everywhere<Admin>>,
    State(api): State<Api>,
    Params(list): Params<page::Paging>,
) -> Result<Json<Page<View>>, Problem> {
    let limit = page::limit(list.limit)?;
    let after = page::behind::<String>(list.cursor.as_deref())?.unwrap_or_default();
    let found = api.store.tokens_after(&after, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |last| last.id.clone())?.map(Into::into)))
}

/// Makes a token
///
/// Its secret is in the answer, and nowhere else: only its hash is kept. So there is no asking for the answer again, and
/// an `Idempotency-Key` is refused.
#[utoipa::path(post, path = "/tokens", tag = "access", request_body = Wanted, responses(
    (status = 201, description = "It was made.", body = NewToken, headers(("Location" = String, description = "Where it is."))),
), extensions(("x-role" = json!("admin")), ("x-everywhere" = json!(true))))]
async fn create(
    caller: Authorised<Everywhere<Admin>>,
    State(api): State<Api>,
    Body(wanted): Body<Wanted>,
) -> Result<Response, Problem> {
    let now = api.store.clock().now();
    if !(1..=100).contains(&wanted.name.chars().count()) {
        return Err(Problem::invalid_part("/name", "it has 1 to 100 characters"));
    }
    if wanted.namespace != ALL_NAMESPACES {
        ScheduleName::new(&wanted.namespace, "any").map_err(|error| Problem::invalid_part("/namespace", error))?;
    }
    if wanted.expires_at.is_some_and(|at| at.0 <= now) {
        return Err(Problem::invalid_part("/expires_at", "this moment has passed"));
    }
    let secret = secret::generate().ok_or_else(|| Problem::unavailable("the system has no random numbers"))?;
    let token = Token {
        id: TaskId::new().to_string(),
        name: wanted.name,
        role: wanted.role,
        namespace: wanted.namespace,
        created_by: caller.token.name.clone(),
        created_at: now,
        expires_at: wanted.expires_at.map(|at| at.0),
        last_used_at: None,
    };
    let mut entry = caller.change(now, "token.create", &token.id);
    let (name, role, expires_at) = (&token.name, token.role, wanted.expires_at);
    entry.after = Some(json!({"name": name, "role": role, "namespace": token.namespace, "expires_at": expires_at}));
    let mut transaction = api.store.database().begin().await?;
    api.store.add_token(&mut transaction, &token, &secret).await?;
    api.store.audit_in(&mut transaction, &entry).await?;
    transaction.commit().await?;
    let location =
        HeaderValue::from_str(&format!("/api/v1/tokens/{}", token.id)).map_err(|error| Problem::internal(&error))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(NewToken { secret, token: token.into() }))
        .into_response())
}

/// Looks at a token
#[utoipa::path(get, path = "/tokens/{id}", tag = "access",
    params(("id" = String, Path, description = "Its id.", min_length = 1, max_length = 100)),
    responses((status = 200, description = "The token.", body = View)),
    extensions(("x-role" = json!("admin")), ("x-everywhere" = json!(true))))]
async fn get(
    _: Authorised<Everywhere<Admin>>,
    State(api): State<Api>,
    At(id): At<String>,
) -> Result<Json<View>, Problem> {
    let token = api.store.token(&id).await?.ok_or_else(|| Problem::not_found("token of this id"))?;
    Ok(Json(token.into()))
}

/// Removes a token
///
/// It is good for nothing from then on. A token does not remove itself, so that somebody can always enter.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "access",
    params(("id" = String, Path, description = "Its id.", min_length = 1, max_length = 100)),
    responses(
        (status = 204, description = "It is gone."),
        (status = 409, description = "It is the one that asks.", body = Problem, content_type = "application/problem+json"),
    ), extensions(("x-role" = json!("admin")), ("x-everywhere" = json!(true))))]
async fn remove(
    caller: Authorised<Everywhere<Admin>>,
    State(api): State<Api>,
    At(id): At<String>,
) -> Result<StatusCode, Problem> {
    if caller.token.id == id {
        return Err(Problem::new(ProblemKind::Conflict, "a token does not remove itself: use another one"));
    }
    let token = api.store.token(&id).await?.ok_or_else(|| Problem::not_found("token of this id"))?;
    let mut entry = caller.change(api.store.clock().now(), "token.remove", &id);
    entry.before = Some(json!({"name": token.name, "role": token.role, "namespace": token.namespace}));
    let mut transaction = api.store.database().begin().await?;
    if !api.store.remove_token(&mut transaction, &id).await? {
        return Err(Problem::not_found("token of this id"));
    }
    api.store.audit_in(&mut transaction, &entry).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
