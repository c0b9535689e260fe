//! Making, changing and removing schedules.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

use super::{Place, calendars, change, name_of, read::TIMES, view::Preview, view::SavedSchedule};
use crate::{
    centre::{
        api::{
            Api, At, Authorised, Body, Operator, Params, Problem,
            audit::summary,
            revision::{Base, etag},
        },
        store::{Expected, ScheduleError, Source, StoredSchedule},
    },
    plan::{Definition, Plan, ScheduleName},
};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Saving {
    /// The namespace. Default: the token's own, which of a token for all is `default`.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$")]
    namespace: Option<String>,
    /// Whether to save nothing, and only say what would come of it. Default no.
    #[serde(default)]
    dry_run: bool,
}

/// Makes or changes a schedule
///
/// What it has done so far stays. The answer shows the next times, with offsets and what the clock does.
#[utoipa::path(put, path = "/schedules/{name}", tag = "schedules",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        ("If-Match" = Option<String>, Header, description = "The ETag that it must have, or `*`: it must be there."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it must not be there."),
        Saving,
    ),
    request_body(content = Definition, example = json!({
        "cron": "30 2 * * 1-5", "timezone": "Europe/Berlin", "task": "report.nightly", "queue": "reports",
        "payload": {"format": "pdf", "day": "{{scheduled_at}}"}, "overlap": "skip",
    })),
    responses(
        (status = 200, description = "It was changed, or was so already.", body = SavedSchedule, headers(("ETag" = String, description = "Its revision."))),
        (status = 201, description = "It was made.", body = SavedSchedule, headers(("ETag" = String, description = "Its revision."))),
        (status = 412, description = "It is not what the change is based on.", body = Problem, content_type = "application/problem+json"),
    ), extensions(("x-role" = json!("operator"))))]
pub(super) async fn put(
    caller: Authorised<Operator>,
    State(api): State<Api>,
    At(name): At<String>,
    Params(saving): Params<Saving>,
    headers: HeaderMap,
    Body(definition): Body<Definition>,
) -> Result<Response, Problem> {
    let name = name_of(&caller, saving.namespace.as_deref(), &name)?;
    let before = find(&api, &name).await?;
    let expected = expected(&headers, before.as_ref())?;
    let calendars = calendars(&api, &definition.calendars).await?;
    let plan = Plan::new(name.clone(), definition.clone(), &calendars)?;
    let now = api.store.clock().now();
    let mut answer = SavedSchedule {
        namespace: name.namespace().to_owned(),
        name: name.name().to_owned(),
        revision: before.as_ref().map(|before| before.revision),
        is_new: before.is_none(),
        has_changed: before.as_ref().is_none_or(|before| before.definition != definition),
        dry_run: saving.dry_run,
        preview: Preview::of(&plan, now, TIMES, now),
    };
    if saving.dry_run {
        return Ok(Json(answer).into_response());
    }
    let mut entry = change(&api, &caller, "schedule.save", &name);
    entry.before = before.map(|before| summary(&before.definition));
    entry.after = Some(summary(&definition));
    let saved = api.store.save_schedule(&name, &definition, &calendars, Source::Api, expected, Some(&entry)).await?;
    answer.revision = Some(saved.revision);
    (answer.is_new, answer.has_changed) = (saved.is_new, saved.has_changed);
    let status = if saved.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, etag(saved.revision), Json(answer)).into_response())
}

/// Removes a schedule
///
/// Its ticks that wait for others to end are skipped; those that are to be published already still are.
#[utoipa::path(delete, path = "/schedules/{name}", tag = "schedules",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        ("If-Match" = Option<String>, Header, description = "The ETag that it must have."),
        Place,
    ),
    responses(
        (status = 204, description = "It is gone."),
        (status = 412, description = "It has changed in the meantime.", body = Problem, content_type = "application/problem+json"),
    ), extensions(("x-role" = json!("operator"))))]
pub(super) async fn remove(
    caller: Authorised<Operator>,
    State(api): State<Api>,
    At(name): At<String>,
    Params(place): Params<Place>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let name = name_of(&caller, place.namespace.as_deref(), &name)?;
    let before = api.store.schedule(&name).await?;
    let expected = expected(&headers, Some(&before))?;
    let mut entry = change(&api, &caller, "schedule.remove", &name);
    entry.before = Some(summary(&before.definition));
    api.store.remove_schedule(&name, expected, Some(&entry)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(api: &Api, name: &ScheduleName) -> Result<Option<StoredSchedule>, Problem> {
    match api.store.schedule(name).await {
        Ok(found) => Ok(Some(found)),
        Err(ScheduleError::Absent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What the change expects to find: what was found, if the request says what it is based on.
fn expected(headers: &HeaderMap, found: Option<&StoredSchedule>) -> Result<Expected, Problem> {
    let base = Base::of(headers)?;
    let revision = found.map(|found| found.revision);
    base.check(revision)?;
    Ok(match (base.is_given(), revision) {
        (false, _) => Expected::Any,
        (true, Some(revision)) => Expected::Revision(revision),
        (true, None) => Expected::Absent,
    })
}
