//! Schedules: made, changed, steered, looked at.

mod read;
mod save;
mod steer;
pub(super) mod view;

use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, Caller, Problem, ProblemKind};
use crate::{
    centre::store::{AuditEntry, ScheduleError},
    plan::{Calendar, ScheduleName},
};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(read::list))
        .routes(routes!(read::get, save::put, save::remove))
        .routes(routes!(read::ticks))
        .routes(routes!(read::preview_stored))
        .routes(routes!(read::preview))
        .routes(routes!(steer::pause))
        .routes(routes!(steer::resume))
        .routes(routes!(steer::run))
        .routes(routes!(steer::backfill))
}

/// Which namespace is meant.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Place {
    /// The namespace. Default: the token's own, which of a token for all is `default`.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$")]
    namespace: Option<String>,
}

fn name_of(caller: &Caller, namespace: Option<&str>, name: &str) -> Result<ScheduleName, Problem> {
    Ok(ScheduleName::new(&caller.namespace(namespace)?, name)?)
}

/// A change to a schedule, for the audit log.
fn change(api: &Api, caller: &Caller, action: &str, name: &ScheduleName) -> AuditEntry {
    let namespace = Some(name.namespace().to_owned());
    AuditEntry { namespace, ..caller.change(api.store.clock().now(), action, name.name()) }
}

/// The calendars that a definition names, as far as they are there.
async fn calendars(api: &Api, names: &[String]) -> Result<Vec<Calendar>, Problem> {
    let stored = api.store.calendars_named(names).await?;
    Ok(stored.into_iter().map(|stored| stored.calendar).collect())
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Absent { .. } => Self::new(ProblemKind::NotFound, error.to_string()),
            ScheduleError::Changed { .. } => Self::new(ProblemKind::PreconditionFailed, error.to_string()),
            ScheduleError::Invalid(error) => error.into(),
            ScheduleError::Message(error) => error.into(),
            ScheduleError::Cursor { .. } => Self::new(ProblemKind::Malformed, error.to_string()),
            ScheduleError::Database(error) => error.into(),
        }
    }
}
