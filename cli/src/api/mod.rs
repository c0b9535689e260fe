//! A thin client of a centre's REST interface.

mod contexts;
mod error;
mod pages;
mod shown;

use std::{fs, time::Duration};

use leveret::TaskId;
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

pub(crate) use contexts::{Context, Contexts};
pub(crate) use error::ApiError;
pub(crate) use shown::{Fields, Rows, Said, cell, cells, fields, watched};

/// How long a request may take: longer than the centre gives it.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A centre to ask.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    http: Client,
    base: Url,
    token: Option<String>,
}

impl Api {
    /// The centre of a context.
    pub(crate) fn new(context: &Context) -> Result<Self, ApiError> {
        let mut base = context.base()?;
        let mut http = Client::builder()
            .user_agent(concat!("leveret/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(PATIENCE);
        if base.scheme() == "http" {
            // Reading the system's authorities takes time, and may fail.
            http = http.tls_certs_only([]);
        } else if let Some(file) = &context.ca {
            let wrong = |why: String| ApiError::Authority { file: file.clone(), why };
            let pem = fs::read(file).map_err(|error| wrong(error.to_string()))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
            if authorities.is_empty() {
                return Err(wrong("there is none in it".to_owned()));
            }
            http = http.tls_certs_only(authorities);
        }
        let path = format!("{}/api/v1/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        let http = http.build().map_err(|error| ApiError::unreachable(&base, error))?;
        Ok(Self { http, base, token: context.token.clone() })
    }

    /// Reads what is at a path.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, ApiError> {
        self.answer(self.request(Method::GET, path, query)?).await
    }

    /// Asks for a change, with a body, and reads the answer. It takes effect once, however often it has to be sent.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let request = self.request(Method::POST, path, query)?.json(body);
        self.answer(request.header("idempotency-key", TaskId::new().to_string())).await
    }

    /// The same, for an answer that there is only once.
    pub(crate) async fn post_secret<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.answer(self.request(Method::POST, path, &[])?.json(body)).await
    }

    /// Puts something in its place, and reads the answer.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.answer(self.request(Method::PUT, path, query)?.json(body)).await
    }

    /// Changes a part of something, and reads the answer.
    pub(crate) async fn patch<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, ApiError> {
        self.answer(self.request(Method::PATCH, path, &[])?.json(body)).await
    }

    /// Removes something.
    pub(crate) async fn delete(&self, path: &[&str], query: &[(&str, String)]) -> Result<(), ApiError> {
        let request = self.request(Method::DELETE, path, query)?;
        self.send(request).await.map(drop)
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> Result<RequestBuilder, ApiError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url).header(header::ACCEPT, "application/json");
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ApiError> {
        let response = self.send(request).await?;
        let body = response.bytes().await.map_err(|error| ApiError::unreachable(&self.base, error))?;
        // Nothing at all is an answer as well.
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|error| ApiError::Strange { url: place(&self.base), source: error })
    }

    async fn send(&self, request: RequestBuilder) -> Result<reqwest::Response, ApiError> {
        let response = request.send().await.map_err(|error| ApiError::unreachable(&self.base, error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED && self.token.is_none() {
            return Err(ApiError::without_token(&self.base));
        }
        Err(ApiError::refused(status, &response.bytes().await.unwrap_or_default(), &self.base))
    }
}

/// A URL for people.
fn place(url: &Url) -> String {
    url.origin().ascii_serialization()
}
