//! Spans, and the way from them to a collector (OTLP over gRPC).
//!
//! A call is a span, in the trace of its caller if it says so. A Graph call is a span: beneath the call whose message it
//! carries alone, otherwise a trace of its own, linked to what it carries. A bulk stream may last for hours, so its
//! items are traces of their own, linked to the stream, and only some of them are recorded.

use anyhow::Context;
use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::field::Empty;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::error::Outcome;

/// Target of the spans that are told. Spans of libraries are not: those of the exporter would be told for ever.
pub const TARGET: &str = "messenger_connector::spans";
/// One in so many items of a bulk has a span, the first included.
pub const ITEMS_PER_SPAN: u64 = 100;

/// Where spans go.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// To the collector at `endpoint`, such as `http://collector:4317`; nowhere without one. The standard variables of
    /// OpenTelemetry hold for the rest, such as `OTEL_TRACES_SAMPLER` and `OTEL_EXPORTER_OTLP_HEADERS`.
    ///
    /// # Errors
    /// If the endpoint is no address. That nobody is there is no error: it is tried again.
    pub fn to(endpoint: Option<&str>) -> anyhow::Result<Self> {
        let Some(endpoint) = endpoint else { return Ok(Self(None)) };
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let exporter = exporter.context("--otlp-endpoint")?;
        let provider = SdkTracerProvider::builder()
            .with_resource(super::resource())
            .with_batch_exporter(exporter)
            .build();
        Ok(Self(Some(provider)))
    }

    pub(super) fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.0.as_ref()?.tracer("messenger-connector");
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false);
        Some(
            layer.with_filter(
                filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET)
                    .with_max_level_hint(Level::INFO),
            ),
        )
    }

    /// Tells what was not told yet, and no more after that. Takes a few seconds if the collector does not answer.
    pub async fn end(self) {
        let Some(provider) = self.0 else { return };
        super::end_in_time(move || provider.shutdown()).await;
    }
}

/// A span of a call, in the trace that its caller names in W3C `traceparent`, or in a new one.
pub fn call_span(method: &str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "call",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
        error.type = Empty,
        messenger.page.id = Empty,
        messenger.bulk.id = Empty,
        messenger.state = Empty,
        messenger.reason = Empty,
    );
    if !span.is_disabled() {
        let caller = TraceContextPropagator::new().extract(&Carrier(headers));
        // Fails if the span was entered already.
        let _set = span.set_parent(caller);
    }
    span
}

/// A call is about this page.
pub fn note_page(span: &Span, page_id: &str) {
    span.record("messenger.page.id", page_id);
}

/// A call is this bulk.
pub fn note_bulk(span: &Span, page_id: &str, bulk_id: &str) {
    note_page(span, page_id);
    span.record("messenger.bulk.id", bulk_id);
}

/// A call has ended, with a code that is an error of this side or is not.
pub fn end_call(span: &Span, code: &'static str, is_error: bool) {
    span.record("rpc.response.status_code", code);
    if is_error {
        span.record("error.type", code);
        span.record("otel.status_code", "ERROR");
    }
}

/// A span of the `number`-th item of a bulk, for those that have one: from when it is queued until it has its outcome.
pub fn item_span(stream: &Span, number: u64) -> Span {
    if stream.is_disabled() || !number.is_multiple_of(ITEMS_PER_SPAN) || !is_sampled(stream) {
        return Span::none();
    }
    let item = tracing::info_span!(
        target: TARGET,
        parent: None,
        "bulk item",
        messenger.state = Empty,
        messenger.reason = Empty,
    );
    item.follows_from(stream);
    item
}

/// A span of a Graph call: beneath the only message that it carries, or else linked to those that are traced.
pub fn graph_call_span(
    method: &str,
    template: &str,
    (host, port): (&str, u16),
    page_id: &str,
    messages: usize,
    of_messages: &[&Span],
) -> Span {
    let parent = match of_messages {
        [only] if messages == 1 => only.id(),
        _ => None,
    };
    let span = tracing::info_span!(
        target: TARGET,
        parent: parent.clone(),
        "graph call",
        otel.name = format!("{method} {template}"),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method,
        http.response.status_code = Empty,
        url.template = template,
        server.address = host,
        server.port = port,
        error.type = Empty,
        messenger.page.id = page_id,
        messenger.messages = messages,
    );
    if parent.is_none() {
        for message in of_messages {
            span.follows_from(*message);
        }
    }
    span
}

/// A Graph call has ended, with an HTTP status or with the name of what kept the answer away.
pub fn end_graph_call(span: &Span, result: Result<u16, &'static str>) {
    match result {
        Ok(status) => {
            span.record("http.response.status_code", status);
            if status >= 400 {
                span.record("error.type", status);
                span.record("otel.status_code", "ERROR");
            }
        }
        Err(kind) => {
            span.record("error.type", kind);
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// What became of the message that a span is about.
pub fn note_outcome(span: &Span, outcome: &Outcome) {
    let (state, error) = match outcome {
        Outcome::Sent(_) => ("SENT", None),
        Outcome::Rejected(error) => ("REJECTED", Some(error)),
        Outcome::Failed(error) => ("FAILED", Some(error)),
        Outcome::Unknown(error) => ("UNKNOWN", Some(error)),
        Outcome::NotSent(error) => ("NOT_SENT", Some(error)),
    };
    span.record("messenger.state", state);
    if let Some(error) = error {
        span.record("messenger.reason", tracing::field::debug(error.reason));
    }
}

fn is_sampled(span: &Span) -> bool {
    span.context().span().span_context().is_sampled()
}

/// The metadata of a call, as propagators read it.
struct Carrier<'a>(&'a HeaderMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
