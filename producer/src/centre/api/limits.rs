//! Limits: looked at, and changed at all workers. They belong to no namespace.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use axum::{Json, extract::State};
use leveret_common::{
    control::{Answer, Command, ControlError, LimitChange, LimitReport, Outcome, Target},
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
/// Changes that are looked through for the last that did not fail.
const LOOKED_AT: u32 = 50;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(change))
}

/// A limit.
#[derive(Debug, Serialize, ToSchema)]
struct Limit {
    /// Its name.
    name: String,
    /// Whether it is in the configuration that this centre was started with. Otherwise workers alone know it, and what it
    /// is for is what one of them says.
    configured: bool,
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
    /// How much it admits, as the workers that have it say. Where they differ, what most of them say is first; of a limit
    /// that they share the strictest holds. Empty when no worker that has it has answered.
    in_force: Vec<InForce>,
    /// Tasks that it has admitted and that run, at all workers.
    held: u64,
    /// Tasks that have been fetched and wait for it, at all workers.
    waiting: u64,
    /// Who last changed it over this interface, and to what.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Changed>,
}

/// How much a limit admits, and how many workers say so.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = LimitInForce)]
struct InForce {
    /// Tasks at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    /// Tasks in a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "100/s")]
    rate: Option<String>,
    /// How many workers agree on it.
    workers: usize,
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
/// Those of the configuration that this centre was started with and those that only workers know, in the order of their
/// names. Each has what the workers say that it admits now, and the last change that was made to it. Workers too old to be
/// asked are left out.
#[utoipa::path(get, path = "/limits", tag = "workers", responses(
    (status = 200, description = "All of them.", body = Page<Limit>),
), extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
async fn list(_: Authorised<Everywhere<Viewer>>, State(api): State<Api>) -> Result<Json<Page<Limit>>, Problem> {
    let mut known: BTreeMap<LimitName, Vec<LimitReport>> = BTreeMap::new();
    known.extend(api.settings.limits.keys().map(|name| (name.clone(), Vec::new())));
    for report in reports(&api).await? {
        known.entry(report.name.clone()).or_default().push(report);
    }
    let mut limits = Vec::with_capacity(known.len());
    for (name, reports) in known {
        limits.extend(Limit::of(&name, api.settings.limits.get(&name), &reports, last_change(&api, &name).await?));
    }
    Ok(Json(Page::whole(limits)))
}

/// What each worker says about each of its limits.
async fn reports(api: &Api) -> Result<Vec<LimitReport>, Problem> {
    let Some(broker) = &api.broker else { return Ok(Vec::new()) };
    let mut replies = match broker.control.begin(&Target::All, &Command::Limits {}, api.settings.patience).await {
        Err(ControlError::Nobody { .. } | ControlError::NoExchange { .. }) => return Ok(Vec::new()),
        replies => replies?,
    };
    let live: Vec<_> = broker.registry.workers().live().map(|peer| peer.beat.instance).collect();
    if !live.is_empty() {
        replies = replies.until(live);
    }
    let mut reports = Vec::new();
    while let Some(reply) = replies.next().await {
        if let Outcome::Answer(Answer::Limits { limits }) = reply.outcome {
            reports.extend(limits);
        }
    }
    Ok(reports)
}

/// The last change of a limit that did not fail.
async fn last_change(api: &Api, name: &LimitName) -> Result<Option<Changed>, Problem> {
    let search = AuditSearch {
        action: Some(CHANGE.to_owned()),
        object: Some(name.as_str().to_owned()),
        ..AuditSearch::default()
    };
    let mut failed = HashSet::new();
    for line in api.store.audit_log(&search, LOOKED_AT).await? {
        if line.action != CHANGE {
            failed.insert(line.request_id);
        } else if !failed.contains(&line.request_id) {
            return Ok(Some(Changed { at: line.at.into(), by: line.token_name, to: line.after.unwrap_or_default() }));
        }
    }
    Ok(None)
}

impl Limit {
    /// `None` for one that nobody knows.
    fn of(
        name: &LimitName,
        configured: Option<&LimitSettings>,
        reports: &[LimitReport],
        changed: Option<Changed>,
    ) -> Option<Self> {
        let about = configured.cloned().or_else(|| reports.first().map(settings))?;
        Some(Self {
            name: name.as_str().to_owned(),
            configured: configured.is_some(),
            queues: about.queues.iter().map(ToString::to_string).collect(),
            tasks: about.tasks,
            by_key: about.by_key,
            per_worker: about.per_worker,
            concurrency: about.concurrency,
            rate: about.rate.map(|rate| rate.to_string()),
            in_force: InForce::of(reports),
            held: reports.iter().map(|report| report.held).fold(0, u64::saturating_add),
            waiting: reports.iter().map(|report| report.waiting).fold(0, u64::saturating_add),
            changed,
        })
    }
}

/// What a worker's configuration says.
fn settings(report: &LimitReport) -> LimitSettings {
    LimitSettings {
        queues: report.queues.clone(),
        tasks: report.tasks.clone(),
        by_key: report.by_key,
        concurrency: report.concurrency,
        rate: report.rate,
        per_worker: report.per_worker,
    }
}

impl InForce {
    fn of(reports: &[LimitReport]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for terms in reports.iter().map(|report| report.in_force) {
            let (concurrency, rate) = (terms.concurrency, terms.rate.map(|rate| rate.to_string()));
            match all.iter_mut().find(|known| known.concurrency == concurrency && known.rate == rate) {
                Some(known) => known.workers += 1,
                None => all.push(Self { concurrency, rate, workers: 1 }),
            }
        }
        all.sort_by_key(|in_force| Reverse(in_force.workers));
        all
    }
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
