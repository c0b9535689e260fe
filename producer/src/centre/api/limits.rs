//! Limits: looked at, and changed at all workers. They belong to no namespace.

use axum::{Json, extract::State};
use leveret_common::{
    control::{Command, LimitChange, Target},
    limit::{LimitName, LimitSettings, Rate},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, At, Authorised, Body, Everywhere, Operator, Problem, ProblemKind, Viewer, audit::act, moment::Moment,
    page::Page, workers::view::Steered,
};
use crate::centre::store::AuditSearch;

/// What a change is called in the audit log.
const CHANGE: &str = "limit.change";

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(change))
}

/// A limit of the configuration.
#[derive(Debug, Serialize, ToSchema)]
struct Limit {
    /// Its name.
    name: String,
    /// The queues that it holds for; all if there is none.
    queues: Vec<String>,
    /// The tasks that it holds for; all if there is none.
    tasks: Vec<String>,
    /// Whether it holds for each key by itself.
    by_key: bool,
    /// Whether it holds for each worker by itself.
    per_worker: bool,
    /// Tasks at once, by the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    /// Tasks in a time, by the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "100/s")]
    rate: Option<String>,
    /// Who last changed it over this interface, and to what.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Changed>,
}

/// A change that was made while workers ran.
#[derive(Debug, Serialize, ToSchema)]
struct Changed {
    /// When.
    at: Moment,
    /// By which token.
    by: String,
    /// What it was changed to.
    to: serde_json::Value,
}

/// Lists limits
///
/// Those of the configuration that this centre was started with, each with the last change that was made to it.
#[utoipa::path(get, path = "/limits", tag = "workers", responses(
    (status = 200, description = "All of them.", body = Page<Limit>),
), extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
async fn list(_: Authorised<Everywhere<Viewer>>, State(api): State<Api>) -> Result<Json<Page<Limit>>, Problem> {
    let mut limits = Vec::new();
    for (name, settings) in &api.settings.limits {
        limits.push(read(&api, name, settings).await?);
    }
    Ok(Json(Page::whole(limits)))
}

async fn read(api: &Api, name: &LimitName, settings: &LimitSettings) -> Result<Limit, Problem> {
    let search = AuditSearch {
        action: Some(CHANGE.to_owned()),
        object: Some(name.as_str().to_owned()),
        ..AuditSearch::default()
    };
    let changed = api.store.audit_log(&search, 1).await?.into_iter().next().map(|entry| Changed {
        at: entry.at.into(),
        by: entry.token_name,
        to: entry.after.unwrap_or_default(),
    });
    Ok(Limit {
        name: name.as_str().to_owned(),
        queues: settings.queues.iter().map(ToString::to_string).collect(),
        tasks: settings.tasks.clone(),
        by_key: settings.by_key,
        per_worker: settings.per_worker,
        concurrency: settings.concurrency,
        rate: settings.rate.map(|rate| rate.to_string()),
        changed,
    })
}

/// What a limit is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"rate": "100/s"}))]
struct Terms {
    /// Tasks at once.
    #[schema(minimum = 1)]
    concurrency: Option<u32>,
    /// Tasks in a time, such as `100/s`.
    #[schema(min_length = 1, max_length = 100)]
    rate: Option<String>,
    /// Back to what the configuration says; the other two are absent then.
    #[serde(default)]
    reset: bool,
}

/// What the workers answered.
#[derive(Debug, Serialize, ToSchema)]
struct Answers {
    /// Each of them.
    workers: Vec<Steered>,
}

/// Changes a limit at all workers
///
/// Until it is changed again or reset. What is not said stays as it is.
#[utoipa::path(patch, path = "/limits/{name}", tag = "workers",
    params(("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$")),
    request_body = Terms,
    responses(
        (status = 200, description = "What the workers answered.", body = Answers),
        (status = 409, description = "All of them refused.", body = Problem, content_type = "application/problem+json"),
    ), extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
async fn change(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(name): At<String>,
    Body(terms): Body<Terms>,
) -> Result<Json<Answers>, Problem> {
    LimitName::new(&name)?;
    if terms.reset == (terms.concurrency.is_some() || terms.rate.is_some()) {
        return Err(Problem::invalid("give `concurrency`, `rate` or both, or `reset` alone"));
    }
    if terms.concurrency == Some(0) {
        return Err(Problem::invalid_part("/concurrency", "it is at least 1; to run nothing at all, pause the queue"));
    }
    if let Some(rate) = &terms.rate {
        rate.parse::<Rate>().map_err(|error| Problem::invalid_part("/rate", error))?;
    }
    let (concurrency, rate, reset) = (terms.concurrency, terms.rate, terms.reset);
    let command = Command::Limit(LimitChange { name: name.clone(), concurrency, rate: rate.clone(), reset });
    let control = &api.need_broker()?.control;
    let mut entry = caller.change(api.store.clock().now(), CHANGE, &name);
    entry.after = Some(json!({"concurrency": concurrency, "rate": rate, "reset": reset}));
    act(&api, entry, async {
        let replies = control.send(&Target::All, &command, api.settings.patience).await?;
        let workers: Vec<Steered> = replies.into_iter().map(Into::into).collect();
        if let Some(refused) = workers.iter().find_map(|worker| worker.refused.clone())
            && workers.iter().all(|worker| worker.refused.is_some())
        {
            return Err(Problem::new(ProblemKind::Conflict, refused));
        }
        Ok(Json(Answers { workers }))
    })
    .await
}
