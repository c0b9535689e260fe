//! Kinds of tasks: those that were registered, and those that live workers announce. They belong to no namespace.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use jsonschema::{PatternOptions, Validator};
use leveret_common::topology::QueueName;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, At, Authorised, Body, Everywhere, Operator, Params, Problem, ProblemKind, Viewer,
    audit::summary,
    moment::Moment,
    page::{self, Page},
};
use crate::centre::store::StoredKind;

/// Errors of one value that are told.
const MOST_ERRORS: usize = 20;
/// The largest schema, in bytes.
const LARGEST: usize = 256 << 10;
/// Schemas that are kept ready.
const READY: usize = 1_000;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, remove))
}

/// A kind of task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskKind)]
pub(super) struct Kind {
    /// The tasks' name.
    name: String,
    /// The queue that they are published to unless a publish says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<String>,
    /// What they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The JSON Schema of their arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Value>,
    /// How many live workers have a handler for them.
    workers: usize,
    /// Whether it was registered; otherwise it is there because workers announce it.
    registered: bool,
    /// When it was last changed, if it was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_at: Option<Moment>,
}

impl Kind {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            queue: None,
            description: None,
            arguments: None,
            workers: 0,
            registered: false,
            changed_at: None,
        }
    }

    fn register(&mut self, stored: StoredKind) {
        self.queue = stored.queue.or(self.queue.take());
        self.description = stored.description;
        self.arguments = stored.arguments.or(self.arguments.take());
        self.registered = true;
        self.changed_at = Some(stored.changed_at.into());
    }
}

/// The kinds that live workers announce: those of one name, or all.
fn announced(api: &Api, name: Option<&str>) -> BTreeMap<String, Kind> {
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    let Some(broker) = &api.broker else { return kinds };
    let workers = broker.registry.workers();
    for task in workers.live().flat_map(|peer| peer.about.iter().flat_map(|about| &about.tasks)) {
        if name.is_some_and(|name| name != task.name) {
            continue;
        }
        let kind = kinds.entry(task.name.clone()).or_insert_with(|| Kind::named(&task.name));
        kind.workers += 1;
        kind.queue = kind.queue.take().or_else(|| task.queue.clone());
        kind.arguments = kind.arguments.take().or_else(|| task.schema.clone());
    }
    kinds
}

/// One kind, if it is known.
pub(super) async fn find(api: &Api, name: &str) -> Result<Option<Kind>, Problem> {
    let mut kind = announced(api, Some(name)).remove(name);
    if let Some(stored) = api.store.kind(name).await? {
        kind.get_or_insert_with(|| Kind::named(name)).register(stored);
    }
    Ok(kind)
}

/// Checks arguments against the schema of their kind, if there is one. `part` is where they are in the request, as a JSON
/// Pointer.
pub(super) fn check(api: &Api, kind: Option<&Kind>, arguments: &Value, part: &str) -> Result<(), Problem> {
    let Some(schema) = kind.and_then(|kind| kind.arguments.as_ref()) else { return Ok(()) };
    // A worker may announce what is no schema: that is no reason to publish nothing.
    let Ok(validator) = api.schemas.validator(schema) else { return Ok(()) };
    let mut errors = validator.iter_errors(arguments).take(MOST_ERRORS).peekable();
    if errors.peek().is_none() {
        return Ok(());
    }
    let problem = Problem::invalid("the arguments are not what the task's JSON Schema asks for");
    Err(errors
        .fold(problem, |problem, error| problem.part(format!("{part}{}", error.instance_path()), error.to_string())))
}

/// Schemas that are ready to be used.
#[derive(Debug, Default)]
pub(super) struct Schemas(Mutex<BTreeMap<String, Arc<Validator>>>);

impl Schemas {
    fn validator(&self, schema: &Value) -> Result<Arc<Validator>, String> {
        let text = schema.to_string();
        if let Some(ready) = self.0.lock().get(&text) {
            return Ok(ready.clone());
        }
        // Patterns that cannot take exponential time; and nothing is fetched from anywhere.
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
        let validator = Arc::new(options.build(schema).map_err(|error| error.to_string())?);
        let mut ready = self.0.lock();
        if ready.len() >= READY {
            ready.clear();
        }
        ready.insert(text, validator.clone());
        Ok(validator)
    }
}

/// Lists kinds of tasks
///
/// Those that were registered and those that live workers announce, in the order of their names.
#[utoipa::path(get, path = "/task-kinds", tag = "tasks", params(page::Paging), responses(
    (status = 200, description = "A page of them.", body = Page<Kind>),
), extensions(("x-role" = json!("viewer"))))]
async fn list(
    _: Authorised<Viewer>,
    State(api): State<Api>,
    Params(list): Params<page::Paging>,
) -> Result<Json<Page<Kind>>, Problem> {
    let limit = page::limit(list.limit)?;
    let after = page::behind::<String>(list.cursor.as_deref())?;
    let mut kinds = announced(&api, None);
    for stored in api.store.kinds().await? {
        kinds.entry(stored.name.clone()).or_insert_with(|| Kind::named(&stored.name)).register(stored);
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
    let found = kinds.into_values().filter(|kind| after.as_ref().is_none_or(|after| kind.name > *after)).take(most);
    Ok(Json(Page::of(found.collect(), limit, |last| last.name.clone())?))
}

/// Looks at a kind of task
#[utoipa::path(get, path = "/task-kinds/{name}", tag = "tasks",
    params(("name" = String, Path, description = "The tasks' name.", min_length = 1, max_length = 255)),
    responses((status = 200, description = "The kind.", body = Kind)),
    extensions(("x-role" = json!("viewer"))))]
async fn get(_: Authorised<Viewer>, State(api): State<Api>, At(name): At<String>) -> Result<Json<Kind>, Problem> {
    find(&api, &name).await?.map(Json).ok_or_else(|| Problem::not_found("task kind of this name"))
}

/// What is to be known of a kind of task.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "queue": "mail", "description": "Sends a letter.",
    "arguments": {"type": "object", "required": ["to"], "properties": {"to": {"type": "string"}}},
}))]
struct NewKind {
    /// The queue that they are published to unless a publish says otherwise.
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-]+$")]
    queue: Option<String>,
    /// What they do.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// The JSON Schema of their arguments, of any draft from 4 on; `$schema` names another than 2020-12. It refers to
    /// nothing outside of itself.
    arguments: Option<Value>,
}

/// Registers a kind of task, or changes it
///
/// From then on arguments are checked against its schema when they are published over this interface.
#[utoipa::path(put, path = "/task-kinds/{name}", tag = "tasks",
    params(("name" = String, Path, description = "The tasks' name.", min_length = 1, max_length = 255)),
    request_body = NewKind,
    responses((status = 200, description = "It is registered.", body = Kind)),
    extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
async fn put(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(name): At<String>,
    Body(new): Body<NewKind>,
) -> Result<Json<Kind>, Problem> {
    if !(1..=255).contains(&name.len()) {
        return Err(Problem::new(ProblemKind::Malformed, "a task's name has 1 to 255 bytes"));
    }
    if let Some(queue) = &new.queue {
        QueueName::new(queue).map_err(|error| Problem::invalid_part("/queue", error))?;
    }
    if new.description.as_ref().is_some_and(|text| text.chars().count() > 1_000) {
        return Err(Problem::invalid_part("/description", "it has over 1,000 characters"));
    }
    if let Some(schema) = &new.arguments {
        if schema.to_string().len() > LARGEST {
            return Err(Problem::invalid_part("/arguments", format!("the schema has over {LARGEST} bytes")));
        }
        let no_schema = |error| Problem::invalid_part("/arguments", format!("this is no JSON Schema: {error}"));
        api.schemas.validator(schema).map_err(no_schema)?;
    }
    let now = api.store.clock().now();
    let before = api.store.kind(&name).await?;
    let kind = StoredKind {
        name: name.clone(),
        revision: 0,
        queue: new.queue,
        description: new.description,
        arguments: new.arguments,
        created_at: now,
        changed_at: now,
    };
    let brief = |kind: &StoredKind| json!({"queue": kind.queue, "description": kind.description, "arguments": kind.arguments.as_ref().map(summary)});
    let mut entry = caller.change(now, "task-kind.save", &name);
    entry.before = before.as_ref().map(brief);
    entry.after = Some(brief(&kind));
    let mut transaction = api.store.database().begin().await?;
    api.store.save_kind(&mut transaction, &kind).await?;
    api.store.audit_in(&mut transaction, &entry).await?;
    transaction.commit().await?;
    find(&api, &name).await?.map(Json).ok_or_else(|| Problem::not_found("task kind of this name"))
}

/// Forgets a kind of task that was registered
///
/// One that live workers announce stays listed.
#[utoipa::path(delete, path = "/task-kinds/{name}", tag = "tasks",
    params(("name" = String, Path, description = "The tasks' name.", min_length = 1, max_length = 255)),
    responses((status = 204, description = "It is forgotten.")),
    extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
async fn remove(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(name): At<String>,
) -> Result<StatusCode, Problem> {
    let entry = caller.change(api.store.clock().now(), "task-kind.remove", &name);
    let mut transaction = api.store.database().begin().await?;
    if !api.store.remove_kind(&mut transaction, &name).await? {
        return Err(Problem::not_found("task kind of this name that was registered"));
    }
    api.store.audit_in(&mut transaction, &entry).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
