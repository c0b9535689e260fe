//! The `[telemetry]` table of `leveret.toml`.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::TelemetryError;

/// Crates under us, held to warnings unless the filter names them: their lines repeat what ours say.
pub(super) const QUIET: [&str; 8] =
    ["amq_protocol", "async_rs", "h2", "hyper", "hyper_util", "opentelemetry", "reqwest", "rustls"];

/// lapin logs as an error what it also gives us as one, and we say what to do about it. And it logs every message
/// that the broker returns, payload and all, whatever the filter: what is in a task is nobody's business.
const LAPIN: &str = "lapin=off,lapin::returned_messages=off";

/// Logs, spans and metrics: the `[telemetry]` table of `leveret.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TelemetrySettings {
    /// What is logged: a level, or a list such as `info,leveret_worker=debug,my_app::orders=trace`. Default
    /// `info`. Libraries that we use are held to warnings unless they are named. `leveret::task=off` takes the
    /// task's id out of the lines and saves its cost.
    pub log: String,
    /// How a line looks. Default `human`.
    pub format: LogFormat,
    /// Where to send spans and metrics, as OTLP over HTTP: the address of a collector such as
    /// `http://127.0.0.1:4318`, to which `/v1/traces` and `/v1/metrics` are appended. Default: nowhere.
    pub otlp: Option<String>,
    /// Which share of the traces that begin here is recorded, from 0 to 1. Default 1. For a task that carries
    /// trace context, its publisher has decided already.
    pub sample: f64,
    /// The service name in spans and metrics. Default `leveret`.
    pub service: String,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            format: LogFormat::Human,
            otlp: None,
            sample: 1.0,
            service: "leveret".to_owned(),
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: time, level, message, then `key=value`.
    #[default]
    Human,
    /// For machines: one flat JSON object a line.
    Json,
}

impl TelemetrySettings {
    pub(super) fn check(&self) -> Result<(), TelemetryError> {
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(TelemetryError::Sample { given: self.sample });
        }
        self.endpoint("").map(|_| ())
    }

    /// The address for one signal, or `None` when nothing is exported.
    pub(super) fn endpoint(&self, path: &str) -> Result<Option<String>, TelemetryError> {
        let Some(given) = &self.otlp else {
            return Ok(None);
        };
        let bad = |source| TelemetryError::Endpoint { given: given.clone(), source };
        let url = url::Url::parse(given).map_err(|error| bad(Some(error)))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad(None));
        }
        Ok(Some(format!("{}{path}", given.trim_end_matches('/'))))
    }

    /// The filter of the log: the user's, on top of ours.
    pub(super) fn filter(&self) -> Result<EnvFilter, TelemetryError> {
        let wanted = self.log.split(',').filter_map(|part| part.trim().parse().ok()).next_back();
        let quiet = wanted.unwrap_or(LevelFilter::ERROR).min(LevelFilter::WARN);
        let ours: String = QUIET.iter().map(|target| format!("{target}={quiet},")).collect();
        EnvFilter::builder()
            .parse(format!("{ours}{LAPIN},{}", self.log))
            .map_err(|source| TelemetryError::Filter { given: self.log.clone(), source })
    }
}
