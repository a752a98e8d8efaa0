//! The command `messenger-connector`.

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use messenger_connector::cli::{bulk, check, demo, healthcheck, key, ledger, send, serve};
use messenger_connector::config::ServeOptions;
use messenger_connector::sandbox;
use messenger_connector::telemetry::traces::Traces;
use messenger_connector::telemetry::{self, LogOptions, LogsTo};

/// A message is many short-lived allocations, made in one thread and freed in another, which this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends Facebook Messenger messages and accounts for every one of them.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    propagate_version = true,
    max_term_width = 110,
    after_help = "Start with `messenger-connector demo`: it needs no Meta account."
)]
struct Cli {
    #[command(flatten, next_help_heading = "Logging")]
    log: LogOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // there is one of it
enum Command {
    /// Run the service
    #[command(after_help = serve::SERVE_EXAMPLES)]
    Serve(ServeOptions),
    /// Run a fake Graph, to try the service without a Meta account
    #[command(after_long_help = sandbox::MAGIC_RECIPIENTS)]
    Sandbox(sandbox::Options),
    /// Show it all at once: sandbox, service, and a bulk of a sample audience
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::Options),
    /// Send one message
    #[command(after_help = send::EXAMPLES)]
    Send(send::Options),
    /// Send a message to an audience: a CSV or NDJSON file
    #[command(after_help = bulk::EXAMPLES)]
    Bulk(bulk::Options),
    /// Check the configuration of `serve`, and each page's token with Graph
    #[command(after_help = check::EXAMPLES)]
    Check(ServeOptions),
    /// Make a key for a caller of the service
    #[command(after_help = key::EXAMPLES)]
    Key(key::Options),
    /// Copy a ledger, such as from a file to a database
    #[command(after_help = ledger::EXAMPLES)]
    Ledger(ledger::Options),
    /// Ask a service for its health
    #[command(after_help = healthcheck::EXAMPLES)]
    Healthcheck(healthcheck::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Before anything that speaks TLS: with one named, no dependency can make the choice ambiguous. Fails only if there
    // is one already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let matches = Cli::command().get_matches();
    let has_log_filter =
        matches.value_source("log").is_some_and(|source| source != ValueSource::DefaultValue);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(cli, has_log_filter).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli, has_log_filter: bool) -> anyhow::Result<ExitCode> {
    let Cli { mut log, command } = cli;
    let (to, traces) = match &command {
        Command::Serve(options) => (LogsTo::Output, Traces::to(options.telemetry.collector())?),
        Command::Sandbox(_) => (LogsTo::Output, Traces::default()),
        Command::Demo(_)
        | Command::Send(_)
        | Command::Bulk(_)
        | Command::Check(_)
        | Command::Key(_)
        | Command::Ledger(_)
        | Command::Healthcheck(_) => (LogsTo::Error, Traces::default()),
    };
    if !has_log_filter && to == LogsTo::Error {
        // These commands have an output of their own.
        log.log = "warn".to_owned();
    }
    telemetry::start(&log, to, &traces)?;
    match command {
        Command::Serve(options) => serve::serve(options, traces).await,
        Command::Sandbox(options) => serve::sandbox(options).await,
        Command::Demo(options) => demo::run(options).await,
        Command::Send(options) => send::run(options).await,
        Command::Bulk(options) => bulk::run(options).await,
        Command::Check(options) => check::run(options).await,
        Command::Key(options) => key::run(&options),
        Command::Ledger(options) => ledger::run(options).await,
        Command::Healthcheck(options) => healthcheck::run(options).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_agree_with_each_other() {
        Cli::command().debug_assert();
    }
}
