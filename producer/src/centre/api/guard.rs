//! What surrounds every request: an id, a span, a time limit, and an answer that can be read whatever happens.

use std::panic::AssertUnwindSafe;

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Limited};
use tracing::{Instrument as _, Span, debug, error, info_span};
use uuid::Uuid;

use super::{Api, Problem, ProblemKind, problem::PROBLEM_JSON};

/// The header with the request's id, of requests and of answers.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// An error text of axum's own is shorter than this.
const LARGEST_TEXT: usize = 4_096;

/// The request, as logs and the audit log name it: a UUID.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// Surrounds a request.
pub(super) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).and_then(|id| Uuid::try_parse_ascii(id.as_bytes()).ok());
    let id = given.unwrap_or_else(Uuid::now_v7).to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let span = info_span!("request", id, method = %request.method(), path = request.uri().path(), route, status = tracing::field::Empty);
    let response = answer(&api, request, next).instrument(span.clone()).await;
    let mut response = readable(response, &id).await;
    finish(&span, response.status());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn finish(span: &Span, status: StatusCode) {
    span.record("status", status.as_u16());
    span.in_scope(|| debug!("answered"));
}

async fn answer(api: &Api, request: Request, next: Next) -> Response {
    if api.settings.insecure_loopback && !is_of_this_machine(&request) {
        // A page from elsewhere may send requests to this machine by a name that it makes point here.
        let text =
            "without authentication only requests to `localhost` are served, and none that another site's page sends";
        return Problem::new(ProblemKind::Forbidden, text).into_response();
    }
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let limit = api.settings.body_limit;
    if length.is_some_and(|length: u64| length > u64::try_from(api.settings.body_limit).unwrap_or(u64::MAX)) {
        let text = format!("the body has over {limit} bytes, which is the limit");
        return Problem::new(ProblemKind::TooLarge, text).into_response();
    }
    let is_safe = request.method().is_safe();
    let answer = next.run(request);
    let answer = async {
        if is_safe {
            return AssertUnwindSafe(answer).catch_unwind().await;
        }
        // To its end, even if the client goes: no change without its line in the audit log.
        let answer = tokio::spawn(answer.instrument(Span::current())).await;
        answer.map_err(|error| error.try_into_panic().unwrap_or_else(|error| Box::new(error.to_string())))
    };
    match tokio::time::timeout(api.settings.timeout, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            error!("a request panicked: {text}");
            Problem::new(ProblemKind::Internal, "the log of the centre says what it was").into_response()
        }
        Err(_) => {
            let text = format!("the answer was not there within {:?}", api.settings.timeout);
            Problem::new(ProblemKind::Timeout, text).into_response()
        }
    }
}

fn is_of_this_machine(request: &Request) -> bool {
    let is_here = |host: &str| {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        name.eq_ignore_ascii_case("localhost") || name == "::1" || name.starts_with("127.")
    };
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = request.uri().host().or(header(header::HOST)).unwrap_or("?");
    let origin = header(header::ORIGIN).map(|origin| origin.split("://").nth(1).unwrap_or("?"));
    is_here(host) && origin.is_none_or(is_here)
}

/// Whatever has failed answers with a problem that names the request.
async fn readable(response: Response, id: &str) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let problem = match parts.extensions.remove::<Problem>() {
        Some(problem) => problem,
        None if parts.headers.get(header::CONTENT_TYPE).is_some_and(is_ours) => {
            return Response::from_parts(parts, body);
        }
        None => {
            let text = Limited::new(body, LARGEST_TEXT).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let kind = ProblemKind::of_status(status);
            parts.status = kind.status();
            Problem::new(kind, String::from_utf8_lossy(&text))
        }
    };
    parts.headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(problem.of_request(id).body()))
}

/// JSON is an answer of a handler, such as that of `/ready`.
fn is_ours(media_type: &HeaderValue) -> bool {
    let text = media_type.to_str().unwrap_or_default();
    text.starts_with("application/json") || text.starts_with("application/problem+json")
}
