//! What can go wrong when telemetry is set up.

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("`[telemetry] log` is {given:?}: write a level such as `info`, or a list such as `info,my_app=debug`")]
    Filter {
        /// What was set.
        given: String,
        /// Why it cannot be read.
        source: ParseError,
    },
    /// The ratio is out of range.
    #[error("`[telemetry] sample` is {given}: write a number from 0 (nothing) to 1 (everything)")]
    Sample {
        /// What was set.
        given: f64,
    },
    /// The endpoint is no HTTP address.
    #[error("`[telemetry] otlp` is {given:?}: write the collector's address, such as `http://127.0.0.1:4318`")]
    Endpoint {
        /// What was set.
        given: String,
        /// Why it is no address.
        source: Option<url::ParseError>,
    },
    /// An exporter could not be built.
    #[error("cannot export to {endpoint}: check `[telemetry] otlp`, or remove it to export nothing")]
    Exporter {
        /// Where to.
        endpoint: String,
        /// Why not.
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// The metrics registry refused our series.
    #[error("cannot set up the metrics; this is a bug in leveret, please report it")]
    Metrics(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// Another subscriber is there already.
    #[error("another log subscriber is installed already: call telemetry::init first, and once")]
    Installed(#[source] TryInitError),
    /// The address of the HTTP endpoint is taken or wrong.
    #[error(
        "cannot listen on {address}: stop what listens there, or choose another address (port 0 takes any free one)"
    )]
    Bind {
        /// What was set.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The HTTP endpoint failed while serving.
    #[error("the endpoint for /metrics, /live and /ready has failed: start the process again")]
    Serve(#[source] std::io::Error),
}
