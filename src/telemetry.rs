//! Logs: to people or as JSON. No log holds a token, a recipient id or a message text.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
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

/// Starts logging to standard error.
///
/// # Errors
/// If the filter cannot be read, or logging was started before.
pub fn start(options: &LogOptions) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.log)?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match options.log_format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}
