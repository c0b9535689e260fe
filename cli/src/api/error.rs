//! What can go wrong with a request, in one line.

use std::path::PathBuf;

use reqwest::StatusCode;
use serde::Deserialize;
use url::Url;

use super::place;
use crate::failure::Exit;

/// A request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Nobody is there.
    #[error("the centre at {url} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        url: String,
        /// What failed, in the end.
        why: String,
    },
    /// It did not answer in time.
    #[error("the centre at {url} does not answer in time: try again")]
    Silent {
        /// Where.
        url: String,
    },
    /// It says no.
    #[error("{text}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it says.
        text: String,
    },
    /// What answers is no centre, or of another version.
    #[error("what answers at {url} is no centre that is understood here: check the address and its version")]
    Strange {
        /// Where.
        url: String,
        /// What failed.
        source: serde_json::Error,
    },
    /// The address is wrong.
    #[error("{url:?} is no address of a centre: write https://HOST:PORT, or http://127.0.0.1:9470")]
    Address {
        /// What was given.
        url: String,
    },
    /// The file of authorities cannot be read.
    #[error("{}: no certificates of authorities can be read: {why}", file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// What failed.
        why: String,
    },
    /// It is not said which centre is meant.
    #[error(
        "no centre is named: run `leveret context add NAME --api URL --token TOKEN`, or set LEVERET_API and LEVERET_TOKEN"
    )]
    NoContext,
    /// There is no such context.
    #[error("there is no context {name:?}: `leveret context list` shows those there are")]
    UnknownContext {
        /// What was given.
        name: String,
    },
    /// The file of contexts cannot be read or written.
    #[error("{}: {why}", file.display())]
    Contexts {
        /// The file.
        file: PathBuf,
        /// What failed.
        why: String,
    },
}

/// As RFC 9457 has it.
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    detail: Option<String>,
    #[serde(default)]
    errors: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    pointer: String,
    detail: String,
}

impl ApiError {
    pub(super) fn unreachable(url: &Url, error: reqwest::Error) -> Self {
        let url = place(url);
        if error.is_timeout() {
            return Self::Silent { url };
        }
        // The last cause is what people look for.
        let error = error.without_url();
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            why = error.to_string();
            cause = error.source();
        }
        if url.starts_with("https:") && why.contains("InvalidContentType") {
            "it does not speak TLS: try http:// in place of https://".clone_into(&mut why);
        }
        Self::Unreachable { url, why }
    }

    /// Nobody is let in without a token.
    pub(super) fn without_token(url: &Url) -> Self {
        let place = place(url);
        let text =
            format!("the centre at {place} takes a token: give --token, LEVERET_TOKEN or a context that has one");
        Self::Refused { status: StatusCode::UNAUTHORIZED, text }
    }

    pub(super) fn refused(status: StatusCode, body: &[u8], url: &Url) -> Self {
        let text = match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => {
                let mut text = problem.detail.unwrap_or(problem.title);
                for Part { pointer, detail } in problem.errors {
                    if text.contains(&detail) {
                        continue;
                    }
                    text.push_str(&format!("; {}: {detail}", pointer.trim_start_matches('/')));
                }
                text
            }
            Err(_) => format!("{} answered {status}", place(url)),
        };
        let text = match status {
            StatusCode::UNAUTHORIZED => format!("the centre at {} does not let us in: {text}", place(url)),
            _ => text,
        };
        Self::Refused { status, text }
    }

    /// Whether there is no such thing.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Strange { .. } => Exit::Unavailable,
            Self::Silent { .. } => Exit::NoAnswer,
            Self::Refused { status, .. } => match status.as_u16() {
                503 | 504 | 408 | 429 => Exit::NoAnswer,
                _ => Exit::Failed,
            },
            Self::Address { .. }
            | Self::Authority { .. }
            | Self::NoContext
            | Self::UnknownContext { .. }
            | Self::Contexts { .. } => Exit::Config,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_what_is_wrong() {
        let url = "http://127.0.0.1:9470/api/v1/".parse().unwrap();
        let refused = |status, body: &str| {
            ApiError::refused(StatusCode::from_u16(status).unwrap(), body.as_bytes(), &url).to_string()
        };
        let body = r#"{"title":"t","status":422,"detail":"it is wrong","errors":[{"pointer":"/cron","detail":"no month 13"}]}"#;
        assert_eq!(refused(422, body), "it is wrong; cron: no month 13");
        assert_eq!(refused(404, r#"{"title":"There is none"}"#), "There is none");
        assert_eq!(refused(502, "<html>"), "http://127.0.0.1:9470 answered 502 Bad Gateway");
    }
}
