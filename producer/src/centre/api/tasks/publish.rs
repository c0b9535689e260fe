//! Publishing tasks, one or many, now or later.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use leveret_common::{clock::UnixMillis, message::Message, task::TaskId, trace_context::TraceContext};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{Place, message::NewTask, view::State as TaskState};
use crate::centre::{
    api::{
        Api, Authorised, Body, Caller, Params, Problem, ProblemKind, Publisher,
        audit::{failed, summary},
        kinds,
        moment::Moment,
    },
    store::{
        AuditEntry,
        tasks::{RecordedState, TaskRecord},
    },
};

/// The most tasks of one request.
const MOST: usize = 1_000;

/// A task that was published, or is held until it is due.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Published {
    /// Its id.
    id: String,
    /// Its queue.
    queue: String,
    /// `published`: the broker has it. `scheduled`: the centre holds it.
    state: TaskState,
    /// When it is published, if the centre holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<Moment>,
}

/// A task that is ready to go.
struct Ready {
    new: NewTask,
    message: Message,
    due_at: Option<UnixMillis>,
}

impl Ready {
    async fn of(api: &Api, new: NewTask, now: UnixMillis) -> Result<Self, Problem> {
        let kind = kinds::find(api, &new.task).await?;
        kinds::check(api, kind.as_ref(), &new.arguments, "/arguments")?;
        let queue = new.queue.clone().or_else(|| kind.and_then(|kind| kind.queue));
        let message = new.message(queue.as_deref().unwrap_or("default"))?;
        // What could never be published is refused here, with the rest.
        message.to_stored(api.store.clock())?;
        Ok(Self { due_at: new.due_at(now)?, new, message })
    }

    fn record(&self, namespace: &str, now: UnixMillis) -> TaskRecord {
        TaskRecord {
            id: self.message.task_id().clone(),
            namespace: namespace.to_owned(),
            task: self.new.task.clone(),
            queue: self.message.queue_name().to_owned(),
            state: if self.due_at.is_some() { RecordedState::Scheduled } else { RecordedState::Published },
            at: now,
            created_at: now,
            due_at: self.due_at,
            schedule: None,
            labels: self.new.labels.clone(),
            trace_id: TraceContext::current().map(|trace| trace.trace_id().to_string()),
            reason: None,
        }
    }

    fn published(&self) -> Published {
        Published {
            id: self.message.task_id().to_string(),
            queue: self.message.queue_name().to_owned(),
            state: if self.due_at.is_some() { TaskState::Scheduled } else { TaskState::Published },
            due_at: self.due_at.map(Into::into),
        }
    }
}

/// Publishes a task
///
/// Answered once the broker has confirmed it, or, of one that is to run later, once it is kept. Arguments are checked
/// against the JSON Schema of the task's kind where there is one.
#[utoipa::path(post, path = "/tasks", tag = "tasks", params(Place), request_body = NewTask, responses(
    (status = 201, description = "The broker has it, or the centre holds it.", body = Published, headers(("Location" = String, description = "Where to look what becomes of it."))),
    (status = 409, description = "No queue takes it.", body = Problem, content_type = "application/problem+json"),
), extensions(("x-role" = json!("publisher"))))]
pub(super) async fn publish(
    caller: Authorised<Publisher>,
    State(api): State<Api>,
    Params(place): Params<Place>,
    Body(new): Body<NewTask>,
) -> Result<Response, Problem> {
    let namespace = place.of(&caller)?;
    let now = api.store.clock().now();
    let ready = Ready::of(&api, new, now).await?;
    let published = ready.published();
    send(&api, &caller, &namespace, now, vec![ready]).await?.into_iter().next().transpose()?;
    let path = format!("/api/v1/tasks/{}", percent(&published.id));
    let location = HeaderValue::from_str(&path).map_err(|error| Problem::internal(&error))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(published)).into_response())
}

/// Tasks to be published.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tasks": [{"task": "mail.send", "arguments": {"to": "ann@example.com"}}]}))]
pub(super) struct Batch {
    /// The tasks, at most 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    tasks: Vec<NewTask>,
}

/// What became of each.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BatchAnswer {
    /// In the order of the tasks.
    tasks: Vec<BatchPart>,
    /// How many of them failed.
    failed: usize,
}

/// What became of one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BatchPart {
    /// The task, if the broker has it or the centre holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<Published>,
    /// Why not, otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// Publishes many tasks
///
/// All are on their way at once. Either all can be read, or none is published; after that, each succeeds or fails by
/// itself: look at `failed`.
#[utoipa::path(post, path = "/task-batches", tag = "tasks", params(Place), request_body = Batch, responses(
    (status = 200, description = "What became of each.", body = BatchAnswer),
), extensions(("x-role" = json!("publisher"))))]
pub(super) async fn publish_many(
    caller: Authorised<Publisher>,
    State(api): State<Api>,
    Params(place): Params<Place>,
    Body(batch): Body<Batch>,
) -> Result<Json<BatchAnswer>, Problem> {
    let namespace = place.of(&caller)?;
    if !(1..=MOST).contains(&batch.tasks.len()) {
        return Err(Problem::invalid_part("/tasks", format!("there are to be 1 to {MOST}")));
    }
    let now = api.store.clock().now();
    let mut ready = Vec::with_capacity(batch.tasks.len());
    for (index, new) in batch.tasks.into_iter().enumerate() {
        ready.push(Ready::of(&api, new, now).await.map_err(|problem| problem.within(&format!("/tasks/{index}")))?);
    }
    let published: Vec<_> = ready.iter().map(Ready::published).collect();
    let results = send(&api, &caller, &namespace, now, ready).await?;
    let parts = published.into_iter().zip(results).map(|(published, result)| match result {
        Ok(()) => BatchPart { published: Some(published), problem: None },
        Err(problem) => BatchPart { published: None, problem: Some(problem) },
    });
    let tasks: Vec<_> = parts.collect();
    Ok(Json(BatchAnswer { failed: tasks.iter().filter(|part| part.problem.is_some()).count(), tasks }))
}

/// Keeps what is to run later, and publishes what is to run now; what became of each, in their order. All of it is one
/// line in the audit log, written before anything goes to the broker.
async fn send(
    api: &Api,
    caller: &Caller,
    namespace: &str,
    now: UnixMillis,
    ready: Vec<Ready>,
) -> Result<Vec<Result<(), Problem>>, Problem> {
    let mut later = Vec::new();
    let mut at_once = Vec::new();
    for ready in &ready {
        match ready.due_at {
            Some(due_at) => later.push((ready.message.to_stored(api.store.clock())?, due_at)),
            None => at_once.push(ready.message.clone()),
        }
    }
    let broker = if at_once.is_empty() { None } else { Some(api.need_broker()?) };
    let line = line(caller, namespace, now, &ready);
    if later.is_empty() {
        api.store.audit(&line).await?;
    } else {
        api.store.publish_many_later(later, namespace, Some(&line)).await?;
    }
    let confirmed = match broker {
        Some(broker) => broker.client.publish_many(at_once).await,
        None => Vec::new(),
    };
    let mut confirmed = confirmed.into_iter();
    let mut result = |ready: &Ready| match ready.due_at {
        Some(_) => Ok(()),
        None => match confirmed.next() {
            Some(confirmed) => confirmed.map(drop).map_err(Problem::from),
            None => Err(Problem::new(ProblemKind::Internal, "")),
        },
    };
    let results: Vec<_> = ready.iter().map(&mut result).collect();
    let mut problems = results.iter().filter_map(|result| result.as_ref().err());
    if let Some(first) = problems.next() {
        failed(api, line, json!({"tasks": 1 + problems.count(), "problem": summary(first)})).await;
    }
    let records: Vec<_> = ready
        .iter()
        .zip(&results)
        .filter(|(ready, result)| result.is_ok() && (ready.new.track || ready.due_at.is_some()))
        .map(|(ready, _)| ready.record(namespace, now))
        .collect();
    api.announce(api.store.record_published(&records).await?).await;
    Ok(results)
}

/// The line of the audit log, named after the first of the tasks.
fn line(caller: &Caller, namespace: &str, now: UnixMillis, ready: &[Ready]) -> AuditEntry {
    let first = ready.first().map(|ready| &ready.message);
    let id = first.map(|message| message.task_id().to_string()).unwrap_or_default();
    let queue = first.map(|message| message.queue_name());
    let (namespace, after) = (Some(namespace.to_owned()), Some(json!({"tasks": ready.len(), "queue": queue})));
    AuditEntry { namespace, after, ..caller.change(now, "task.publish", id) }
}

/// An id in a path.
fn percent(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    id.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The id that a path names.
pub(super) fn read_id(id: &str) -> Result<TaskId, Problem> {
    id.parse().map_err(|error| Problem::new(ProblemKind::Malformed, format!("{error}")))
}
