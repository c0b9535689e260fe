//! Errors as RFC 9457 has them: `application/problem+json`.

use std::borrow::Cow;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tracing::error;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

/// What went wrong, for programs and for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<Details>);

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "urn:leveret:problem:invalid",
    "title": "The request cannot be carried out as it stands",
    "status": 422,
    "detail": "cron: there is no month 13",
    "instance": "urn:uuid:0199c2a5-5f0c-7c3e-8f3a-2f9d6f2f1f10",
    "errors": [{"pointer": "/cron", "detail": "there is no month 13"}],
}))]
struct Details {
    /// What kind of problem, as a URN that stays the same.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened this time and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The request, as logs and the audit log name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// What is wrong with single parts of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<PartError>,
    #[serde(skip)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        Details::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        Details::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Details::schemas(schemas);
    }
}

/// What is wrong with a part of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartError {
    /// Where in the body, as a JSON Pointer (RFC 6901); empty for the whole.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// 400: the request cannot be read.
    Malformed,
    /// 401: there is no token, or not one that is known.
    Unauthenticated,
    /// 403: the token does not allow it.
    Forbidden,
    /// 404: there is no such thing.
    NotFound,
    /// 405: not by this method.
    MethodNotAllowed,
    /// 408: the request did not come in time.
    RequestTimeout,
    /// 409: what is there does not go together with it.
    Conflict,
    /// 412: it was changed in the meantime.
    PreconditionFailed,
    /// 413: too large.
    TooLarge,
    /// 415: another media type is wanted.
    UnsupportedMediaType,
    /// 422: it can be read, but not carried out.
    Invalid,
    /// 428: say which revision is meant.
    PreconditionRequired,
    /// 429: too many.
    TooManyRequests,
    /// 500: our fault.
    Internal,
    /// 503: something that is needed is not there now.
    Unavailable,
    /// 504: it took too long.
    Timeout,
}

impl ProblemKind {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "The request cannot be read"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "A valid API token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The API token does not allow this"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This is not done by this method")
            }
            Self::RequestTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request did not come in time")
            }
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "What is there does not go together with this"),
            Self::PreconditionFailed => {
                (StatusCode::PRECONDITION_FAILED, "precondition-failed", "It was changed in the meantime")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Another media type is needed")
            }
            Self::Invalid => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request cannot be carried out as it stands")
            }
            Self::PreconditionRequired => {
                (StatusCode::PRECONDITION_REQUIRED, "precondition-required", "Say which revision is meant")
            }
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong here"),
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Something that is needed is not there now")
            }
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout", "It took too long"),
        }
    }

    const ALL: [Self; 16] = [
        Self::Malformed,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
        Self::PreconditionRequired,
        Self::TooManyRequests,
        Self::Internal,
        Self::Unavailable,
        Self::Timeout,
    ];

    /// The kind of an HTTP status that says it has failed.
    pub fn of_status(status: StatusCode) -> Self {
        let other = if status.is_server_error() { Self::Internal } else { Self::Malformed };
        Self::ALL.into_iter().find(|kind| kind.parts().0 == status).unwrap_or(other)
    }

    /// Its HTTP status.
    pub const fn status(self) -> StatusCode {
        self.parts().0
    }

    /// In words.
    pub const fn title(self) -> &'static str {
        self.parts().2
    }
}

impl Problem {
    /// A problem with what happened and what to do about it.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let (status, slug, title) = kind.parts();
        Self(Box::new(Details {
            kind: format!("urn:leveret:problem:{slug}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: Some(detail.into()).filter(|detail| !detail.is_empty()),
            instance: None,
            errors: Vec::new(),
            headers: Vec::new(),
        }))
    }

    /// There is no such thing.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(ProblemKind::NotFound, format!("there is no {what}"))
    }

    /// It can be read, but not carried out.
    pub fn invalid(detail: impl std::fmt::Display) -> Self {
        Self::new(ProblemKind::Invalid, detail.to_string())
    }

    /// A part of the body cannot be carried out.
    pub fn invalid_part(pointer: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        let (pointer, detail) = (pointer.into(), detail.to_string());
        let place = pointer.trim_start_matches('/');
        let text = if place.is_empty() { detail.clone() } else { format!("{place}: {detail}") };
        Self::invalid(text).part(pointer, detail)
    }

    /// Something that is needed is not there now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Unavailable, detail)
    }

    /// Our fault. What it was goes to the log, not to the client.
    pub fn internal(fault: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = fault.to_string();
        let mut source = fault.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        error!("a request failed: {text}");
        Self::new(ProblemKind::Internal, "the log of the centre says what it was")
    }

    /// Adds what is wrong with a part of the body, which is found by a JSON Pointer.
    #[must_use]
    pub fn part(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.errors.push(PartError { pointer: pointer.into(), detail: detail.into() });
        self
    }

    /// The same of a body that is part of another one.
    #[must_use]
    pub(super) fn within(mut self, pointer: &str) -> Self {
        for part in &mut self.0.errors {
            part.pointer.insert_str(0, pointer);
        }
        if self.0.errors.is_empty() {
            let detail = self.detail().to_owned();
            return self.part(pointer, detail);
        }
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Names the request.
    #[must_use]
    pub(super) fn of_request(mut self, request_id: &str) -> Self {
        self.0.instance = Some(format!("urn:uuid:{request_id}"));
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What happened and what to do about it.
    pub fn detail(&self) -> &str {
        self.0.detail.as_deref().unwrap_or_default()
    }

    /// The body of the answer.
    pub(super) fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The media type of a problem.
pub(super) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), [(header::CONTENT_TYPE, PROBLEM_JSON)], self.body()).into_response();
        for (name, value) in &self.0.headers {
            response.headers_mut().insert(name, value.clone());
        }
        // The guard writes the request's id into it.
        response.extensions_mut().insert(self);
        response
    }
}
