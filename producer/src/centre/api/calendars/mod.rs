//! Calendars: looked at, changed, imported from iCalendar and CSV.

mod import;

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use serde_json::json;
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, At, Authorised, Everywhere, Operator, Params, Problem, ProblemKind, Viewer,
    moment::Moment,
    page::{self, Page},
    revision::{Base, etag},
};
use crate::{
    centre::store::{Followed, ScheduleFilter, StoredCalendar},
    plan::CalendarDay,
};
use import::{Days, Import, calendar};

/// The most days of a calendar.
const MOST_DAYS: usize = 10_000;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, remove))
}

/// A calendar.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Calendar)]
struct View {
    /// Its name.
    name: String,
    /// The days by their dates.
    days: BTreeMap<String, CalendarDay>,
    /// Raised with each change: the ETag.
    revision: i64,
    /// When it was made.
    created_at: Moment,
    /// When it was last changed.
    changed_at: Moment,
}

impl From<StoredCalendar> for View {
    fn from(stored: StoredCalendar) -> Self {
        Self {
            name: stored.calendar.name,
            days: stored.calendar.days,
            revision: stored.revision,
            created_at: stored.created_at.into(),
            changed_at: stored.changed_at.into(),
        }
    }
}

/// A calendar in short.
#[derive(Debug, Serialize, ToSchema)]
struct CalendarSummary {
    /// Its name.
    name: String,
    /// How many days it has.
    days: usize,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Date)]
    first: Option<String>,
    /// The last of them. It says nothing about later days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Date)]
    last: Option<String>,
    /// Raised with each change: the ETag.
    revision: i64,
}

impl From<StoredCalendar> for CalendarSummary {
    fn from(stored: StoredCalendar) -> Self {
        let days = &stored.calendar.days;
        Self {
            days: days.len(),
            first: days.keys().next().cloned(),
            last: days.keys().next_back().cloned(),
            name: stored.calendar.name,
            revision: stored.revision,
        }
    }
}

/// What a save came to.
#[derive(Debug, Serialize, ToSchema)]
struct SavedCalendar {
    /// Its name.
    name: String,
    /// The revision now.
    revision: i64,
    /// How many days it has.
    days: usize,
    /// How many schedules have had their next tick computed anew.
    schedules: u64,
    /// Those that could not follow it, each with its namespace unless that is the default one. They keep their next tick
    /// until they are changed.
    #[schema(example = json!(["billing/nightly"]))]
    not_followed: Vec<String>,
    /// What is not wrong but should be known.
    warnings: Vec<String>,
}

/// Lists calendars
///
/// In the order of their names. They belong to no namespace: everybody sees them.
#[utoipa::path(get, path = "/calendars", tag = "calendars", params(page::Paging), responses(
    (status = 200, description = "A page of them.", body = Page<CalendarSummary>),
), extensions(("x-role" = json!("viewer"))))]
async fn list(
    _: Authorised<Viewer>,
    State(api): State<Api>,
    Params(list): Params<page::Paging>,
) -> Result<Json<Page<CalendarSummary>>, Problem> {
    let limit = page::limit(list.limit)?;
    let after = page::behind::<String>(list.cursor.as_deref())?.unwrap_or_default();
    let found = api.store.calendars_after(&after, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |last| last.calendar.name.clone())?.map(Into::into)))
}

/// Looks at a calendar
#[utoipa::path(get, path = "/calendars/{name}", tag = "calendars",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        ("If-None-Match" = Option<String>, Header, description = "Answers 304 when it is still at this revision."),
    ),
    responses(
        (status = 200, description = "The calendar.", body = View, headers(("ETag" = String, description = "Its revision."))),
        (status = 304, description = "It is as it was."),
    ), extensions(("x-role" = json!("viewer"))))]
async fn get(
    _: Authorised<Viewer>,
    State(api): State<Api>,
    At(name): At<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let stored = find(&api, &name).await?.ok_or_else(|| Problem::not_found(format!("calendar {name}")))?;
    let tag = etag(stored.revision);
    if Base::of(&headers)?.is_known(stored.revision) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json(View::from(stored))).into_response())
}

/// Makes or changes a calendar
///
/// From JSON, or from a file that others publish: iCalendar (`text/calendar`) or CSV (`text/csv`, lines such as
/// `2027-02-06,work,Spring Festival`). The next ticks of schedules that refer to it are computed anew; one that cannot follow it
/// holds up no other.
#[utoipa::path(put, path = "/calendars/{name}", tag = "calendars",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        ("If-Match" = Option<String>, Header, description = "The ETag that it must have, or `*`: it must be there."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it must not be there."),
        Import,
    ),
    request_body(content(
        (Days = "application/json"),
        (String = "text/calendar"),
        (String = "text/csv"),
    )),
    responses(
        (status = 200, description = "It was changed.", body = SavedCalendar, headers(("ETag" = String, description = "Its revision."))),
        (status = 201, description = "It was made.", body = SavedCalendar, headers(("ETag" = String, description = "Its revision."))),
        (status = 412, description = "It is not what the change is based on.", body = Problem, content_type = "application/problem+json"),
    ), extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
async fn put(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(name): At<String>,
    Params(import): Params<Import>,
    request: Request,
) -> Result<Response, Problem> {
    check_name(&name)?;
    let headers = request.headers().clone();
    let before = find(&api, &name).await?;
    let revision = before.as_ref().map(|before| before.revision);
    Base::of(&headers)?.check(revision)?;
    let calendar = calendar(&api, name, &import, request).await?;
    if calendar.days.len() > MOST_DAYS {
        return Err(Problem::invalid_part("/days", format!("it has over {MOST_DAYS} days")));
    }
    let now = api.store.clock().now();
    let mut entry = caller.change(now, "calendar.save", &calendar.name);
    entry.before = before.map(|before| json!({"days": before.calendar.days.len(), "revision": before.revision}));
    entry.after = Some(json!({"days": calendar.days.len()}));
    let mut transaction = api.store.database().begin().await?;
    let saved = api.store.save_calendar(&mut transaction, &calendar, revision).await?;
    let saved = saved.ok_or_else(|| Problem::new(ProblemKind::PreconditionFailed, "it was changed just now"))?;
    api.store.audit_in(&mut transaction, &entry).await?;
    transaction.commit().await?;
    let Followed { changed: schedules, left } = follow(&api, &calendar.name).await?;
    let warning =
        |(schedule, error)| format!("the schedule {schedule} cannot follow it and keeps its next tick: {error}");
    let answer = SavedCalendar {
        days: calendar.days.len(),
        name: calendar.name,
        revision: saved,
        schedules,
        not_followed: left.iter().map(|(schedule, _)| schedule.to_string()).collect(),
        warnings: left.into_iter().map(warning).collect(),
    };
    let status = if revision.is_none() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, etag(saved), Json(answer)).into_response())
}

/// Computes the next ticks of the schedules that refer to a calendar which has changed.
async fn follow(api: &Api, name: &str) -> Result<Followed, Problem> {
    let all: Vec<_> = api.store.calendars().await?.into_iter().map(|stored| stored.calendar).collect();
    let followed = api.store.calendar_changed(name, &all).await?;
    for (schedule, error) in &followed.left {
        warn!(calendar = name, %schedule, "a schedule cannot follow its calendar and keeps its next tick: {error}");
    }
    Ok(followed)
}

/// Removes a calendar
///
/// 409 while schedules refer to it.
#[utoipa::path(delete, path = "/calendars/{name}", tag = "calendars",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        ("If-Match" = Option<String>, Header, description = "The ETag that it must have."),
    ),
    responses(
        (status = 204, description = "It is gone."),
        (status = 409, description = "Schedules refer to it.", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It has changed in the meantime.", body = Problem, content_type = "application/problem+json"),
    ), extensions(("x-role" = json!("operator")), ("x-everywhere" = json!(true))))]
async fn remove(
    caller: Authorised<Everywhere<Operator>>,
    State(api): State<Api>,
    At(name): At<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let stored = find(&api, &name).await?.ok_or_else(|| Problem::not_found(format!("calendar {name}")))?;
    Base::of(&headers)?.check(Some(stored.revision))?;
    if let Some(user) = a_user(&api, &name).await? {
        let text = format!("the schedule {user} refers to it, and perhaps others: change those first");
        return Err(Problem::new(ProblemKind::Conflict, text));
    }
    let mut entry = caller.change(api.store.clock().now(), "calendar.remove", &name);
    entry.before = Some(json!({"days": stored.calendar.days.len(), "revision": stored.revision}));
    let mut transaction = api.store.database().begin().await?;
    if !api.store.remove_calendar(&mut transaction, &name, stored.revision).await? {
        return Err(Problem::new(ProblemKind::PreconditionFailed, "it was changed just now"));
    }
    api.store.audit_in(&mut transaction, &entry).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn a_user(api: &Api, calendar: &str) -> Result<Option<String>, Problem> {
    let filter = ScheduleFilter { text: Some(calendar.to_owned()), ..ScheduleFilter::default() };
    let mut cursor = None;
    loop {
        let page = api.store.schedules(&filter, cursor.as_deref(), 1_000).await?;
        let refers = |names: &[String]| names.iter().any(|name| name == calendar);
        if let Some(user) = page.items.iter().find(|schedule| refers(&schedule.definition.calendars)) {
            return Ok(Some(user.name.to_string()));
        }
        let Some(next) = page.next else { return Ok(None) };
        cursor = Some(next);
    }
}

async fn find(api: &Api, name: &str) -> Result<Option<StoredCalendar>, Problem> {
    check_name(name)?;
    Ok(api.store.calendar(name).await?)
}

fn check_name(name: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=100).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(Problem::new(ProblemKind::Malformed, "a calendar's name has 1 to 100 letters, digits, `-`, `_` and `.`"))
}
