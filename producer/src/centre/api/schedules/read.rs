//! Looking at schedules.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Place, calendars, name_of,
    view::{Maker, Preview, Schedule, TickView},
};
use crate::{
    centre::{
        api::{
            Api, At, Authorised, Body, Params, Problem, ProblemKind, Viewer,
            moment::Moment,
            page::{self, Page},
            revision::{Base, etag},
        },
        store::ScheduleFilter,
    },
    plan::{Definition, Plan, ScheduleName},
};

/// Times in a preview unless asked otherwise, and at most.
pub(super) const TIMES: u32 = 5;
const MOST_TIMES: u32 = 1_000;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The namespace, or `*` for all. Default: the token's own, which of a token for all is `default`.
    #[param(min_length = 1, max_length = 100, pattern = "^([A-Za-z0-9._-]+|\\*)$")]
    namespace: Option<String>,
    /// With a label of this name, or of this name and value: `team` or `team=billing`.
    #[param(min_length = 1, max_length = 255)]
    label: Option<String>,
    /// With this text in its name or in its definition, large or small letters.
    #[param(min_length = 1, max_length = 255)]
    text: Option<String>,
    /// Paused, or not.
    paused: Option<bool>,
    /// Made by this.
    #[param(inline)]
    source: Option<Maker>,
    /// The `next` of the page before.
    #[param(max_length = 4096)]
    cursor: Option<String>,
    /// Items on the page. Default 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Lists schedules
///
/// In the order of their names.
#[utoipa::path(get, path = "/schedules", tag = "schedules", params(List), responses(
    (status = 200, description = "A page of them.", body = Page<Schedule>),
), extensions(("x-role" = json!("viewer"))))]
pub(super) async fn list(
    caller: Authorised<Viewer>,
    State(api): State<Api>,
    Params(list): Params<List>,
) -> Result<Json<Page<Schedule>>, Problem> {
    let label = list.label.map(|label| match label.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (label, None),
    });
    let filter = ScheduleFilter {
        namespace: caller.namespaces(list.namespace.as_deref())?,
        label,
        text: list.text,
        paused: list.paused,
        source: list.source.map(Into::into),
    };
    let (cursor, limit) = (page::behind::<String>(list.cursor.as_deref())?, page::limit(list.limit)?);
    let found = api.store.schedules(&filter, cursor.as_deref(), limit).await?;
    Ok(Json(Page::stored(found)?.map(Into::into)))
}

/// Looks at a schedule
#[utoipa::path(get, path = "/schedules/{name}", tag = "schedules",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        ("If-None-Match" = Option<String>, Header, description = "Answers 304 when it is still at this revision."),
        Place,
    ),
    responses(
        (status = 200, description = "The schedule.", body = Schedule, headers(("ETag" = String, description = "Its revision."))),
        (status = 304, description = "It is as it was."),
    ), extensions(("x-role" = json!("viewer"))))]
pub(super) async fn get(
    caller: Authorised<Viewer>,
    State(api): State<Api>,
    At(name): At<String>,
    Params(place): Params<Place>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = name_of(&caller, place.namespace.as_deref(), &name)?;
    let stored = api.store.schedule(&name).await?;
    let tag = etag(stored.revision);
    if Base::of(&headers)?.is_known(stored.revision) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json(Schedule::from(stored))).into_response())
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Ticks {
    /// The namespace. Default: the token's own, which of a token for all is `default`.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$")]
    namespace: Option<String>,
    /// The `next` of the page before.
    #[param(max_length = 4096)]
    cursor: Option<String>,
    /// Items on the page. Default 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Looks at the ticks of a schedule
///
/// The latest first. They outlive the schedule.
#[utoipa::path(get, path = "/schedules/{name}/ticks", tag = "schedules",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        Ticks,
    ),
    responses((status = 200, description = "A page of them.", body = Page<TickView>)),
    extensions(("x-role" = json!("viewer"))))]
pub(super) async fn ticks(
    caller: Authorised<Viewer>,
    State(api): State<Api>,
    At(name): At<String>,
    Params(list): Params<Ticks>,
) -> Result<Json<Page<TickView>>, Problem> {
    let name = name_of(&caller, list.namespace.as_deref(), &name)?;
    let (cursor, limit) = (page::behind::<String>(list.cursor.as_deref())?, page::limit(list.limit)?);
    let found = api.store.ticks(&name, cursor.as_deref(), limit).await?;
    if found.items.is_empty() && cursor.is_none() {
        // None so far is another answer than none of that name.
        api.store.schedule(&name).await?;
    }
    Ok(Json(Page::stored(found)?.map(Into::into)))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Ahead {
    /// The namespace. Default: the token's own, which of a token for all is `default`.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$")]
    namespace: Option<String>,
    /// Times after this moment. Default: now.
    #[param(value_type = Option<String>, format = DateTime)]
    after: Option<Moment>,
    /// How many times. Default 5.
    #[param(minimum = 1, maximum = 1000)]
    count: Option<u32>,
}

/// Shows when a schedule runs next
///
/// From its definition alone: whether it is paused, and how many runs are left, plays no part.
#[utoipa::path(get, path = "/schedules/{name}/preview", tag = "schedules",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        Ahead,
    ),
    responses((status = 200, description = "The next times.", body = Preview)),
    extensions(("x-role" = json!("viewer"))))]
pub(super) async fn preview_stored(
    caller: Authorised<Viewer>,
    State(api): State<Api>,
    At(name): At<String>,
    Params(ahead): Params<Ahead>,
) -> Result<Json<Preview>, Problem> {
    let name = name_of(&caller, ahead.namespace.as_deref(), &name)?;
    let definition = api.store.schedule(&name).await?.definition;
    times(&api, name, definition, ahead.after, ahead.count).await.map(Json)
}

/// A definition, and what to show of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "definition": {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "task": "report.nightly"},
    "after": "2027-03-27T00:00:00Z", "count": 3,
}))]
pub(super) struct Draft {
    /// The definition.
    definition: Definition,
    /// The name that it is to have, from which `H` and jitter follow. Default `preview`.
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$")]
    name: Option<String>,
    /// The namespace that it is to be in. Default: the token's own, which of a token for all is `default`.
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$")]
    namespace: Option<String>,
    /// Times after this moment. Default: now.
    after: Option<Moment>,
    /// How many times. Default 5.
    #[schema(minimum = 1, maximum = 1000)]
    count: Option<u32>,
}

/// Shows when a definition would run, without saving it
#[utoipa::path(post, path = "/preview", tag = "schedules", request_body = Draft, responses(
    (status = 200, description = "The next times.", body = Preview),
), extensions(("x-role" = json!("viewer"))))]
pub(super) async fn preview(
    caller: Authorised<Viewer>,
    State(api): State<Api>,
    Body(draft): Body<Draft>,
) -> Result<Json<Preview>, Problem> {
    let name = name_of(&caller, draft.namespace.as_deref(), draft.name.as_deref().unwrap_or("preview"))?;
    times(&api, name, draft.definition, draft.after, draft.count).await.map(Json)
}

async fn times(
    api: &Api,
    name: ScheduleName,
    definition: Definition,
    after: Option<Moment>,
    count: Option<u32>,
) -> Result<Preview, Problem> {
    let count = count.unwrap_or(TIMES);
    if !(1..=MOST_TIMES).contains(&count) {
        return Err(Problem::new(ProblemKind::Malformed, format!("`count` is 1 to {MOST_TIMES}")));
    }
    let calendars = calendars(api, &definition.calendars).await?;
    let plan = Plan::new(name, definition, &calendars)?;
    let now = api.store.clock().now();
    Ok(Preview::of(&plan, after.map_or(now, |after| after.0), count, now))
}
