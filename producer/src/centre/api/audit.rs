//! The audit log, and what goes into it.
//!
//! A change of the database is written down in the transaction that makes it, so that there is neither without the other.
//! What is done elsewhere, at the broker or by workers, cannot be: there the line comes first, as `act` has it. So nothing is
//! done without its line, even if the centre dies in between. If it fails, a second line says so: `<action>.failed`, of the
//! same request. A line without that second one may be of something that was never begun, for the centre died.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Authorised, Everywhere, Params, Problem, Viewer,
    moment::Moment,
    page::{self, Page},
};
use crate::centre::store::{AuditEntry, AuditSearch};

/// A larger value is not written down.
const LARGEST: usize = 8 << 10;

/// Behind the action of what could not be done.
pub(super) const FAILED: &str = ".failed";

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A value for the audit log; of a large one only its size.
pub fn summary(value: &(impl Serialize + ?Sized)) -> Value {
    match serde_json::to_string(value) {
        Ok(text) if text.len() > LARGEST => json!({"bytes": text.len()}),
        Ok(text) => serde_json::from_str(&text).unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

/// Does something at the broker, written down before it begins, and once more if it fails.
pub(super) async fn act<T>(
    api: &Api,
    entry: AuditEntry,
    doing: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    api.store.audit(&entry).await?;
    let done = doing.await;
    if let Err(problem) = &done {
        failed(api, entry, json!({"problem": summary(problem)})).await;
    }
    done
}

/// Writes down that what a line says could not be done.
pub(super) async fn failed(api: &Api, entry: AuditEntry, why: Value) {
    let action = format!("{}{FAILED}", entry.action);
    let (id, at) = (AuditEntry::new_id(), api.store.clock().now());
    let failed = AuditEntry { id, at, action, before: None, after: Some(why), ..entry };
    if let Err(error) = api.store.audit(&failed).await {
        warn!("cannot write down that {} of {} failed: {error}", entry.action, failed.object);
    }
}

/// A change that somebody made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct View {
    /// Its id.
    id: String,
    /// When it was made.
    at: Moment,
    /// The id of the token that was used.
    token_id: String,
    /// And its name, which outlives it.
    token: String,
    /// The request: the `X-Request-Id` of its answer.
    request_id: String,
    /// The namespace; absent for what belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// What was done. What could not be done at the broker has a second line, with `.failed` behind its action.
    #[schema(example = "schedule.save")]
    action: String,
    /// What to.
    #[schema(example = "nightly")]
    object: String,
    /// What it was before, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    /// What it became, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

impl From<AuditEntry> for View {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at.into(),
            token_id: entry.token_id,
            token: entry.token_name,
            request_id: entry.request_id,
            namespace: entry.namespace,
            action: entry.action,
            object: entry.object,
            before: entry.before,
            after: entry.after,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Search {
    /// By the token of this id or name.
    #[param(min_length = 1, max_length = 255)]
    token: Option<String>,
    /// This action, such as `schedule.save`, or its first part, `schedule`.
    #[param(min_length = 1, max_length = 255)]
    action: Option<String>,
    /// To this object.
    #[param(min_length = 1, max_length = 255)]
    object: Option<String>,
    /// In this namespace.
    #[param(min_length = 1, max_length = 100)]
    namespace: Option<String>,
    /// From this moment on.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Moment>,
    /// Before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Moment>,
    /// The `next` of the page before.
    #[param(max_length = 4096)]
    cursor: Option<String>,
    /// Items on the page. Default 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Searches the audit log
///
/// The latest changes first.
#[utoipa::path(get, path = "/audit", tag = "access", params(Search), responses(
    (status = 200, description = "A page of it.", body = Page<View>),
), extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
async fn list(
    _: Authorised<Everywhere<Viewer>>,
    State(api): State<Api>,
    Params(search): Params<Search>,
) -> Result<Json<Page<View>>, Problem> {
    let limit = page::limit(search.limit)?;
    let wanted = AuditSearch {
        token: search.token,
        action: search.action,
        object: search.object,
        namespace: search.namespace,
        since: search.since.map(|since| since.0),
        until: search.until.map(|until| until.0),
        before: page::behind(search.cursor.as_deref())?,
    };
    let found = api.store.audit_log(&wanted, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |last| last.id.clone())?.map(Into::into)))
}
