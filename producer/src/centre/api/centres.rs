//! The centres that share the database.

#![allow(unused_qualifications, reason = "what utoipa writes has some")]

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, Authorised, Problem, Viewer, moment::Moment, page::Page};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A centre that is alive.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Centre)]
struct View {
    /// Its id, new at each start.
    id: String,
    /// Its name.
    name: String,
    /// Where it serves this interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Its version.
    version: String,
    /// When it was started, by its own clock.
    started_at: Moment,
    /// When it was heard of last, by the database's clock.
    beat_at: Moment,
    /// How many of the parts of the schedules it holds.
    shards: i64,
}

/// List the centres that are alive
///
/// All that share the database, this one among them.
#[utoipa::path(get, path = "/centres", tag = "service", responses(
    (status = 200, description = "The centres.", body = Page<View>),
), extensions(("x-role" = json!("viewer"))))]
async fn list(_: Authorised<Viewer>, State(api): State<Api>) -> Result<Json<Page<View>>, Problem> {
    let centres = api.store.centres().await?.into_iter().map(|centre| View {
        id: centre.id,
        name: centre.name,
        address: centre.address,
        version: centre.version,
        started_at: centre.started_at.into(),
        beat_at: centre.beat_at.into(),
        shards: centre.shards,
    });
    Ok(Json(Page::whole(centres.collect())))
}
