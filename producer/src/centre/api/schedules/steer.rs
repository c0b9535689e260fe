//! Pausing, resuming and running schedules.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Place, calendars, change, name_of, view::Schedule};
use crate::centre::{
    api::{
        Api, At, Authorised, Body, MaybeBody, Operator, Params, Problem, ProblemKind, audit::summary, kinds,
        moment::Moment,
    },
    store::{Expected, ScheduleError, StoredSchedule, ticks},
};
use crate::plan::{Calendar, Plan, TickKind};

/// Why it is paused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "the mail server is being moved"}))]
pub(super) struct Reason {
    /// Why, for people.
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// Pauses a schedule
///
/// It has no ticks until it is resumed, and those of that time are not made up for.
#[utoipa::path(post, path = "/schedules/{name}/pause", tag = "schedules",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        Place,
    ),
    request_body = Option<Reason>,
    responses((status = 200, description = "It is paused.", body = Schedule)),
    extensions(("x-role" = json!("operator"))))]
pub(super) async fn pause(
    caller: Authorised<Operator>,
    State(api): State<Api>,
    At(name): At<String>,
    Params(place): Params<Place>,
    MaybeBody(reason): MaybeBody<Option<Reason>>,
) -> Result<Json<Schedule>, Problem> {
    let name = name_of(&caller, place.namespace.as_deref(), &name)?;
    let reason = reason.and_then(|reason| reason.reason).unwrap_or_default();
    if reason.chars().count() > 1_000 {
        return Err(Problem::invalid_part("/reason", "it has over 1,000 characters"));
    }
    let mut entry = change(&api, &caller, "schedule.pause", &name);
    entry.after = Some(json!({"reason": reason}));
    api.store.pause_schedule(&name, &reason, Expected::Any, Some(&entry)).await?;
    Ok(Json(api.store.schedule(&name).await?.into()))
}

/// Resumes a schedule
///
/// Its next tick is the first after now. One that is not paused stays as it is.
#[utoipa::path(post, path = "/schedules/{name}/resume", tag = "schedules",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        Place,
    ),
    responses((status = 200, description = "It is not paused.", body = Schedule)),
    extensions(("x-role" = json!("operator"))))]
pub(super) async fn resume(
    caller: Authorised<Operator>,
    State(api): State<Api>,
    At(name): At<String>,
    Params(place): Params<Place>,
) -> Result<Json<Schedule>, Problem> {
    let name = name_of(&caller, place.namespace.as_deref(), &name)?;
    let before = api.store.schedule(&name).await?;
    let calendars = calendars(&api, &before.definition.calendars).await?;
    let mut entry = change(&api, &caller, "schedule.resume", &name);
    entry.before = Some(json!({"reason": before.paused}));
    api.store.resume_schedule(&name, &calendars, Expected::Any, Some(&entry)).await?;
    Ok(Json(api.store.schedule(&name).await?.into()))
}

/// How it is to run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"payload": {"day": "2027-01-01"}}))]
pub(super) struct Run {
    /// Arguments in place of the definition's.
    #[serde(default, deserialize_with = "present")]
    payload: Option<Value>,
}

/// `null` is a value as any other.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The task that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Made {
    /// Its id.
    task_id: String,
}

/// Runs a schedule now
///
/// Whether it is paused or not; its own ticks stay as they are. Where its runs may not overlap it waits for those that
/// have not ended. Other arguments are checked as those of a definition, and against the JSON Schema of the task's kind
/// where there is one.
#[utoipa::path(post, path = "/schedules/{name}/run", tag = "schedules",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        Place,
    ),
    request_body = Option<Run>,
    responses((status = 202, description = "It is to run.", body = Made)),
    extensions(("x-role" = json!("operator"))))]
pub(super) async fn run(
    caller: Authorised<Operator>,
    State(api): State<Api>,
    At(name): At<String>,
    Params(place): Params<Place>,
    MaybeBody(run): MaybeBody<Option<Run>>,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let name = name_of(&caller, place.namespace.as_deref(), &name)?;
    let schedule = api.store.schedule(&name).await?;
    let calendars = calendars(&api, &schedule.definition.calendars).await?;
    let payload = run.and_then(|run| run.payload);
    if payload.is_some() {
        check(&api, &schedule, payload.clone(), &calendars).await?;
    }
    let mut entry = change(&api, &caller, "schedule.run", &name);
    entry.after = Some(json!({"payload": payload.as_ref().map(summary)}));
    let has_payload = payload.is_some();
    let made = api.store.run_schedule_now(&name, payload, &calendars, Some(&entry)).await;
    let task_id = made.map_err(|error| match error {
        ScheduleError::Message(error) if has_payload => Problem::invalid_part("/payload", error),
        other => other.into(),
    })?;
    Ok((StatusCode::ACCEPTED, Json(Made { task_id: task_id.to_string() })))
}

/// Checks other arguments against the JSON Schema of the task's kind, as they would be published.
async fn check(
    api: &Api,
    schedule: &StoredSchedule,
    payload: Option<Value>,
    calendars: &[Calendar],
) -> Result<(), Problem> {
    let plan = Plan::new(schedule.name.clone(), schedule.definition.clone(), calendars)?;
    let facts = ticks::facts(schedule, api.store.clock().now(), TickKind::Now, payload);
    let kind = kinds::find(api, &schedule.definition.task).await?;
    kinds::check(api, kind.as_ref(), &plan.arguments(&facts), "/payload")
}

/// Which ticks to run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"from": "2027-01-01T00:00:00Z", "until": "2027-01-02T00:00:00Z", "limit": 100}))]
pub(super) struct Range {
    /// From this moment on.
    from: Moment,
    /// Up to this moment, and with it.
    until: Moment,
    /// At most so many, the oldest. Default 100.
    #[schema(minimum = 1, maximum = 10000)]
    limit: Option<u32>,
}

/// How many ticks run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Backfilled {
    /// How many; those that were backfilled before do not count.
    ticks: usize,
}

/// Runs the ticks of a past range
///
/// Whether they ran at their time or not, the oldest first. Where its runs may not overlap they run one after another.
#[utoipa::path(post, path = "/schedules/{name}/backfill", tag = "schedules",
    params(
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$"),
        Place,
    ),
    request_body = Range,
    responses((status = 202, description = "They are to run.", body = Backfilled)),
    extensions(("x-role" = json!("operator"))))]
pub(super) async fn backfill(
    caller: Authorised<Operator>,
    State(api): State<Api>,
    At(name): At<String>,
    Params(place): Params<Place>,
    Body(range): Body<Range>,
) -> Result<(StatusCode, Json<Backfilled>), Problem> {
    let name = name_of(&caller, place.namespace.as_deref(), &name)?;
    let limit = range.limit.unwrap_or(100);
    if !(1..=10_000).contains(&limit) {
        return Err(Problem::invalid_part("/limit", "it is 1 to 10,000"));
    }
    let now = api.store.clock().now();
    if range.until < range.from || range.until.0 > now {
        return Err(Problem::new(
            ProblemKind::Invalid,
            "write an `until` that is not before `from`, and that has passed",
        ));
    }
    let definition = api.store.schedule(&name).await?.definition;
    let calendars = calendars(&api, &definition.calendars).await?;
    let mut entry = change(&api, &caller, "schedule.backfill", &name);
    entry.after = Some(json!({"from": range.from, "until": range.until}));
    let (from, until) = (range.from.0, range.until.0);
    let ticks = api.store.backfill_schedule(&name, from, until, limit, &calendars, Some(&entry)).await?;
    Ok((StatusCode::ACCEPTED, Json(Backfilled { ticks })))
}
