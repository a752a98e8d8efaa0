//! Metrics: every name and label that there is. `docs/operations.md` tells what each means.
//!
//! Names are OpenTelemetry's where it has some. Prometheus sees them with underscores, the unit, and `_total` behind
//! counters. Labels hold names from fixed lists only, so their number is bounded.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider, UpDownCounter};
use opentelemetry_otlp::{MetricExporter, WithExportConfig};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

/// Buckets of durations of calls, in seconds (OpenTelemetry's conventions for RPC and HTTP metrics).
const CALL_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Buckets of durations of writes to the ledger, in seconds: a flush takes below a millisecond on some disks.
const WRITE_SECONDS: [f64; 12] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Buckets of rows of a write to the ledger.
const WRITE_ROWS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0];

/// OpenTelemetry is about to call it `rpc.status_code`.
const RPC_STATUS: &str = "rpc.response.status_code";

/// The instruments of one service. Cheap to clone; the default one measures for nobody.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Instruments>);

#[derive(Debug)]
struct Instruments {
    provider: SdkMeterProvider,
    meter: Meter,
    registry: Registry,
    is_told: bool,
    rpc_duration: Histogram<f64>,
    http_duration: Histogram<f64>,
    messages: Counter<u64>,
    replays: Counter<u64>,
    retries: Counter<u64>,
    streams: UpDownCounter<i64>,
    accept_errors: Counter<u64>,
    receipts_mismatched: Counter<u64>,
    ledger_duration: Histogram<f64>,
    ledger_rows: Histogram<u64>,
    ledger_setbacks: Counter<u64>,
}

/// Outcomes of a group of messages, counted by state and reason.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Vec<(State, u64)>,
    replays: u64,
}

/// The contract's names of a state and, if it is not SENT, of a reason.
type State = (&'static str, Option<&'static str>);

/// How the pages of a service fare at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Messages that wait.
    pub queued: usize,
    /// Messages that are being sent.
    pub in_flight: usize,
    /// Pages that send.
    pub active: usize,
    /// Pages that wait.
    pub paused: usize,
    /// Pages whose messages are refused.
    pub suspended: usize,
    /// How much of its budget the fullest page has spent, as Graph said last; 1 is all of it.
    pub usage: f64,
}

/// A Graph call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct GraphCall<'a> {
    /// HTTP method.
    pub method: &'static str,
    /// The path with names in place of ids.
    pub template: &'static str,
    /// Host of Graph.
    pub host: &'a Arc<str>,
    /// Its port.
    pub port: u16,
    /// HTTP status, or what kind of failure kept it away.
    pub result: Result<u16, &'static str>,
    /// From the first byte sent to the last one read.
    pub duration: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::of(SdkMeterProvider::default(), Registry::new(), false)
    }
}

impl Instruments {
    /// Counts nothing, so that each counter is there before the first time.
    fn begin(&self) {
        let Self { replays, retries, accept_errors, receipts_mismatched, ledger_setbacks, .. } = self;
        for counter in [replays, retries, accept_errors, receipts_mismatched, ledger_setbacks] {
            counter.add(0, &[]);
        }
        self.streams.add(0, &[]);
    }
}

impl Metrics {
    /// Metrics that can be read here if `with_text`, and are told to the collector at `otlp_endpoint` every minute, or
    /// as often as `OTEL_METRIC_EXPORT_INTERVAL` says.
    ///
    /// # Errors
    /// If the endpoint is no address.
    pub fn new(with_text: bool, otlp_endpoint: Option<&str>) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let mut provider = SdkMeterProvider::builder().with_resource(super::resource());
        if with_text {
            let exporter = opentelemetry_prometheus::exporter()
                .with_registry(registry.clone())
                .scope_info_enabled(false)
                .build()?;
            provider = provider.with_reader(exporter);
        }
        if let Some(endpoint) = otlp_endpoint {
            let exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build();
            provider = provider.with_periodic_exporter(exporter.context("--otlp-endpoint")?);
        }
        Ok(Self::of(provider.build(), registry, with_text || otlp_endpoint.is_some()))
    }

    fn of(provider: SdkMeterProvider, registry: Registry, is_told: bool) -> Self {
        let meter = provider.meter("messenger-connector");
        let seconds = |name, buckets: &[f64], what| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(what);
            histogram.with_boundaries(buckets.to_vec()).build()
        };
        let counter =
            |name, unit, what| meter.u64_counter(name).with_unit(unit).with_description(what).build();
        let instruments = Instruments {
            rpc_duration: seconds(
                "rpc.server.call.duration",
                &CALL_SECONDS,
                "Calls of this service, streams included",
            ),
            http_duration: seconds("http.client.request.duration", &CALL_SECONDS, "Calls to Graph"),
            messages: counter("messenger.messages", "{message}", "Messages by what became of them"),
            replays: counter(
                "messenger.replays",
                "{message}",
                "Messages answered with the receipt on record",
            ),
            retries: counter("messenger.retries", "{message}", "Messages put back to be tried again"),
            streams: meter
                .i64_up_down_counter("messenger.streams.active")
                .with_unit("{stream}")
                .with_description("Bulk streams that are open")
                .build(),
            accept_errors: counter(
                "messenger.accept_errors",
                "{error}",
                "Connections that could not be accepted",
            ),
            receipts_mismatched: counter(
                "messenger.receipts.mismatched",
                "{receipt}",
                "Receipts of Graph that name another recipient than the message has",
            ),
            ledger_duration: seconds(
                "messenger.ledger.write.duration",
                &WRITE_SECONDS,
                "Writes to the ledger",
            ),
            ledger_rows: meter
                .u64_histogram("messenger.ledger.write.rows")
                .with_unit("{row}")
                .with_description("Claims and outcomes of one write")
                .with_boundaries(WRITE_ROWS.to_vec())
                .build(),
            ledger_setbacks: counter(
                "messenger.ledger.setbacks",
                "{setback}",
                "Times that the ledger's database was found to have lost what it had confirmed",
            ),
            provider,
            meter,
            registry,
            is_told,
        };
        instruments.begin();
        Self(Arc::new(instruments))
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// If the format cannot hold them: a bug.
    pub fn text(&self) -> anyhow::Result<String> {
        Ok(TextEncoder::new().encode_to_string(&self.0.registry.gather())?)
    }

    /// Tells the collector what it was not told yet, and no more after that. Takes a few seconds if it does not answer.
    pub async fn end(&self) {
        let provider = self.0.provider.clone();
        super::end_in_time(move || provider.shutdown()).await;
    }

    /// From now on `load` is asked how the pages fare whenever someone wants to know.
    pub fn watch_load(&self, load: impl Fn() -> Load + Clone + Send + Sync + 'static) {
        if !self.0.is_told {
            return;
        }
        let meter = &self.0.meter;
        let gauge = |name, unit, what, of: fn(Load) -> usize| {
            let load = load.clone();
            let observe = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
                observer.observe(of(load()) as u64, &[]);
            };
            meter
                .u64_observable_gauge(name)
                .with_unit(unit)
                .with_description(what)
                .with_callback(observe)
                .build();
        };
        gauge("messenger.queued", "{message}", "Messages that wait to be sent", |load| load.queued);
        gauge("messenger.in_flight", "{message}", "Messages that are being sent", |load| load.in_flight);
        let of_usage = load.clone();
        meter
            .f64_observable_gauge("messenger.graph.usage")
            .with_unit("1")
            .with_description("Part of its Graph budget that the fullest page has spent")
            .with_callback(move |observer| observer.observe(of_usage().usage, &[]))
            .build();
        meter
            .u64_observable_gauge("messenger.pages")
            .with_unit("{page}")
            .with_description("Pages by state")
            .with_callback(move |observer| {
                let Load { active, paused, suspended, .. } = load();
                for (state, count) in [("ACTIVE", active), ("PAUSED", paused), ("SUSPENDED", suspended)] {
                    observer.observe(count as u64, &[KeyValue::new("state", state)]);
                }
            })
            .build();
    }

    /// Whether anybody may read them.
    pub fn are_told(&self) -> bool {
        self.0.is_told
    }

    /// A call has ended, with a code that is an error of this side or is not.
    pub fn rpc_ended(&self, method: &Arc<str>, code: &'static str, is_error: bool, duration: Duration) {
        if !self.0.is_told {
            return;
        }
        let labels = [
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method.clone()),
            KeyValue::new(RPC_STATUS, code),
            KeyValue::new("error.type", code),
        ];
        let labels = if is_error { &labels[..] } else { &labels[..3] };
        self.0.rpc_duration.record(duration.as_secs_f64(), labels);
    }

    /// So many receipts of Graph named another recipient than their messages.
    pub fn receipts_mismatched(&self, count: usize) {
        self.0.receipts_mismatched.add(count as u64, &[]);
    }

    /// A Graph call has ended.
    pub fn graph_call_ended(&self, call: &GraphCall<'_>) {
        if !self.0.is_told {
            return;
        }
        let status = |status: u16| KeyValue::new("http.response.status_code", i64::from(status));
        let [method, template, host, port] = [
            KeyValue::new("http.request.method", call.method),
            KeyValue::new("url.template", call.template),
            KeyValue::new("server.address", call.host.clone()),
            KeyValue::new("server.port", i64::from(call.port)),
        ];
        let seconds = call.duration.as_secs_f64();
        let record = |labels: &[KeyValue]| self.0.http_duration.record(seconds, labels);
        match call.result {
            Ok(code @ 400..) => {
                let error = KeyValue::new("error.type", code.to_string());
                record(&[method, template, host, port, status(code), error]);
            }
            Ok(code) => record(&[method, template, host, port, status(code)]),
            Err(kind) => record(&[method, template, host, port, KeyValue::new("error.type", kind)]),
        }
    }

    /// These messages have their outcome.
    pub fn messages_ended(&self, tally: &Tally) {
        if !self.0.is_told {
            return;
        }
        for ((state, reason), count) in &tally.counts {
            let state = KeyValue::new("state", *state);
            match reason {
                None => self.0.messages.add(*count, &[state]),
                Some(reason) => self.0.messages.add(*count, &[state, KeyValue::new("reason", *reason)]),
            }
        }
        if tally.replays > 0 {
            self.0.replays.add(tally.replays, &[]);
        }
    }

    /// So many messages are to be tried again.
    pub fn retrying(&self, messages: usize) {
        if messages > 0 {
            self.0.retries.add(messages as u64, &[]);
        }
    }

    /// A bulk stream is open until the answer is dropped.
    pub fn stream_opened(&self) -> OpenStream {
        self.0.streams.add(1, &[]);
        OpenStream(self.clone())
    }

    /// A connection could not be accepted.
    pub fn accept_failed(&self) {
        self.0.accept_errors.add(1, &[]);
    }

    /// The ledger's database has gone back behind what it had confirmed.
    pub fn ledger_went_back(&self) {
        self.0.ledger_setbacks.add(1, &[]);
    }

    /// A group of rows was written to the ledger, or could not be.
    pub fn ledger_written(&self, rows: usize, is_written: bool, duration: Duration) {
        if !self.0.is_told {
            return;
        }
        self.0.ledger_rows.record(rows as u64, &[]);
        let failed = [KeyValue::new("error.type", "_OTHER")];
        self.0.ledger_duration.record(duration.as_secs_f64(), if is_written { &[] } else { &failed });
    }
}

/// A bulk stream, counted as long as this lives.
#[derive(Debug)]
pub struct OpenStream(Metrics);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.0.streams.add(-1, &[]);
    }
}

impl Tally {
    /// Adds messages that ended so.
    pub fn add(&mut self, state: &'static str, reason: Option<&'static str>, count: u64) {
        match self.counts.iter_mut().find(|(other, _)| *other == (state, reason)) {
            Some((_, sum)) => *sum += count,
            None => self.counts.push(((state, reason), count)),
        }
    }

    /// So many of them were answered with the receipt on record.
    pub fn add_replays(&mut self, count: u64) {
        self.replays += count;
    }
}
