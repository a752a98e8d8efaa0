//! `healthcheck`: asks a service for its health, for containers without a shell.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;

use super::connection::ConnectOptions;
use super::{failure, print};
use crate::api::health::READINESS;

/// What `healthcheck --help` ends with.
pub const EXAMPLES: &str = "\
Services: readiness (takes calls), liveness (the process answers), or the name of a gRPC service.
The exit code is 0 if it is serving, 1 if not.";

/// Options of `healthcheck`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What is asked for
    #[arg(long, env = "CONNECTOR_SERVICE", default_value = READINESS, value_name = "NAME")]
    pub service: String,
    /// How long to wait for the answer
    #[arg(long, env = "CONNECTOR_TIMEOUT_MS", default_value_t = 2000, value_name = "MS")]
    pub timeout_ms: u64,
    #[command(flatten)]
    connect: ConnectOptions,
}

/// Asks, and prints the answer.
///
/// # Errors
/// If there is no answer in time.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let client = options.connect.client()?.with_timeout(Duration::from_millis(options.timeout_ms));
    let is_serving = client.check_health(&options.service).await.map_err(|error| {
        anyhow!("{} at {}: {}", options.service, options.connect.address, failure::first_line(&error))
    })?;
    print(if is_serving { "SERVING\n" } else { "NOT_SERVING\n" })?;
    Ok(if is_serving { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
