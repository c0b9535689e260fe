//! Spans and metrics on their way out: to a collector by OTLP, to Prometheus by its registry.

use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanKind, TraceContextExt, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample, Span, SpanData,
    SpanProcessor,
};

use super::{TelemetryError, TelemetrySettings};
use crate::trace_context::LinkTo;

pub(super) fn resource(settings: &TelemetrySettings, instance: &str, role: &str) -> Resource {
    Resource::builder()
        .with_service_name(settings.service.clone())
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("leveret.role", role.to_owned()))
        .build()
}

/// Meters that Prometheus can read, and that are sent to the collector every minute where there is one.
pub(super) fn meters(
    settings: &TelemetrySettings,
    resource: &Resource,
    registry: &prometheus::Registry,
) -> Result<SdkMeterProvider, TelemetryError> {
    let scraped = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .build()
        .map_err(TelemetryError::Metrics)?;
    let mut meters = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(scraped);
    if let Some(endpoint) = settings.endpoint("/v1/metrics")? {
        install_tls();
        let exporter = MetricExporter::builder()
            .with_http()
            .with_endpoint(&endpoint)
            .build()
            .map_err(|source| TelemetryError::Exporter { endpoint, source })?;
        meters = meters.with_periodic_exporter(exporter);
    }
    Ok(meters.build())
}

/// Tracers that send to the collector, or `None` where there is none.
pub(super) fn tracers(
    settings: &TelemetrySettings,
    resource: &Resource,
) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let Some(endpoint) = settings.endpoint("/v1/traces")? else {
        return Ok(None);
    };
    install_tls();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(&endpoint)
        .build()
        .map_err(|source| TelemetryError::Exporter { endpoint, source })?;
    let tracers = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(Inherit(Sampler::TraceIdRatioBased(settings.sample)))
        .with_span_processor(Links)
        .with_batch_exporter(exporter);
    Ok(Some(tracers.build()))
}

pub(super) fn tracer(tracers: &SdkTracerProvider) -> SdkTracer {
    tracers.tracer("leveret")
}

/// The exporters' HTTP client takes the process-wide TLS provider. One that is there already is as good.
fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Records what the parent, or the span that the new trace links to, records; new traces by the ratio.
#[derive(Clone, Debug)]
struct Inherit(Sampler);

impl ShouldSample for Inherit {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let ancestor = parent.and_then(|context| match origin(context) {
            Some(origin) => Some((origin.is_sampled(), TraceState::NONE)),
            None => Some(context.span().span_context())
                .filter(|span| span.is_valid())
                .map(|span| (span.is_sampled(), span.trace_state().clone())),
        });
        match ancestor {
            Some((sampled, trace_state)) => SamplingResult {
                decision: if sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop },
                attributes: Vec::new(),
                trace_state,
            },
            None => self.0.should_sample(None, trace, name, kind, attributes, links),
        }
    }
}

/// Links the first span of a new trace to the span that it comes from.
#[derive(Debug)]
struct Links;

impl SpanProcessor for Links {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        if let Some(origin) = origin(parent) {
            span.add_link(origin.clone(), Vec::new());
        }
    }

    fn on_end(&self, _: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Where a new trace comes from. A context with a span continues that span's trace instead.
fn origin(parent: &Context) -> Option<&SpanContext> {
    parent.get::<LinkTo>().filter(|_| !parent.has_active_span()).map(|LinkTo(origin)| origin)
}
