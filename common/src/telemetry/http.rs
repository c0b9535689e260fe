//! `/metrics`, `/live` and `/ready` over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | all series as Prometheus text |
//! | `GET /live` | 200 `ok`, or 503 with `{"failing":{"consumers":"why"}}`: starting the process anew would help |
//! | `GET /ready` | 200 `ok`, or 503 with `{"failing":{"broker":"why"}}` naming every check that fails: it should not be counted on now |

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::TelemetryError;

/// How long requests that are under way may take once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(1);

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

type Checks = BTreeMap<String, Check>;

/// The checks behind `/ready` and `/live`. Clones share them. With none the process is ready, and alive.
#[derive(Clone, Default)]
pub struct Health {
    ready: Arc<RwLock<Checks>>,
    live: Arc<RwLock<Checks>>,
}

impl Health {
    /// Without any check.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check, replacing one of the same name. It is called at every request for `/ready` and must not
    /// block: let it look at a flag. Its error says in a few words what is wrong.
    pub fn check(&self, name: impl Into<String>, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.ready.write().insert(name.into(), Arc::new(check));
    }

    /// Adds a check to `/live`, under the same terms. It is to fail only where starting the process anew would help: a
    /// broker that is away is no such reason.
    pub fn live_check(&self, name: impl Into<String>, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.live.write().insert(name.into(), Arc::new(check));
    }

    /// The checks of `/ready` that fail now, and why.
    pub fn failing(&self) -> BTreeMap<String, String> {
        failing(&self.ready)
    }

    /// The checks of `/live` that fail now, and why.
    pub fn failing_live(&self) -> BTreeMap<String, String> {
        failing(&self.live)
    }
}

fn failing(checks: &RwLock<Checks>) -> BTreeMap<String, String> {
    let checks = checks.read().clone();
    checks.into_iter().filter_map(|(name, check)| Some((name, check().err()?))).collect()
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |checks: &RwLock<Checks>| checks.read().keys().cloned().collect::<Vec<_>>();
        f.debug_struct("Health").field("ready", &names(&self.ready)).field("live", &names(&self.live)).finish()
    }
}

/// Takes the address to serve on, such as `127.0.0.1:9464`.
///
/// # Errors
/// [`TelemetryError::Bind`] when the address is taken or wrong.
pub async fn bind(address: &str) -> Result<TcpListener, TelemetryError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| TelemetryError::Bind { address: address.to_owned(), source })
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// [`TelemetryError::Serve`] when the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    registry: prometheus::Registry,
    shutdown: CancellationToken,
) -> Result<(), TelemetryError> {
    let routes = Router::new()
        .route("/metrics", get(metrics).with_state(registry))
        .route(
            "/live",
            get(async |State(health): State<Health>| answer(&health.failing_live())).with_state(health.clone()),
        )
        .route("/ready", get(async |State(health): State<Health>| answer(&health.failing())).with_state(health));
    let server = axum::serve(listener, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = server => served.map_err(TelemetryError::Serve),
        () = overdue => Ok(()),
    }
}

async fn metrics(State(registry): State<prometheus::Registry>) -> Response {
    match prometheus::TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn answer(failing: &BTreeMap<String, String>) -> Response {
    if failing.is_empty() {
        return "ok".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(serde_json::json!({ "failing": failing }))).into_response()
}
