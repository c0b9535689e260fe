//! Workers: looked at and steered. They belong to no namespace.

mod steer;
pub(super) mod view;

use axum::{Json, extract::State};
use leveret_common::{
    control::{Answer, Command, Outcome, RefusalKind, Reply, Target},
    registry::Instance,
};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, At, Authorised, Everywhere, Params, Problem, ProblemKind, Viewer,
    page::{self, Page},
};
use view::{RunningTasks, Stats, Worker, WorkerPresence};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(stats))
        .routes(routes!(running))
        .merge(steer::routes())
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct List {
    /// Of this name.
    #[param(min_length = 1, max_length = 255)]
    worker: Option<String>,
    /// That consume from this queue.
    #[param(min_length = 1, max_length = 100)]
    queue: Option<String>,
    /// Alive, lost or offline.
    #[param(inline)]
    presence: Option<Wanted>,
    /// The `next` of the page before.
    #[param(max_length = 4096)]
    cursor: Option<String>,
    /// Items on the page. Default 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Live,
    Lost,
    Offline,
}

impl Wanted {
    const fn is(self, presence: WorkerPresence) -> bool {
        matches!(
            (self, presence),
            (Self::Live, WorkerPresence::Live)
                | (Self::Lost, WorkerPresence::Lost)
                | (Self::Offline, WorkerPresence::Offline)
        )
    }
}

/// Lists workers
///
/// Those that are alive, and for ten minutes those that were. In the order of their starts.
#[utoipa::path(get, path = "/workers", tag = "workers", params(List), responses(
    (status = 200, description = "A page of them.", body = Page<Worker>),
), extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
async fn list(
    _: Authorised<Everywhere<Viewer>>,
    State(api): State<Api>,
    Params(list): Params<List>,
) -> Result<Json<Page<Worker>>, Problem> {
    let limit = page::limit(list.limit)?;
    let after = page::behind::<Instance>(list.cursor.as_deref())?;
    let workers = api.need_broker()?.registry.workers();
    let mut found: Vec<_> = workers
        .iter()
        .filter(|peer| after.is_none_or(|after| peer.beat.instance > after))
        .filter(|peer| list.worker.as_ref().is_none_or(|name| peer.beat.worker == *name))
        .filter(|peer| list.presence.is_none_or(|wanted| wanted.is(peer.presence.into())))
        .filter(|peer| {
            let mut queues = peer.beat.queues.iter();
            list.queue.as_ref().is_none_or(|queue| queues.any(|state| state.queue.as_str() == queue))
        })
        .collect();
    found.sort_by_key(|peer| peer.beat.instance);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1));
    Ok(Json(Page::of(found, limit, |last| last.beat.instance)?.map(Into::into)))
}

/// Looks at a worker
#[utoipa::path(get, path = "/workers/{instance}", tag = "workers",
    params(("instance" = String, Path, description = "This one start of it.", format = Uuid)),
    responses((status = 200, description = "The worker.", body = Worker)),
    extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
async fn get(
    _: Authorised<Everywhere<Viewer>>,
    State(api): State<Api>,
    At(instance): At<String>,
) -> Result<Json<Worker>, Problem> {
    let instance = read_instance(&instance)?;
    let workers = api.need_broker()?.registry.workers();
    let peer = workers.get(&instance).ok_or_else(|| Problem::not_found(format!("worker with instance {instance}")))?;
    Ok(Json(peer.into()))
}

/// Asks a worker what it has done
#[utoipa::path(get, path = "/workers/{instance}/stats", tag = "workers",
    params(("instance" = String, Path, description = "This one start of it.", format = Uuid)),
    responses((status = 200, description = "What it answered.", body = Stats)),
    extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
async fn stats(
    _: Authorised<Everywhere<Viewer>>,
    State(api): State<Api>,
    At(instance): At<String>,
) -> Result<Json<Stats>, Problem> {
    match ask(&api, &instance, &Command::Stats {}).await?.outcome {
        Outcome::Answer(Answer::Stats(stats)) => Ok(Json(stats.into())),
        other => Err(odd(other)),
    }
}

/// Asks a worker what runs
#[utoipa::path(get, path = "/workers/{instance}/running", tag = "workers",
    params(("instance" = String, Path, description = "This one start of it.", format = Uuid)),
    responses((status = 200, description = "What it answered.", body = RunningTasks)),
    extensions(("x-role" = json!("viewer")), ("x-everywhere" = json!(true))))]
async fn running(
    _: Authorised<Everywhere<Viewer>>,
    State(api): State<Api>,
    At(instance): At<String>,
) -> Result<Json<RunningTasks>, Problem> {
    match ask(&api, &instance, &Command::Running { queue: None }).await?.outcome {
        Outcome::Answer(Answer::Running { tasks, total }) => {
            Ok(Json(RunningTasks { tasks: tasks.into_iter().map(Into::into).collect(), total }))
        }
        other => Err(odd(other)),
    }
}

fn read_instance(text: &str) -> Result<Instance, Problem> {
    text.parse().map_err(|error| Problem::new(ProblemKind::Malformed, format!("{error}")))
}

/// The answer of one worker.
async fn ask(api: &Api, instance: &str, command: &Command) -> Result<Reply, Problem> {
    let target = Target::Instance(read_instance(instance)?);
    let replies = api.need_broker()?.control.send(&target, command, api.settings.patience).await?;
    let patience = api.settings.patience;
    let late = || Problem::new(ProblemKind::Timeout, format!("the worker did not answer within {patience:?}"));
    replies.into_iter().next().ok_or_else(late)
}

fn odd(outcome: Outcome) -> Problem {
    match outcome {
        Outcome::Refused(refusal) => match refusal.kind {
            RefusalKind::UnknownQueue => Problem::new(ProblemKind::Conflict, refusal.text),
            RefusalKind::Malformed | RefusalKind::UnknownCommand => Problem::invalid(refusal.text),
            _ => Problem::unavailable(refusal.text),
        },
        Outcome::Answer(_) => Problem::unavailable("the worker gave an answer that this version does not know"),
    }
}
