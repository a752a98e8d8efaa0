//! What the service tells of itself: logs here, [`metrics`], and [`traces`].
//!
//! Of all of it holds: no token, no key, no recipient id and no message text, and no text of Graph's, which may quote
//! them.

pub mod metrics;
pub mod traces;

use std::io::IsTerminal;

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use tracing::Level;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::limits::COLLECTOR_TIMEOUT;
use traces::Traces;

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

/// Where logs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogsTo {
    /// Standard output: of a command that has nothing else to say.
    Output,
    /// Standard error: of a command that has an output of its own.
    Error,
}

/// Options of logging.
#[derive(Clone, Debug, clap::Args)]
pub struct LogOptions {
    /// How logs look
    #[arg(long, global = true, env = "CONNECTOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: a level, or levels by module such as "info,messenger_connector::dispatch=debug"
    #[arg(long, global = true, env = "CONNECTOR_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// Starts logging, and hands spans to `traces`. Once per process.
///
/// # Errors
/// If the filter cannot be read, or logging was started before.
pub fn start(options: &LogOptions, to: LogsTo, traces: &Traces) -> anyhow::Result<()> {
    let (writer, is_terminal) = match to {
        LogsTo::Output => (BoxMakeWriter::new(std::io::stdout), std::io::stdout().is_terminal()),
        LogsTo::Error => (BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal()),
    };
    let lines = fmt::layer().with_writer(writer).with_ansi(is_terminal);
    let lines = match options.log_format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // What OpenTelemetry says of its own comings and goings is shown to those who ask for it by name.
    let filter = EnvFilter::try_new(format!("opentelemetry=warn,{}", options.log))?;
    // Spans are for traces. If nobody takes them, they are not even made.
    let is_line = filter.and(filter_fn(|metadata| !metadata.is_span()).with_max_level_hint(Level::TRACE));
    tracing_subscriber::registry()
        .with(lines.with_filter(is_line))
        .with(traces.layer())
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Hands the collector what is left by `end`, which blocks its thread for as long as the collector wants.
async fn end_in_time(end: impl FnOnce() -> OTelSdkResult + Send + 'static) {
    let (reply, ended) = tokio::sync::oneshot::channel();
    // Not one of the runtime's: it would wait for it in the end.
    std::thread::spawn(move || drop(reply.send(end())));
    match tokio::time::timeout(COLLECTOR_TIMEOUT, ended).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the collector did not take what was left"),
        Ok(Err(_)) | Err(_) => tracing::warn!("the collector did not take what was left in time"),
    }
}

/// Who tells all this. The standard variables `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` may say it better.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let instance = KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string());
    let told = Resource::builder().build();
    let name =
        told.get(&Key::new("service.name")).filter(|name| !name.as_str().starts_with("unknown_service"));
    Resource::builder_empty()
        .with_attributes([version, instance])
        .with_attributes(told.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
        .with_service_name(name.unwrap_or_else(|| "messenger-connector".into()))
        .build()
}
