//! `serve` and `sandbox`: run until a signal ends them.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::shutdown;
use crate::config::ServeOptions;
use crate::sandbox::{self, Sandbox};
use crate::server::Server;
use crate::telemetry::traces::Traces;

/// What `serve --help` ends with.
pub const SERVE_EXAMPLES: &str = "\
Examples:
  One page, its token from the environment:
    PAGE_ACCESS_TOKEN=... messenger-connector serve

  Without a Meta account, against `messenger-connector sandbox`:
    PAGE_ACCESS_TOKEN=any messenger-connector serve --graph-url http://127.0.0.1:8080

  Many pages:
    messenger-connector serve --pages pages.toml

    [[page]]
    id = \"106540452240\"
    title = \"Our shop\"
    access_token_file = \"/run/secrets/shop-token\"

  For other machines, with TLS and a key for each caller (`messenger-connector key` makes one):
    messenger-connector serve --listen 0.0.0.0:50051 --tls-cert cert.pem --tls-key key.pem --callers callers.toml

    [[caller]]
    name = \"shop-backend\"
    key_sha256 = \"...\"
    pages = [\"106540452240\"]

SIGTERM or Ctrl-C drains: what was started is finished. A second signal ends the process at once. SIGHUP, SIGUSR1 and
SIGUSR2 are ignored: files that change are read by themselves.";

/// Runs the service until a signal ends it, and hands over the last spans then.
///
/// # Errors
/// If the configuration is wrong, the address is taken, or the transport fails.
pub async fn serve(options: ServeOptions, traces: Traces) -> anyhow::Result<ExitCode> {
    // Every connection takes one. Fails where the hard limit cannot be read; the soft one holds then.
    if let Ok(files) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::debug!(files, "limit of open files");
    }
    let shutdown = shutdown::on_signal()?;
    ignore_others()?;
    Server::bind(options).await?.serve(shutdown.cancelled_owned()).await?;
    traces.end().await;
    Ok(ExitCode::SUCCESS)
}

/// Signals that would end the process at once mean nothing here, and that is said. A terminal that closes and a habit of
/// reloading with SIGHUP end no service.
fn ignore_others() -> anyhow::Result<()> {
    let others = [
        (
            "SIGHUP",
            SignalKind::hangup(),
            "files of pages, callers and certificates are read again by themselves",
        ),
        ("SIGUSR1", SignalKind::user_defined1(), "it means nothing here"),
        ("SIGUSR2", SignalKind::user_defined2(), "it means nothing here"),
    ];
    for (name, kind, why) in others {
        let mut signals = signal(kind).context("cannot catch signals")?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::info!("{name} is ignored: {why}; SIGTERM ends the service");
            }
        });
    }
    Ok(())
}

/// Runs the sandbox until a signal ends it.
///
/// # Errors
/// If the address is taken.
pub async fn sandbox(options: sandbox::Options) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown::on_signal()?;
    let listen = options.listen;
    let sandbox = Sandbox::bind(options).await.with_context(|| format!("cannot listen on {listen}"))?;
    tracing::info!("sandbox listens: point a service at it with serve --graph-url {}", sandbox.url());
    sandbox.serve(shutdown.cancelled_owned()).await?;
    Ok(ExitCode::SUCCESS)
}
