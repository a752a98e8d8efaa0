//! `healthcheck`: asks a service for its health, for containers without a shell.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

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
    let timeout = Duration::from_millis(options.timeout_ms);
    let status = tokio::time::timeout(timeout, ask(&options)).await.with_context(|| {
        format!("no answer from {} in {} ms", options.connect.address, options.timeout_ms)
    })??;
    print(&format!("{}\n", status.as_str_name()))?;
    Ok(if status == ServingStatus::Serving { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(options: &Options) -> anyhow::Result<ServingStatus> {
    let mut client = HealthClient::new(options.connect.channel().await?);
    let answer = client
        .check(HealthCheckRequest { service: options.service.clone() })
        .await
        .map_err(|status| anyhow!("health of {}: {}", options.service, failure::describe(&status)))?;
    Ok(answer.into_inner().status())
}
