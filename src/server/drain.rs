//! The end of a service, in order, and within bounds.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::listener::Listening;
use crate::api::context::Drain;
use crate::api::health::Health;
use crate::config::LifecycleOptions;
use crate::dispatch::Dispatcher;
use crate::ledger::Ledger;
use crate::limits::DRAIN_ANSWER_TIME;
use crate::telemetry::metrics::Metrics;

/// A service that runs.
pub(super) struct Running {
    pub(super) main: Listening,
    pub(super) probes: Option<Listening>,
    /// The admin port, if there is one.
    pub(super) admin: JoinSet<()>,
    pub(super) health: Health,
    /// What calls hear of its end.
    pub(super) drain: Drain,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) ledger: Ledger,
    pub(super) metrics: Metrics,
}

impl Running {
    /// Ends the service. Takes as long as its options say at most, and a few seconds for a ledger or a
    /// collector that is away.
    pub(super) async fn drain(mut self, options: &LifecycleOptions) {
        tracing::info!(delay_ms = options.drain_delay_ms, timeout_ms = options.drain_timeout_ms, "draining");
        self.health.set_ready(false);
        // Until balancers and clients have heard of it, calls still come here, and are still served.
        sleep(options.drain_delay()).await;
        self.drain.began.cancel();
        self.health.close();
        let by = Instant::now() + options.drain_timeout();
        // What is still being sent then is told as unknown, before its connection is cut.
        self.main.close(by, DRAIN_ANSWER_TIME, || self.drain.is_over.cancel()).await;
        // A message may outlive the stream and the connection that it came by.
        if timeout_at(by, self.dispatcher.finish()).await.is_err() {
            tracing::warn!("messages are still being sent: those with an id will be unknown");
        }
        self.ledger.close().await;
        if let Some(probes) = self.probes {
            // Probes ask until the end, and are not waited for.
            probes.close(Instant::now(), Duration::ZERO, || {}).await;
        }
        self.admin.shutdown().await;
        self.metrics.end().await;
        tracing::info!("stopped");
    }
}
