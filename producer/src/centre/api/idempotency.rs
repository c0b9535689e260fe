//! `Idempotency-Key`: a request that is sent twice takes effect once, and both are answered the same.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http_body_util::{BodyExt as _, Limited};
use sha2::{Digest as _, Sha256};

use super::{Api, Problem, ProblemKind, authorised::authenticate, body::read};
use crate::centre::store::{Begun, KeptAnswer};

const KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Larger answers are not kept.
const LARGEST: usize = 4 << 20;
/// Headers that belong to an answer.
const KEPT: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];

/// Answers a POST with a key that was answered before as it was then.
pub(super) async fn once(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    run(&api, request, next).await.unwrap_or_else(Problem::into_response)
}

async fn run(api: &Api, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let caller = authenticate(&mut parts, api).await?;
    let key = parts.headers.get(KEY).and_then(|key| key.to_str().ok()).map(str::to_owned).unwrap_or_default();
    if !(1..=255).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let text = "`Idempotency-Key` is to have 1 to 255 visible ASCII characters";
        return Err(Problem::new(ProblemKind::Malformed, text));
    }
    if parts.uri.path().trim_end_matches('/').ends_with("/tokens") {
        let text = "the answer has a secret in it, which is not kept: send this without an `Idempotency-Key`";
        return Err(Problem::invalid(text));
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let line = format!("{} {path}\n", parts.method);
    let body = read(Request::from_parts(parts.clone(), body), api).await?;
    let digest = Sha256::new().chain_update(line.as_bytes()).chain_update(&body).finalize();
    let fingerprint: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = caller.token.id.as_str();
    match api.store.begin_request(token, &key, &fingerprint).await? {
        Begun::New => {}
        Begun::Answered(answer) => return Ok(replay(answer)),
        Begun::UnderWay => {
            let text = "a request with this `Idempotency-Key` is being worked on: ask again for its answer";
            let wait = HeaderValue::from_static("1");
            return Err(Problem::new(ProblemKind::Conflict, text).header(header::RETRY_AFTER, wait));
        }
        Begun::Other => return Err(Problem::invalid("another request had this `Idempotency-Key`: choose a new one")),
    }
    // It is carried out to its end even if the client goes: `guard` sees to that.
    let mut unanswered = Unanswered { api: Some(api.clone()), token: token.to_owned(), key };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    keep(&mut unanswered, response).await
}

/// A request whose answer is not known yet: dropped, it may be sent again.
struct Unanswered {
    api: Option<Api>,
    token: String,
    key: String,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(api) = self.api.take() {
            let (token, key) = (std::mem::take(&mut self.token), std::mem::take(&mut self.key));
            tokio::spawn(async move {
                if let Err(error) = api.store.give_up_request(&token, &key).await {
                    tracing::warn!("cannot give up the key of a request: {error}");
                }
            });
        }
    }
}

async fn keep(unanswered: &mut Unanswered, response: Response) -> Result<Response, Problem> {
    let Some(api) = unanswered.api.clone() else { return Ok(response) };
    let (token, key) = (&unanswered.token, &unanswered.key);
    // What may be otherwise next time is not kept: who may do what, and what was not there for the moment.
    let passing =
        [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if response.status().is_server_error() || passing.contains(&response.status()) {
        api.store.give_up_request(token, key).await?;
        unanswered.api = None;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, LARGEST).collect().await;
    let body = body.map_err(|_| Problem::new(ProblemKind::Internal, "the answer is too large to be kept"))?.to_bytes();
    let header = |name: &HeaderName| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    let headers: BTreeMap<_, _> = KEPT.iter().filter_map(header).collect();
    let answer = KeptAnswer { status: parts.status.as_u16(), headers, body: body.to_vec() };
    api.store.end_request(token, key, &answer).await?;
    unanswered.api = None;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn replay(answer: KeptAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, answer.body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
