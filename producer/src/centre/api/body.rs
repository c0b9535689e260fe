//! What comes with a request, with errors that say where it is wrong.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, RawPathParams, Request, rejection::BytesRejection},
    http::{HeaderMap, header, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::{Api, Problem, ProblemKind};

/// A body of JSON.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                ProblemKind::UnsupportedMediaType,
                "send JSON, with `Content-Type: application/json`",
            ));
        }
        let bytes = read(request, api).await?;
        parse(&bytes).map(Self)
    }
}

/// A body of JSON, or none at all.
#[derive(Debug)]
pub struct MaybeBody<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Api> for MaybeBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let json = is_json(request.headers());
        let bytes = read(request, api).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if !json {
            return Err(Problem::new(
                ProblemKind::UnsupportedMediaType,
                "send JSON, with `Content-Type: application/json`",
            ));
        }
        parse(&bytes).map(Self)
    }
}

/// Reads a body up to the limit.
///
/// # Errors
/// 413 when it is larger; 400 when it breaks off.
pub(super) async fn read(request: Request, api: &Api) -> Result<Bytes, Problem> {
    Bytes::from_request(request, api).await.map_err(|error| match error {
        BytesRejection::FailedToBufferBody(error) if error.status() == ProblemKind::TooLarge.status() => {
            let limit = api.settings.body_limit;
            Problem::new(ProblemKind::TooLarge, format!("the body has over {limit} bytes, which is the limit"))
        }
        error => Problem::new(ProblemKind::Malformed, error.to_string()),
    })
}

/// The media type of a request, in lower case and without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = media_type(headers);
    media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would read a list as the fields of an object in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let list = serde_json::from_slice::<serde::de::IgnoredAny>(bytes);
        return Err(match list {
            Ok(_) => Problem::invalid_part("", "invalid type: list, expected an object"),
            Err(error) => Problem::new(ProblemKind::Malformed, format!("the body is no JSON: {error}")),
        });
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        let error = error.into_inner();
        if error.is_data() {
            // Line and column help nobody whose JSON was written by a program.
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            Problem::invalid_part(pointer, text)
        } else {
            Problem::new(ProblemKind::Malformed, format!("the body is no JSON: {error}"))
        }
    })?;
    reader.end().map_err(|error| Problem::new(ProblemKind::Malformed, format!("the body is no JSON: {error}")))?;
    Ok(value)
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// What the path names.
#[derive(Debug)]
pub struct At<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        if let Ok(raw) = RawPathParams::from_request_parts(parts, api).await {
            api.conformity.check_path(parts, &raw)?;
        }
        let path = Path::<T>::from_request_parts(parts, api).await;
        path.map(|Path(path)| Self(path)).map_err(|error| Problem::new(ProblemKind::Malformed, error.body_text()))
    }
}

/// The parameters behind the question mark.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        api.conformity.check_query(parts)?;
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query.map(|axum::extract::Query(params)| Self(params)).map_err(|error| {
            let text = error.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Problem::new(ProblemKind::Malformed, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "in/ner")]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        count: u8,
    }

    #[test]
    fn errors_say_where_they_are() {
        let wrong = |text: &str| parse::<Outer>(text.as_bytes()).unwrap_err();
        let problem = wrong(r#"{"in/ner": [{"count": 1}, {"count": 300}]}"#);
        assert_eq!(problem.status().as_u16(), 422);
        let body: serde_json::Value = serde_json::from_slice(&problem.body()).unwrap();
        assert_eq!(body["errors"][0]["pointer"], "/in~1ner/1/count");
        assert_eq!(body["errors"][0]["detail"], "invalid value: integer `300`, expected u8");
        for text in ["", "{", r#"{"in/ner": []} x"#, "\u{feff}{}", r#"{"in/ner": [] "#] {
            assert_eq!(wrong(text).status().as_u16(), 400, "{text}");
        }
        assert_eq!(wrong(r#"{"other": 1}"#).status().as_u16(), 422);
        assert_eq!(parse::<Outer>(br#"{"in/ner": [{"count": 7}]}"#).unwrap().inner[0].count, 7);
    }
}
