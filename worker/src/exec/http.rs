use std::time::Duration;

use bytes::Bytes;
use leveret_common::duration;
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
    redirect::Policy,
};

use super::{
    ExecFailure, ExecFailureKind, ExecOutput, ExecRequest, ExecSettings, ExecSettingsError, ExecStatus, HttpSettings,
    StatusSet, output::first_words, request::deadline,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("leveret/", env!("CARGO_PKG_VERSION"));
/// The longest `Retry-After` that is believed: a task must not vanish for years over one wrong header.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// Headers that the worker or HTTP itself sets on each request, besides `leveret-…`.
const RESERVED: [&str; 6] =
    ["content-type", "content-length", "transfer-encoding", "connection", "idempotency-key", "traceparent"];

/// Calls a URL for each task.
#[derive(Debug)]
pub(super) struct HttpRunner {
    client: Client,
    url: Url,
    method: Method,
    headers: HeaderMap,
    /// How messages call the request: without the query, which may hold a secret.
    label: String,
    success: StatusSet,
    retry: StatusSet,
    output_limit: usize,
    timeout: Option<Duration>,
}

impl HttpRunner {
    pub(super) fn new(http: &HttpSettings, settings: &ExecSettings) -> Result<Self, ExecSettingsError> {
        refuse_command_options(settings)?;
        let url = read_url(&http.url)?;
        let method = match Method::from_bytes(http.method.as_bytes()) {
            Ok(method) if http.method.bytes().all(|byte| byte.is_ascii_uppercase()) => method,
            _ => return Err(ExecSettingsError::Method { method: http.method.clone() }),
        };
        let mut shown = url.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        Ok(Self {
            client: client(&url)?,
            label: format!("{method} {shown}"),
            url,
            method,
            headers: read_headers(http)?,
            success: http.success.clone(),
            retry: http.retry.clone(),
            output_limit: settings.output_limit,
            timeout: settings.timeout,
        })
    }

    pub(super) async fn run(&self, request: &ExecRequest) -> Result<ExecOutput, ExecFailure> {
        let limit = request.timeout.or(self.timeout);
        tokio::select! {
            biased;
            outcome = self.call(request) => outcome,
            () = request.cancelled.cancelled() => Err(ExecFailure::new(
                ExecFailureKind::Cancelled,
                format!("{} was given up because its task was cancelled", self.label),
            )),
            () = deadline(limit) => Err(ExecFailure::new(
                ExecFailureKind::TimedOut,
                format!("{} gave no answer within {}", self.label, duration::format(limit.unwrap_or_default())),
            )),
        }
    }

    async fn call(&self, request: &ExecRequest) -> Result<ExecOutput, ExecFailure> {
        let mut call = self.client.request(self.method.clone(), self.url.clone()).headers(self.facts(request)?);
        if self.sends_body() {
            call = call.body(request.payload.clone());
        }
        let mut response = call.send().await.map_err(|error| self.no_answer(error))?;
        let (body, truncated) = self.read(&mut response).await.map_err(|error| self.no_answer(error))?;
        let status = response.status();
        if self.success.contains(status.as_u16()) {
            return Ok(ExecOutput {
                status: ExecStatus::Http(status.as_u16()),
                stdout: body,
                stderr: Bytes::new(),
                truncated,
            });
        }
        Err(self.refused(status, response.headers(), &body))
    }

    fn sends_body(&self) -> bool {
        self.method != Method::GET && self.method != Method::HEAD
    }

    fn facts(&self, request: &ExecRequest) -> Result<HeaderMap, ExecFailure> {
        let mut headers = self.headers.clone();
        let mut set = |name: HeaderName, value: &str| match HeaderValue::from_bytes(value.as_bytes()) {
            Ok(value) => {
                headers.insert(name, value);
                Ok(())
            }
            Err(_) => Err(ExecFailure::permanent(format!(
                "{} was not sent: {value:?} has a character that the header `{name}` cannot carry",
                self.label
            ))),
        };
        for (_, name, value) in request.facts() {
            set(HeaderName::from_static(name), &value)?;
        }
        set(HeaderName::from_static("idempotency-key"), &request.task_id)?;
        if let Some(traceparent) = &request.traceparent {
            set(HeaderName::from_static("traceparent"), traceparent)?;
        }
        if self.sends_body() {
            set(CONTENT_TYPE, &request.content_type)?;
        }
        Ok(headers)
    }

    /// The start of the body. What is beyond the limit is not waited for, as it may never end.
    async fn read(&self, response: &mut Response) -> reqwest::Result<(Bytes, bool)> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            let room = self.output_limit - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                return Ok((body.into(), true));
            }
        }
        Ok((body.into(), false))
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> ExecFailure {
        let mut message = format!("{} answered {status}", self.label);
        let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if status.is_redirection()
            && let Some(location) = header(LOCATION)
        {
            message += &format!(", a redirect to {location}, which is not followed: put the final URL in `url`");
        }
        if !body.trim_ascii().is_empty() {
            message += &format!(": {}", first_words(body));
        }
        if !self.retry.contains(status.as_u16()) {
            return ExecFailure::permanent(message);
        }
        let seconds = header(RETRY_AFTER).and_then(|text| text.trim().parse().ok());
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_LIMIT));
        ExecFailure { retry_after, ..ExecFailure::retryable(message) }
    }

    fn no_answer(&self, error: reqwest::Error) -> ExecFailure {
        // The URL is in the label, without what may be secret.
        let error = error.without_url();
        let what = if error.is_connect() { "could not connect" } else { "got no whole answer" };
        let mut message = format!("{} {what}", self.label);
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(reason) = cause {
            message += &format!(": {reason}");
            cause = reason.source();
        }
        if error.is_builder() { ExecFailure::permanent(message) } else { ExecFailure::retryable(message) }
    }
}

fn client(url: &Url) -> Result<Client, ExecSettingsError> {
    // An error means that the program has chosen a provider already, which is then used.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut builder =
        Client::builder().user_agent(USER_AGENT).connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none()).no_proxy();
    if url.scheme() == "http" {
        // Plain HTTP needs no certificates, so it works on a machine that has none.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|source| ExecSettingsError::Client { source })
}

fn read_url(text: &str) -> Result<Url, ExecSettingsError> {
    let url = Url::parse(text)
        .map_err(|source| ExecSettingsError::UnreadableUrl { url: text.to_owned(), source: source.into() })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ExecSettingsError::Url { problem: "is neither http nor https: write \"https://host/path\"" });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ExecSettingsError::Url {
            problem: "holds a user or a password: put them in `headers`, as authorization = \"Basic …\"",
        });
    }
    Ok(url)
}

fn read_headers(http: &HttpSettings) -> Result<HeaderMap, ExecSettingsError> {
    let mut headers = HeaderMap::new();
    for (name, value) in http.headers.iter() {
        let unusable = || ExecSettingsError::Header { name: name.to_owned() };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
        if RESERVED.contains(&key.as_str()) || key.as_str().starts_with("leveret-") {
            return Err(ExecSettingsError::Reserved { name: name.to_owned() });
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| unusable())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

fn refuse_command_options(settings: &ExecSettings) -> Result<(), ExecSettingsError> {
    let given = [
        ("directory", settings.directory.is_some()),
        ("environment", !settings.environment.is_empty()),
        ("inherit_environment", settings.inherit_environment.is_some()),
        ("permanent_exit_codes", settings.permanent_exit_codes.is_some()),
        ("grace", settings.grace.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(ExecSettingsError::CommandOnly { option }),
        None => Ok(()),
    }
}
