//! All routes, and the document about them.

use axum::{Router, extract::DefaultBodyLimit, http::Uri, middleware::from_fn_with_state, routing::get};
use utoipa::{OpenApi as _, openapi::OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::{
    Api, Problem, ProblemKind, audit, calendars, centres, dead, document, events, guard, idempotency, kinds, limits,
    operations, queues, schedules, service, tasks, tokens, workers,
};

/// Where the interface is.
pub(super) const BASE: &str = "/api/v1";

fn routes() -> OpenApiRouter<Api> {
    let all = OpenApiRouter::new()
        .merge(service::routes())
        .merge(centres::routes())
        .merge(queues::routes())
        .merge(dead::routes())
        .merge(operations::routes())
        .merge(schedules::routes())
        .merge(calendars::routes())
        .merge(tasks::routes())
        .merge(kinds::routes())
        .merge(workers::routes())
        .merge(limits::routes())
        .merge(tokens::routes())
        .merge(audit::routes())
        .merge(events::routes());
    OpenApiRouter::with_openapi(document::Document::openapi()).nest(BASE, all)
}

/// The OpenAPI document.
pub fn openapi() -> OpenApi {
    let mut document = routes().into_openapi();
    document::complete(&mut document);
    document
}

/// The interface as an axum service, to be served, or asked by tests.
pub fn router(api: Api) -> Router {
    let (routes, _) = routes().split_for_parts();
    let limit = api.settings.body_limit;
    routes
        // As those of any other service, for who looks after services.
        .route("/live", get(service::live))
        .route("/ready", get(service::ready))
        .route("/metrics", get(service::metrics))
        .merge(SwaggerUi::new("/docs").url("/api/v1/openapi.json", openapi()))
        .fallback(async |uri: Uri| Problem::not_found(format!("path {}", uri.path())))
        .method_not_allowed_fallback(async || {
            Problem::new(ProblemKind::MethodNotAllowed, "the header `Allow` lists the methods by which it can be asked")
        })
        .layer(from_fn_with_state(api.clone(), idempotency::once))
        .layer(DefaultBodyLimit::max(limit))
        .layer(from_fn_with_state(api.clone(), guard::guard))
        .with_state(api)
}
