//! W3C trace context in and out of message headers, and the span of one attempt at a task.
//!
//! Only the OpenTelemetry API is needed here, no SDK: a program without one passes on what came in, and a
//! program with its own tracing pipeline gets the same parents as one that calls `telemetry::init`.

mod attempt;

use std::str::FromStr;

use opentelemetry::Context;
use opentelemetry::baggage::{Baggage, BaggageExt};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

use crate::headers::Headers;

#[cfg(feature = "telemetry")]
pub(crate) use self::attempt::LinkTo;
pub use self::attempt::{Attempt, AttemptSpan};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// The limit that W3C Baggage sets for the whole header, in bytes. A longer one is ignored.
const MAX_BAGGAGE: usize = 8192;

/// Where in a distributed trace a message was published: the headers `traceparent`, `tracestate` and `baggage`.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceContext {
    span: SpanContext,
    baggage: Option<String>,
}

impl TraceContext {
    /// Reads the context from the headers of a message. `None` when there is none or when `traceparent` is
    /// malformed: the task then starts a trace of its own. A malformed `tracestate` alone is dropped.
    pub fn read(headers: &Headers) -> Option<Self> {
        let (trace, span, flags) = parse(headers.get_str(TRACEPARENT)?)?;
        let state = headers.get_str(TRACESTATE).and_then(|text| TraceState::from_str(text).ok());
        let baggage = headers.get_str(BAGGAGE).filter(|text| text.len() <= MAX_BAGGAGE);
        Some(Self {
            span: SpanContext::new(trace, span, flags, true, state.unwrap_or_default()),
            baggage: baggage.map(str::to_owned),
        })
    }

    /// The context of the span that runs now: what a message published here should carry. `None` outside of
    /// any trace.
    ///
    /// Inside of [`AttemptSpan::instrument`] this is the attempt's own span where spans are exported, else the
    /// context that the task arrived with.
    pub fn current() -> Option<Self> {
        Context::map_current(|context| {
            let span = context.has_active_span().then(|| context.span().span_context().clone())?;
            let baggage = context.baggage();
            span.is_valid().then(|| Self { span, baggage: (!baggage.is_empty()).then(|| baggage.to_string()) })
        })
    }

    /// Writes the context into the headers of a message. Does nothing when they have a `traceparent`
    /// already: what the caller chose wins.
    pub fn write(&self, headers: &mut Headers) {
        if headers.contains(TRACEPARENT) {
            return;
        }
        headers.set(TRACEPARENT, self.traceparent());
        if let Some(state) = self.tracestate() {
            headers.set(TRACESTATE, state);
        }
        if let Some(baggage) = &self.baggage {
            headers.set(BAGGAGE, baggage.as_str());
        }
    }

    /// The value of the header `traceparent`, in version 00.
    pub fn traceparent(&self) -> String {
        let flags = self.span.trace_flags() & TraceFlags::SAMPLED;
        format!("00-{}-{}-{flags:02x}", self.span.trace_id(), self.span.span_id())
    }

    /// The value of the header `tracestate`, if there is one.
    pub fn tracestate(&self) -> Option<String> {
        Some(self.span.trace_state().header()).filter(|state| !state.is_empty())
    }

    /// The value of the header `baggage`, if there is one.
    pub fn baggage(&self) -> Option<&str> {
        self.baggage.as_deref()
    }

    /// Whether the publisher records this trace. Where it does not, neither do we.
    pub fn sampled(&self) -> bool {
        self.span.is_sampled()
    }

    /// The trace id as 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        self.span.trace_id().to_string()
    }

    /// The same for OpenTelemetry: a remote parent and decoded baggage.
    fn to_context(&self) -> Context {
        self.with_baggage(Context::new().with_remote_span_context(self.span.clone()))
    }

    fn with_baggage(&self, context: Context) -> Context {
        match &self.baggage {
            Some(text) => context.with_baggage(decode_baggage(text)),
            None => context,
        }
    }
}

/// Trace id, span id and flags of a `traceparent`. Versions after 00 may append more, which is ignored.
fn parse(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let (known, rest) = text.trim().split_at_checked(55)?;
    let mut parts = known.split('-');
    let version = hex(parts.next()?, 2)?;
    let trace = hex(parts.next()?, 32)?;
    let span = u64::try_from(hex(parts.next()?, 16)?).ok()?;
    let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
    let lengthened = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
    let valid = version != 0xff && trace != 0 && span != 0 && lengthened && parts.next().is_none();
    valid.then(|| (TraceId::from(trace), SpanId::from(span), TraceFlags::new(flags) & TraceFlags::SAMPLED))
}

/// The number that exactly `digits` lower-case hexadecimal digits stand for.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lower)).then(|| u128::from_str_radix(text, 16).ok())?
}

/// Name-value pairs of a `baggage` header. Entries that are not `name=value` are skipped.
fn decode_baggage(text: &str) -> Baggage {
    let mut baggage = Baggage::new();
    for entry in text.split(',') {
        let (pair, metadata) = entry.split_once(';').unwrap_or((entry, ""));
        if let Some((name, value)) = pair.split_once('=')
            && let Some(value) = percent_decoded(value.trim())
        {
            baggage.insert_with_metadata(name.trim().to_owned(), value, metadata.trim().to_owned());
        }
    }
    baggage
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()?
            }
            _ => *first,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
