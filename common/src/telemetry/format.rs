//! Log lines for people and for machines.
//!
//! The fields of a span are rendered once, when it is made, one a line. A log line puts those of the spans around
//! it after its own, the innermost first; a field that an inner one has already named is left out.

use std::fmt::{self, Debug, Write};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;

impl<'w> FormatFields<'w> for LogFormat {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Fields { format: *self, out: &mut writer, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &span::Record<'_>) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

impl<S> FormatEvent<S, Self> for LogFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, Self>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut own = String::new();
        self.format_fields(Writer::new(&mut own), event)?;
        let mut fields = Vec::new();
        merge(&mut fields, &own);
        if let Some(at) = fields.iter().position(|field| key(field).trim_matches('"') == "message") {
            fields[..=at].rotate_right(1);
        }
        for span in ctx.event_scope().into_iter().flatten() {
            if let Some(rendered) = span.extensions().get::<FormattedFields<Self>>() {
                merge(&mut fields, &rendered.fields);
            }
        }
        // The context is attached while a span that is exported, or a task with trace context, runs.
        let trace = Context::map_current(|context| context.span().span_context().trace_id());
        if trace != opentelemetry::trace::TraceId::INVALID {
            let mut rendered = String::new();
            let mut visitor = Fields { format: *self, out: &mut rendered, result: Ok(()) };
            visitor.put("trace_id", &trace.to_string());
            merge(&mut fields, &rendered);
        }
        match self {
            Self::Human => human(&mut out, event, &fields),
            Self::Json => json(&mut out, event, &fields),
        }
    }
}

/// `2026-01-31T09:30:00.000000Z  INFO my_app::orders: order stored items=3 task_id=...`
fn human(out: &mut Writer<'_>, event: &Event<'_>, fields: &[String]) -> fmt::Result {
    let meta = event.metadata();
    SystemTime.format_time(out)?;
    let level = *meta.level();
    if out.has_ansi_escapes() {
        let colour = match level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            _ => 34,
        };
        write!(out, " \x1b[{colour}m{level:>5}\x1b[0m \x1b[2m{}:\x1b[0m", meta.target())?;
    } else {
        write!(out, " {level:>5} {}:", meta.target())?;
    }
    for field in fields {
        write!(out, " {}", field.strip_prefix("message=").unwrap_or(field))?;
    }
    writeln!(out)
}

/// `{"timestamp":"...","level":"INFO","target":"my_app::orders","message":"order stored","items":3,"task_id":"..."}`
fn json(out: &mut Writer<'_>, event: &Event<'_>, fields: &[String]) -> fmt::Result {
    let meta = event.metadata();
    write!(out, "{{\"timestamp\":\"")?;
    SystemTime.format_time(out)?;
    write!(out, "\",\"level\":\"{}\",\"target\":", meta.level())?;
    quote(out, meta.target())?;
    for field in fields {
        write!(out, ",{field}")?;
    }
    writeln!(out, "}}")
}

/// Adds rendered fields, one a line, but those that an inner span has named already. A field that the same span
/// recorded twice has its last value.
fn merge(fields: &mut Vec<String>, rendered: &str) {
    let inner = fields.len();
    for field in rendered.lines() {
        match fields.iter().position(|known| key(known) == key(field)) {
            Some(at) if at < inner => {}
            Some(at) => fields[at] = field.to_owned(),
            None => fields.push(field.to_owned()),
        }
    }
}

/// The name of a rendered field: `name=` or `"name":`. Names have neither of the two marks.
fn key(field: &str) -> &str {
    field.split(['=', ':']).next().unwrap_or(field)
}

/// Renders fields, one a line.
struct Fields<'a> {
    format: LogFormat,
    out: &'a mut dyn Write,
    result: fmt::Result,
}

impl Fields<'_> {
    /// A value in quotes where the format asks for them.
    fn put(&mut self, name: &str, text: &str) {
        self.line(name, |format, out| match format {
            LogFormat::Json => quote(out, text),
            LogFormat::Human if name == "message" => plain(out, text),
            LogFormat::Human if text.is_empty() || text.contains(needs_quotes) => {
                write!(out, "{text:?}")
            }
            LogFormat::Human => out.write_str(text),
        });
    }

    /// A value that is the same in both formats.
    fn bare(&mut self, name: &str, value: impl fmt::Display) {
        self.line(name, |_, out| write!(out, "{value}"));
    }

    fn line(&mut self, name: &str, value: impl FnOnce(LogFormat, &mut dyn Write) -> fmt::Result) {
        let name = name.strip_prefix("r#").unwrap_or(name);
        // Whole strings rather than format strings: this runs once a field for every task.
        let (before, after) = match (self.format, name) {
            (LogFormat::Human, _) => ("", "="),
            // These three are the line's own.
            (LogFormat::Json, "timestamp" | "level" | "target") => ("\"field.", "\":"),
            (LogFormat::Json, _) => ("\"", "\":"),
        };
        let out = &mut *self.out;
        self.result = self
            .result
            .and_then(|()| [before, name, after].into_iter().try_for_each(|part| out.write_str(part)))
            .and_then(|()| value(self.format, out))
            .and_then(|()| out.write_str("\n"));
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !exported_only(field) {
            let text = format!("{value:?}");
            self.line(field.name(), |format, out| match format {
                LogFormat::Json => quote(out, &text),
                LogFormat::Human => plain(out, &text),
            });
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if !exported_only(field) {
            self.put(field.name(), value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field.name(), value);
        } else {
            self.put(field.name(), &value.to_string());
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        self.record_debug(field, &format_args!("{text}"));
    }
}

/// Fields that speak to the span exporter; in a log they would say the same twice.
fn exported_only(field: &Field) -> bool {
    field.name().starts_with("otel.") || field.name().starts_with("messaging.")
}

fn needs_quotes(character: char) -> bool {
    character.is_whitespace() || character.is_control() || matches!(character, '"' | '=')
}

/// A value for people: control characters, which could forge lines or steer a terminal, are made visible.
fn plain(out: &mut dyn Write, text: &str) -> fmt::Result {
    text.chars().try_for_each(|character| match character {
        character if character.is_control() => write!(out, "{}", character.escape_default()),
        character => out.write_char(character),
    })
}

/// A JSON string.
fn quote(out: &mut (impl Write + ?Sized), text: &str) -> fmt::Result {
    if text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        out.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
    } else {
        ["\"", text, "\""].into_iter().try_for_each(|part| out.write_str(part))
    }
}
