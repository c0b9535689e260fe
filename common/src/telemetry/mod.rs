//! Logs, spans and metrics of a program: what a binary sets up once and a library must not impose.
//!
//! [`init`] installs the log output, the span export where an OTLP endpoint is configured, and the meters behind
//! `/metrics`. Without an endpoint there is no OpenTelemetry layer at all and a span costs what its log fields
//! cost. [`http`] serves `/metrics`, `/live` and `/ready`.

mod error;
mod export;
mod format;
pub mod http;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Dispatch;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

pub use self::error::TelemetryError;
pub use self::settings::{LogFormat, TelemetrySettings};

/// How long [`Telemetry::shutdown`] may take for spans and for metrics each.
const FLUSH: Duration = Duration::from_secs(2);

/// What a running program has set up. Keep it until the end, then call [`Telemetry::shutdown`].
#[derive(Debug)]
pub struct Telemetry {
    registry: prometheus::Registry,
    meters: SdkMeterProvider,
    tracers: Option<SdkTracerProvider>,
    log: LogFilter,
}

/// Changes what is logged while the process runs. Cheap to clone.
#[derive(Clone)]
pub struct LogFilter(Arc<SetFilter>);

type SetFilter = dyn Fn(&str) -> Result<(), TelemetryError> + Send + Sync;

impl LogFilter {
    /// Logs by this filter from now on: a level, or a list, as [`TelemetrySettings::log`].
    ///
    /// # Errors
    /// [`TelemetryError::Filter`] when it cannot be read. What was logged before is logged then.
    pub fn set(&self, filter: &str) -> Result<(), TelemetryError> {
        (self.0)(filter)
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogFilter")
    }
}

/// Sets up logs, spans and metrics for this process: once, from `main`, before any
/// [`Instruments`](crate::metrics::Instruments) are made. Log lines go to standard error.
///
/// `instance` tells processes of one service apart, `role` says what this one is, such as `worker`.
///
/// # Errors
/// [`TelemetryError`] when a setting is wrong or something else has installed a log subscriber already.
pub fn init(settings: &TelemetrySettings, instance: &str, role: &str) -> Result<Telemetry, TelemetryError> {
    let terminal = std::io::stderr().is_terminal();
    let (telemetry, dispatch) = build(settings, instance, role, std::io::stderr, terminal)?;
    dispatch.try_init().map_err(TelemetryError::Installed)?;
    telemetry.install();
    Ok(telemetry)
}

impl Telemetry {
    /// The registry behind `/metrics`, for [`http::serve`].
    pub fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }

    /// Changes what is logged, for whoever may.
    pub fn log(&self) -> LogFilter {
        self.log.clone()
    }

    /// Sends what is still waiting to be exported; gives up after a few seconds when the collector does not
    /// answer. Call it last, before the runtime ends.
    pub async fn shutdown(self) {
        let flush = move || {
            let spans = self.tracers.map_or(Ok(()), |tracers| tracers.shutdown_with_timeout(FLUSH));
            [spans, self.meters.shutdown_with_timeout(FLUSH)]
        };
        let flushed = tokio::time::timeout(FLUSH * 3, tokio::task::spawn_blocking(flush)).await;
        match flushed {
            Ok(Ok(results)) => results.iter().filter_map(|result| result.as_ref().err()).for_each(|error| {
                tracing::warn!(%error, "some telemetry was not exported");
            }),
            _ => tracing::warn!("some telemetry was not exported: the collector did not answer in time"),
        }
    }

    fn install(&self) {
        use opentelemetry::{global, propagation::TextMapCompositePropagator};
        use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
        global::set_meter_provider(self.meters.clone());
        if let Some(tracers) = &self.tracers {
            global::set_tracer_provider(tracers.clone());
        }
        // For handlers that call other services through instrumented clients.
        global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
            Box::new(TraceContextPropagator::new()),
            Box::new(BaggagePropagator::new()),
        ]));
    }
}

/// Everything that [`init`] installs, with nothing installed yet.
fn build<W>(
    settings: &TelemetrySettings,
    instance: &str,
    role: &str,
    writer: W,
    colour: bool,
) -> Result<(Telemetry, Dispatch), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    settings.check()?;
    let resource = export::resource(settings, instance, role);
    let registry = prometheus::Registry::new();
    let meters = export::meters(settings, &resource, &registry)?;
    let tracers = export::tracers(settings, &resource)?;
    let (log, dispatch) = subscriber(settings, tracers.as_ref().map(export::tracer), writer, colour)?;
    Ok((Telemetry { registry, meters, tracers, log }, dispatch))
}

fn subscriber<W>(
    settings: &TelemetrySettings,
    tracer: Option<SdkTracer>,
    writer: W,
    colour: bool,
) -> Result<(LogFilter, Dispatch), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = settings.filter()?;
    let mut lines =
        tracing_subscriber::fmt::layer().fmt_fields(settings.format).event_format(settings.format).with_writer(writer);
    // Only ever switched off: the layer's own default heeds NO_COLOR.
    if !colour || settings.format == LogFormat::Json {
        lines.set_ansi(false);
    }
    let registry = tracing_subscriber::registry();
    let Some(tracer) = tracer else {
        let (filter, handle) = reload::Layer::new(filter);
        return Ok((changing(settings, handle), registry.with(lines).with(filter).into()));
    };
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        // The filter of the log must not thin out the traces. The client's own stack would trace its exports.
        .with_filter(
            Targets::new()
                .with_default(LevelFilter::INFO)
                .with_targets(settings::QUIET.map(|target| (target, LevelFilter::OFF))),
        );
    let (filter, handle) = reload::Layer::new(filter);
    Ok((changing(settings, handle), registry.with(lines.with_filter(filter)).with(spans).into()))
}

fn changing<S: 'static>(settings: &TelemetrySettings, handle: reload::Handle<EnvFilter, S>) -> LogFilter {
    let settings = settings.clone();
    LogFilter(Arc::new(move |filter| {
        let filter = TelemetrySettings { log: filter.to_owned(), ..settings.clone() }.filter()?;
        // Its only error is that the subscriber is gone, and with it the log.
        let _ = handle.reload(filter);
        Ok(())
    }))
}
