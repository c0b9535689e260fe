//! The management API of a broker.

use std::{sync::Once, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::Url;

/// One call. With a cluster member down, 3.10 can take half a minute over a list.
const DEADLINE: Duration = Duration::from_secs(40);
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the management API cannot be asked: {method} {path}")]
    Unreachable { method: Method, path: String, source: reqwest::Error },
    #[error("the management API answers {status} to {method} {path}: {body}")]
    Refused { method: Method, path: String, status: StatusCode, body: String },
}

#[derive(Debug, Clone)]
pub(crate) struct Management {
    http: reqwest::Client,
    base: Url,
}

impl Management {
    /// `url` carries user and password.
    pub(crate) fn new(url: &str) -> Self {
        static PROVIDER: Once = Once::new();
        // The client is built with a TLS stack, which wants to know its cryptography even if all it speaks is http.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let base = Url::parse(url).unwrap_or_else(|error| panic!("'{url}' is no management URL: {error}"));
        let http = reqwest::Client::builder()
            .timeout(DEADLINE)
            .connect_timeout(CONNECT_DEADLINE)
            .no_proxy()
            .build()
            .unwrap_or_else(|error| panic!("no HTTP client: {error}"));
        Self { http, base }
    }

    pub(crate) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// One call to `/api/<path>`, whose parts are encoded already. `Null` for an answer without a body.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let unreachable = |source| Failure::Unreachable { method: method.clone(), path: path.to_owned(), source };
        let mut request = self.http.request(method.clone(), format!("{}/api/{path}", self.url()));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(Failure::Refused { method, path: path.to_owned(), status, body: text });
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Deletes something; that it is gone already is as good. Whether it was there.
    pub(crate) async fn delete(&self, path: &str) -> Result<bool, Failure> {
        match self.call(Method::DELETE, path, None).await {
            Ok(_) => Ok(true),
            Err(Failure::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

/// Deletes something when the test is over.
pub(crate) fn delete_at_last(management: &Management, path: String) {
    let url = management.url().to_owned();
    // A thread with a runtime of its own, because the test's runtime may be ending, and waited for, because with the
    // test's process it would end unfinished. A broker that is down, or was wiped, needs no cleaning.
    let cleaner = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            drop(runtime.block_on(Management::new(&url).delete(&path)));
        }
    });
    drop(cleaner.join());
}

/// The value, or a panic that tells the whole chain of causes.
pub(crate) fn expect<T>(result: Result<T, impl std::error::Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(source) = cause {
                text = format!("{text}: {source}");
                cause = source.source();
            }
            panic!("{text}")
        }
    }
}

/// A text as one part of a path.
pub(crate) fn encode(part: &str) -> String {
    let mut encoded = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
