//! Looking at tasks.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    publish::read_id,
    view::{Delayed, View},
};
use crate::centre::{
    api::{
        Api, At, Authorised, Caller, Params, Problem, ProblemKind, Viewer,
        moment::Moment,
        page::{self, Page},
    },
    store::tasks::{Cursor, InvalidCursor, Task, TaskFilter},
};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// The namespace, or `*` for all. Default: the token's own, which of a token for all is `default`.
    #[param(min_length = 1, max_length = 100, pattern = "^([A-Za-z0-9._-]+|\\*)$")]
    namespace: Option<String>,
    /// In one of these states, separated by commas: `scheduled`, `published`, `running`, `retrying`, `done`, `dead`,
    /// `cancelled`, `discarded`.
    #[param(min_length = 1, max_length = 255, example = "dead,retrying")]
    state: Option<String>,
    /// Of this name.
    #[param(min_length = 1, max_length = 255)]
    task: Option<String>,
    /// Of this queue.
    #[param(min_length = 1, max_length = 255)]
    queue: Option<String>,
    /// Of this schedule, with its namespace unless that is the default one.
    #[param(min_length = 1, max_length = 255)]
    schedule: Option<String>,
    /// Last run by a worker of this name, or by this instance.
    #[param(min_length = 1, max_length = 255)]
    worker: Option<String>,
    /// With these labels, separated by commas: `team=billing,env=live`.
    #[param(min_length = 3, max_length = 1000, example = "team=billing")]
    label: Option<String>,
    /// With this in the text of its error, large or small letters.
    #[param(min_length = 1, max_length = 255)]
    error: Option<String>,
    /// Made at this moment or later.
    #[param(value_type = Option<String>, format = DateTime)]
    created_from: Option<Moment>,
    /// Made before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<Moment>,
    /// Changed at this moment or later.
    #[param(value_type = Option<String>, format = DateTime)]
    changed_from: Option<Moment>,
    /// Changed before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    changed_before: Option<Moment>,
    /// The `next` of the page before.
    #[param(max_length = 4096)]
    cursor: Option<String>,
    /// Items on the page. Default 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

impl Search {
    fn filter(&self, caller: &Caller) -> Result<TaskFilter, Problem> {
        let wrong = |text: String| Problem::new(ProblemKind::Malformed, text);
        let mut states = Vec::new();
        for state in self.state.iter().flat_map(|states| states.split(',')) {
            states.push(state.parse().map_err(|error| wrong(format!("{error}")))?);
        }
        let mut labels = BTreeMap::new();
        for label in self.label.iter().flat_map(|labels| labels.split(',')) {
            let (name, value) =
                label.split_once('=').ok_or_else(|| wrong("`label` is to read `name=value`".to_owned()))?;
            labels.insert(name.to_owned(), value.to_owned());
        }
        Ok(TaskFilter {
            namespaces: caller.namespaces(self.namespace.as_deref())?.into_iter().collect(),
            states,
            task: self.task.clone(),
            queue: self.queue.clone(),
            schedule: self.schedule.clone(),
            worker: self.worker.clone(),
            labels,
            error: self.error.clone(),
            created_from: self.created_from.map(|at| at.0),
            created_before: self.created_before.map(|at| at.0),
            changed_from: self.changed_from.map(|at| at.0),
            changed_before: self.changed_before.map(|at| at.0),
        })
    }
}

/// Searches tasks
///
/// The newest first. Those that ask to be tracked, by their queue's setting or their own, and those that were published
/// over this interface.
#[utoipa::path(get, path = "/tasks", tag = "tasks", params(Search), responses(
    (status = 200, description = "A page of them.", body = Page<View>),
), extensions(("x-role" = json!("viewer"))))]
pub(super) async fn list(
    caller: Authorised<Viewer>,
    State(api): State<Api>,
    Params(search): Params<Search>,
) -> Result<Json<Page<View>>, Problem> {
    let (filter, limit) = (search.filter(&caller)?, page::limit(search.limit)?);
    let cursor = page::behind::<String>(search.cursor.as_deref())?;
    let cursor: Option<Cursor> = cursor
        .map(|cursor| cursor.parse())
        .transpose()
        .map_err(|error: InvalidCursor| Problem::new(ProblemKind::Malformed, error.to_string()))?;
    let found = api.store.search(&filter, cursor.as_ref(), limit).await?;
    Ok(Json(Page::stored(found)?.map(Into::into)))
}

/// How many tasks there are in each state.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"states": {"done": 120, "dead": 2}}))]
pub(super) struct Counts {
    /// By state, of those that have some.
    states: BTreeMap<&'static str, u64>,
}

/// Counts tasks by state
#[utoipa::path(get, path = "/task-counts", tag = "tasks", params(Search), responses(
    (status = 200, description = "How many there are.", body = Counts),
), extensions(("x-role" = json!("viewer"))))]
pub(super) async fn counts(
    caller: Authorised<Viewer>,
    State(api): State<Api>,
    Params(search): Params<Search>,
) -> Result<Json<Counts>, Problem> {
    let tally = api.store.count_by_state(&search.filter(&caller)?).await?;
    Ok(Json(Counts { states: tally.into_iter().map(|(state, count)| (state.as_str(), count)).collect() }))
}

/// Looks at a task
///
/// With its result and its attempts.
#[utoipa::path(get, path = "/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "Its id.", min_length = 1, max_length = 255)),
    responses((status = 200, description = "What is known of it.", body = View)),
    extensions(("x-role" = json!("viewer"))))]
pub(super) async fn get(
    caller: Authorised<Viewer>,
    State(api): State<Api>,
    At(id): At<String>,
) -> Result<Json<View>, Problem> {
    Ok(Json(known(&api, &caller, &id).await?.into()))
}

/// A task that is known, in a namespace that the caller may look into: of others it is not even said that they exist.
pub(super) async fn known(api: &Api, caller: &Caller, id: &str) -> Result<Task, Problem> {
    let task = api.store.task(&read_id(id)?).await?;
    let mine = task.filter(|task| caller.namespace(Some(&task.namespace)).is_ok());
    mine.ok_or_else(|| Problem::not_found("task of this id that is tracked"))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The namespace, or `*` for all. Default: the token's own, which of a token for all is `default`.
    #[param(min_length = 1, max_length = 100, pattern = "^([A-Za-z0-9._-]+|\\*)$")]
    namespace: Option<String>,
    /// The `next` of the page before.
    #[param(max_length = 4096)]
    cursor: Option<String>,
    /// Items on the page. Default 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Lists the tasks that the centre holds until they are due
///
/// In the order in which they are due.
#[utoipa::path(get, path = "/delayed-tasks", tag = "tasks", params(List), responses(
    (status = 200, description = "A page of them.", body = Page<Delayed>),
), extensions(("x-role" = json!("viewer"))))]
pub(super) async fn delayed(
    caller: Authorised<Viewer>,
    State(api): State<Api>,
    Params(list): Params<List>,
) -> Result<Json<Page<Delayed>>, Problem> {
    let namespace = caller.namespaces(list.namespace.as_deref())?;
    let (cursor, limit) = (page::behind::<String>(list.cursor.as_deref())?, page::limit(list.limit)?);
    let found = api.store.delayed(namespace.as_deref(), cursor.as_deref(), limit).await?;
    Ok(Json(Page::stored(found)?.map(Into::into)))
}
