//! What happens, as a stream of server-sent events.

mod feed;

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use feed::Feed;
use feed::News;

use super::{
    Api, Authorised, Caller, Params, Problem, ProblemKind, Viewer, moment::Moment, schedules::view::TickView,
    tasks::view::View as TaskView, workers::view::Worker,
};
use crate::centre::store::{AuditEntry, TickRecord, tasks::TaskFilter};

/// How often something is sent while nothing happens.
const ALIVE: Duration = Duration::from_secs(15);
/// How often it is looked whether the token still holds.
const ADMIT: Duration = Duration::from_secs(15);

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(events))
}

#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Which events, separated by commas: `task`, `worker`, `schedule`, `tick`. Default: all that the token allows.
    #[param(min_length = 4, max_length = 100, example = "task,worker")]
    kinds: Option<String>,
    /// The namespace, or `*` for all. Default: the token's own, which of a token for all is `default`.
    #[param(min_length = 1, max_length = 100, pattern = "^([A-Za-z0-9._-]+|\\*)$")]
    namespace: Option<String>,
    /// Of tasks, those of this queue.
    #[param(min_length = 1, max_length = 255)]
    queue: Option<String>,
    /// Of tasks, those of this name.
    #[param(min_length = 1, max_length = 255)]
    task: Option<String>,
    /// Of tasks, ticks and changes of schedules, those of this schedule.
    #[param(min_length = 1, max_length = 255)]
    schedule: Option<String>,
}

/// A worker came, changed or went.
#[derive(Serialize, ToSchema)]
struct WorkerEvent {
    /// `online`, `changed`, `lost` or `offline`.
    what: &'static str,
    /// The worker.
    worker: Worker,
}

/// Somebody changed a schedule.
#[derive(Serialize, ToSchema)]
struct ScheduleEvent {
    /// What was done.
    #[schema(example = "schedule.pause")]
    action: String,
    /// Its namespace.
    namespace: Option<String>,
    /// Its name.
    name: String,
    /// When.
    at: Moment,
    /// By which token.
    by: String,
}

impl From<&AuditEntry> for ScheduleEvent {
    fn from(entry: &AuditEntry) -> Self {
        Self {
            action: entry.action.clone(),
            namespace: entry.namespace.clone(),
            name: entry.object.clone(),
            at: entry.at.into(),
            by: entry.token_name.clone(),
        }
    }
}

/// A tick was decided about.
#[derive(Serialize, ToSchema)]
struct TickEvent {
    /// The namespace of its schedule.
    namespace: String,
    /// The name of its schedule.
    schedule: String,
    /// The tick.
    #[serde(flatten)]
    tick: TickView,
}

impl From<&TickRecord> for TickEvent {
    fn from(tick: &TickRecord) -> Self {
        Self {
            namespace: tick.schedule.namespace().to_owned(),
            schedule: tick.schedule.name().to_owned(),
            tick: tick.clone().into(),
        }
    }
}

/// How things are, at the beginning, and whenever more happened than could be told.
#[derive(Serialize, ToSchema)]
struct Snapshot {
    /// Tasks by their state.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<BTreeMap<&'static str, u64>>,
    /// The workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<Vec<Worker>>,
}

/// Follows what happens
///
/// A stream of server-sent events: `snapshot` first, with tasks by their state and the workers, then `task`, `worker`,
/// `schedule` and `tick`, each with JSON as its data. A `tick` comes once, with what was decided about it; what becomes of
/// its task, `task` tells. After a gap there is a `snapshot` again; a client that connects anew begins with one, too.
#[utoipa::path(get, path = "/events", tag = "events", params(Wanted), responses(
    (status = 200, description = "The stream.", content(
        (Snapshot = "text/event-stream"),
    )),
), extensions(("x-role" = json!("viewer"))))]
async fn events(
    caller: Authorised<Viewer>,
    State(api): State<Api>,
    Params(wanted): Params<Wanted>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + Send>, Problem> {
    let filter = Filter::of(&caller, wanted)?;
    // Listening begins before the snapshot is taken, so that nothing falls in between.
    let follow = Follow {
        news: api.feed.listen(),
        admitted: tokio::time::interval_at(tokio::time::Instant::now() + ADMIT, ADMIT),
        snapshot_due: true,
        token: caller.caller.token.id.clone(),
        filter,
        api,
    };
    let stream = stream::unfold(follow, async |mut follow| Some((Ok(follow.next().await?), follow)));
    Ok(Sse::new(Box::pin(stream)).keep_alive(KeepAlive::new().interval(ALIVE)))
}

/// What a stream tells.
struct Filter {
    namespace: Option<String>,
    tasks: bool,
    workers: bool,
    schedules: bool,
    ticks: bool,
    wanted: Wanted,
}

impl Filter {
    fn of(caller: &Caller, wanted: Wanted) -> Result<Self, Problem> {
        let namespace = caller.namespaces(wanted.namespace.as_deref())?;
        let Some(kinds) = &wanted.kinds else {
            let workers = caller.is_everywhere();
            return Ok(Self { namespace, tasks: true, workers, schedules: true, ticks: true, wanted });
        };
        let kinds: Vec<_> = kinds.split(',').collect();
        if let Some(other) = kinds.iter().find(|kind| !["task", "worker", "schedule", "tick"].contains(kind)) {
            let text = format!("`kinds` are `task`, `worker`, `schedule` and `tick`, not {other:?}");
            return Err(Problem::new(ProblemKind::Malformed, text));
        }
        let workers = kinds.contains(&"worker");
        if workers && !caller.is_everywhere() {
            let text = "workers belong to no namespace: they take a token for all of them, `*`";
            return Err(Problem::new(ProblemKind::Forbidden, text));
        }
        let (tasks, schedules, ticks) = (kinds.contains(&"task"), kinds.contains(&"schedule"), kinds.contains(&"tick"));
        Ok(Self { namespace, tasks, workers, schedules, ticks, wanted })
    }

    fn is_here(&self, namespace: Option<&str>) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| namespace == Some(wanted))
    }

    fn event(&self, news: &News) -> Option<Event> {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let wanted = &self.wanted;
        match news {
            News::Task(task) => {
                let fits = self.tasks
                    && self.is_here(Some(&task.namespace))
                    && is(&wanted.queue, &task.queue)
                    && is(&wanted.task, &task.task)
                    && is(&wanted.schedule, task.schedule.as_deref().unwrap_or_default());
                fits.then(|| event("task", &TaskView::from(task.as_ref().clone())))
            }
            News::Worker(what, peer) => {
                self.workers.then(|| event("worker", &WorkerEvent { what, worker: peer.into() }))
            }
            News::Schedule(entry) => {
                let fits =
                    self.schedules && self.is_here(entry.namespace.as_deref()) && is(&wanted.schedule, &entry.object);
                fits.then(|| event("schedule", &ScheduleEvent::from(entry.as_ref())))
            }
            News::Tick(tick) => {
                let fits = self.ticks
                    && self.is_here(Some(tick.schedule.namespace()))
                    && is(&wanted.schedule, tick.schedule.name());
                fits.then(|| event("tick", &TickEvent::from(tick.as_ref())))
            }
            News::Missed => None,
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}

/// One stream.
struct Follow {
    api: Api,
    filter: Filter,
    news: Receiver<News>,
    admitted: tokio::time::Interval,
    snapshot_due: bool,
    token: String,
}

impl Follow {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if std::mem::take(&mut self.snapshot_due) {
                match self.snapshot().await {
                    Ok(snapshot) => return Some(event("snapshot", &snapshot)),
                    // The client connects anew, and begins with one.
                    Err(_) => return None,
                }
            }
            tokio::select! {
                () = self.api.closing.cancelled() => return None,
                _ = self.admitted.tick() => {
                    if !self.is_admitted().await {
                        return None;
                    }
                }
                news = self.news.recv() => match news {
                    Ok(News::Missed) | Err(RecvError::Lagged(_)) => self.snapshot_due = true,
                    Ok(news) => {
                        if let Some(event) = self.filter.event(&news) {
                            return Some(event);
                        }
                    }
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, Problem> {
        let mut snapshot = Snapshot { tasks: None, workers: None };
        if self.filter.tasks {
            let filter = TaskFilter {
                namespaces: self.filter.namespace.iter().cloned().collect(),
                queue: self.filter.wanted.queue.clone(),
                task: self.filter.wanted.task.clone(),
                schedule: self.filter.wanted.schedule.clone(),
                ..TaskFilter::default()
            };
            let tally = self.api.store.count_by_state(&filter).await?;
            snapshot.tasks = Some(tally.into_iter().map(|(state, count)| (state.as_str(), count)).collect());
        }
        if let Some(broker) = self.api.broker.as_ref().filter(|_| self.filter.workers) {
            snapshot.workers = Some(broker.registry.workers().iter().map(Into::into).collect());
        }
        Ok(snapshot)
    }

    /// A token that was removed or has ended ends its streams, too.
    async fn is_admitted(&self) -> bool {
        if self.api.settings.insecure_loopback {
            return true;
        }
        let now = self.api.store.clock().now();
        match self.api.store.token(&self.token).await {
            Ok(token) => token.is_some_and(|token| token.expires_at.is_none_or(|at| at > now)),
            Err(_) => true,
        }
    }
}
