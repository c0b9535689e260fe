//! Tasks: published, looked at, steered.

mod message;
mod publish;
mod read;
mod steer;
pub(super) mod view;

use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, Caller, Problem};
use crate::plan::ScheduleName;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(read::list, publish::publish))
        .routes(routes!(publish::publish_many))
        .routes(routes!(read::counts))
        .routes(routes!(read::delayed))
        .routes(routes!(read::get))
        .routes(routes!(steer::cancel))
        .routes(routes!(steer::retry))
        .routes(routes!(steer::reschedule))
}

/// Which namespace a task is for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Place {
    /// The namespace. Default: the token's own, which of a token for all is `default`.
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$")]
    namespace: Option<String>,
}

impl Place {
    fn of(&self, caller: &Caller) -> Result<String, Problem> {
        let namespace = caller.namespace(self.namespace.as_deref())?;
        ScheduleName::new(&namespace, "any")?;
        Ok(namespace)
    }
}
