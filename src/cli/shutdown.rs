//! The signals that end a command.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second signal ends the process at once, with the
/// exit code that shells give it (130 for Ctrl-C).
///
/// # Errors
/// If the operating system does not let signals be caught.
pub(super) fn on_signal() -> anyhow::Result<CancellationToken> {
    let catch = |kind| signal(kind).context("cannot catch signals");
    let (mut interrupt, mut terminate) = (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?);
    let token = CancellationToken::new();
    let first = token.clone();
    tokio::spawn(async move {
        loop {
            let kind = tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
            };
            if first.is_cancelled() {
                std::process::exit(128 + kind.as_raw_value());
            }
            first.cancel();
        }
    });
    Ok(token)
}
